package generator

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a connection is doing.
type state uint8

const (
	closed state = iota
	connecting
	free
	sending
	waiting
)

// conn is a slot for a connection, with the request that is under way on it.
type conn struct {
	fd         int
	slot       int32
	generation int32 // of the slot's connections; an event of an earlier one is dropped
	state      state
	written    int
	started    int64 // when the request was given to the connection
	retryAt    int64
	request    Request
	response   Response
	reader     reader
}

// sockaddr is the target's address, ready for connect.
type sockaddr struct {
	family int
	to     unix.Sockaddr
}

func newSockaddr(a *net.TCPAddr) sockaddr {
	if v4 := a.IP.To4(); v4 != nil || len(a.IP) == 0 {
		to := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}}
		copy(to.Addr[:], v4)
		return sockaddr{unix.AF_INET, to}
	}
	to := &unix.SockaddrInet6{Port: a.Port}
	copy(to.Addr[:], a.IP.To16())
	return sockaddr{unix.AF_INET6, to}
}

// connect begins to open a connection in an empty slot.
func (l *loop) connect(c *conn) error {
	fd, err := unix.Socket(l.socket.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return err
	}
	if err := unix.Connect(fd, l.socket.to); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return err
	}
	c.fd, c.state = fd, connecting
	return nil
}

// established waits until the connection is open.
func (c *conn) established(timeout time.Duration) error {
	poll := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	deadline := time.Now().Add(timeout)
	for {
		n, err := unix.Poll(poll, int(max(time.Until(deadline).Milliseconds(), 0)))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("no answer in %v", timeout)
		}
		errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		return err
	}
}

// abort closes the socket. With reset, it leaves no TIME_WAIT behind, of which a run with a connection per request
// would use up all ports.
func (c *conn) abort(reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(c.fd)
	c.fd = -1
}

// ring is a queue of connections. The oldest is taken first, so that all of them are used.
type ring struct {
	items []*conn
	head  int
	n     int
}

func (r *ring) push(c *conn) {
	if r.n == len(r.items) {
		grown := make([]*conn, max(16, 2*len(r.items)))
		for i := range r.n {
			grown[i] = r.items[(r.head+i)&(len(r.items)-1)]
		}
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.n)&(len(r.items)-1)] = c
	r.n++
}

func (r *ring) peek() *conn {
	if r.n == 0 {
		return nil
	}
	return r.items[r.head]
}

func (r *ring) pop() *conn {
	if r.n == 0 {
		return nil
	}
	c := r.items[r.head]
	r.items[r.head] = nil
	r.head = (r.head + 1) & (len(r.items) - 1)
	r.n--
	return c
}

// remove takes a connection out of the middle. It is rare: a server closed a connection that had nothing to do.
func (r *ring) remove(c *conn) {
	for i := range r.n {
		if r.items[(r.head+i)&(len(r.items)-1)] != c {
			continue
		}
		for ; i < r.n-1; i++ {
			r.items[(r.head+i)&(len(r.items)-1)] = r.items[(r.head+i+1)&(len(r.items)-1)]
		}
		r.n--
		r.items[(r.head+r.n)&(len(r.items)-1)] = nil
		return
	}
}
