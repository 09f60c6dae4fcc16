package generator

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep sleeps to the microsecond; the runtime's own timers are a millisecond coarse.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}

func resetOnClose(fd uintptr) error {
	return unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
