package generator

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch     = 64                     // events taken at once; a due send waits behind at most as many answers
	sweep     = 100 * time.Millisecond // how often timeouts are looked for
	backoff   = 10 * time.Millisecond  // closed loop: before a refused connection is tried again
	readBytes = 64 << 10
)

// loop is the event loop of one worker. Everything in it belongs to the goroutine that runs it.
type loop struct {
	config *Config
	record *record
	source Source
	epoll  int
	socket sockaddr
	start  time.Time

	conns []*conn
	idle  ring // connections without a request
	gone  ring // slots without a connection
	limit int  // connections that may be open
	busy  int  // requests under way

	due       int64 // the next scheduled send
	more      bool  // due is valid
	next      Schedule
	blockedAt int64 // when a due send last found no connection
	now       int64
	ending    bool // nothing new is sent
	buffer    []byte
	events    [batch]unix.EpollEvent
}

func newLoop(c *Config, i int, address *net.TCPAddr, collect *collector) (worker, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an event loop: %w", err)
	}
	l := &loop{
		config: c, record: newRecord(c, collect), source: c.Source(i), epoll: epoll, socket: newSockaddr(address),
		limit: share(c.MaxConnections, i, c.Workers), buffer: make([]byte, readBytes), blockedAt: -1,
	}
	if c.Schedule != nil {
		l.next = c.Schedule(i)
	}
	opened := share(c.Connections, i, c.Workers)
	if c.NewConnection {
		opened = 0
	}
	if c.Schedule == nil {
		l.limit = share(c.Connections, i, c.Workers)
	}
	if err := l.connectAll(opened); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// slot returns a new connection slot.
func (l *loop) slot() *conn {
	c := &conn{fd: -1, slot: int32(len(l.conns))}
	l.conns = append(l.conns, c)
	return c
}

// connectAll opens the connections of the start, a few at a time.
func (l *loop) connectAll(n int) error {
	for len(l.conns) < n {
		first := len(l.conns)
		for range min(100, n-first) {
			c := l.slot()
			if err := l.connect(c); err != nil {
				return fmt.Errorf("cannot connect to %s (connection %d of %d): %w", l.config.Target, len(l.conns), n, err)
			}
		}
		for _, c := range l.conns[first:] {
			if err := c.established(l.config.Timeout); err != nil {
				return fmt.Errorf("cannot connect to %s (connection %d of %d): %w", l.config.Target, c.slot+1, n, err)
			}
			l.record.Connects++
			if err := l.watch(c, unix.EPOLLIN); err != nil {
				return err
			}
			c.state = free
			l.idle.push(c)
		}
	}
	return nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		if c.fd >= 0 {
			unix.Close(c.fd)
		}
	}
	unix.Close(l.epoll)
}

func (l *loop) clock() int64 {
	l.now = int64(time.Since(l.start))
	return l.now
}

// run sends until the schedule or the duration ends and then waits for what is under way.
func (l *loop) run(ctx context.Context, start time.Time) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A sleeping thread is woken when it asked to be, not up to 50 us later.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	l.start = start
	if l.next != nil {
		l.advance()
	}
	end := int64(l.config.Duration)
	stop := end + int64(l.config.Timeout)
	nextSweep := int64(0)
	for l.clock() < stop {
		l.record.turn(l.now)
		if l.now >= nextSweep {
			nextSweep = l.now + int64(sweep)
			if l.sweep(); !l.ending && ctx.Err() != nil {
				l.ending = true
				stop = min(stop, l.now+int64(2*time.Second))
			}
		}
		l.source.Now(time.Duration(l.now))
		if l.next == nil && l.now >= end {
			l.ending = true
		}
		l.dispatch()
		if l.busy == 0 && (l.ending || l.next != nil && !l.more && l.now >= end) {
			break
		}
		if err := l.wait(nextSweep); err != nil {
			return err
		}
	}
	l.finish()
	return nil
}

// finish records what never ended.
func (l *loop) finish() {
	for _, c := range l.conns {
		if c.state == connecting || c.state == sending || c.state == waiting {
			l.fail(c, TimedOut)
		}
	}
	if !l.ending { // what was due and found no connection
		unsent := Request{}
		for ; l.more; l.advance() {
			unsent.scheduled = l.due
			l.record.done(&unsent, &Response{Outcome: Unsent}, l.now)
		}
	}
	l.record.last(l.now)
}

func (l *loop) advance() {
	at, ok := l.next()
	l.due, l.more = int64(at), ok
}

// dispatch sends everything that is due and for which there is a connection.
func (l *loop) dispatch() {
	if l.ending {
		return
	}
	if l.next == nil {
		for c := l.take(); c != nil; c = l.take() {
			l.begin(c)
		}
		return
	}
	for l.more && l.due <= l.now {
		c := l.take()
		if c == nil {
			l.blockedAt = l.now
			return
		}
		c.request.class, c.request.scheduled = Click, l.due
		l.advance()
		l.source.Next(&c.request)
		l.send(c)
		l.clock()
	}
	for at, ok := l.source.LaterAt(); ok && int64(at) <= l.now; at, ok = l.source.LaterAt() {
		c := l.take()
		if c == nil {
			return
		}
		c.request.class, c.request.scheduled = Later, int64(at)
		l.source.NextLater(&c.request)
		l.send(c)
	}
}

// begin gives a free connection of a closed loop its next request.
func (l *loop) begin(c *conn) {
	if at, ok := l.source.LaterAt(); ok && int64(at) <= l.now {
		c.request.class, c.request.scheduled = Later, int64(at)
		l.source.NextLater(&c.request)
	} else {
		c.request.class = Click
		l.source.Next(&c.request)
	}
	l.send(c)
}

// take returns a connection or slot that has no request, nil if there is none.
func (l *loop) take() *conn {
	if c := l.idle.pop(); c != nil {
		return c
	}
	if c := l.gone.peek(); c != nil && (l.next != nil || c.retryAt <= l.now) {
		return l.gone.pop()
	}
	if len(l.conns) < l.limit {
		return l.slot()
	}
	return nil
}

// send writes the request, after it has opened a connection where there is none.
func (l *loop) send(c *conn) {
	l.busy++
	c.written, c.started = 0, l.now
	c.reader.reset()
	// The send of a request that needs a connection is the connect: what follows is the server's.
	l.record.sent(&c.request, l.now, c.request.scheduled <= l.blockedAt)
	if c.fd >= 0 {
		l.write(c)
		return
	}
	err := l.connect(c)
	if err == nil {
		err = l.watch(c, unix.EPOLLOUT)
	}
	if err != nil {
		l.fail(c, Refused)
		return
	}
	c.state = connecting
}

func (l *loop) write(c *conn) {
	b := c.request.Bytes[c.written:]
	n, errno := send(c.fd, b)
	switch {
	case errno == unix.EAGAIN:
		n = 0
	case errno != 0:
		l.fail(c, Closed)
		return
	}
	c.written += n
	if c.written == len(c.request.Bytes) {
		if c.state == sending || c.state == connecting {
			l.rewatch(c, unix.EPOLLIN)
		}
		c.state = waiting
		return
	}
	if c.state != sending && c.state != connecting {
		l.rewatch(c, unix.EPOLLIN|unix.EPOLLOUT)
	}
	c.state = sending
}

// wait sleeps until something arrives or is due, and handles what arrived.
func (l *loop) wait(until int64) error {
	if l.more && l.due > l.now { // a due send that is blocked waits for an answer, not for the clock
		until = min(until, l.due)
	}
	if at, ok := l.source.LaterAt(); ok && int64(at) > l.now {
		until = min(until, int64(at))
	}
	until = min(until, max(l.record.until, l.now))
	n, err := wait(l.epoll, l.events[:], until-l.now)
	if err != nil {
		return fmt.Errorf("cannot wait for answers: %w", err)
	}
	for _, e := range l.events[:n] {
		if c := l.conns[e.Fd]; c.fd >= 0 && c.generation == e.Pad {
			l.event(c, e.Events)
		}
	}
	return nil
}

func (l *loop) event(c *conn, events uint32) {
	switch c.state {
	case connecting:
		if errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
			l.clock()
			l.fail(c, Refused)
			return
		}
		l.record.Connects++
		l.write(c)
	case sending:
		if events&unix.EPOLLOUT != 0 {
			l.write(c)
		}
		if c.state == sending && events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			l.read(c)
		}
	default:
		l.read(c)
	}
}

func (l *loop) read(c *conn) {
	n, errno := recv(c.fd, l.buffer)
	if errno == unix.EAGAIN {
		return
	}
	l.clock()
	if c.state == free { // the server closed it, or speaks without being asked
		l.drop(c)
		return
	}
	if n == 0 || errno != 0 {
		if errno == 0 && c.reader.end() {
			l.answer(c)
			return
		}
		l.fail(c, Closed)
		return
	}
	l.record.BytesIn += int64(n)
	whole, err := c.reader.feed(l.buffer[:n], &c.request, &c.response)
	switch {
	case err != nil:
		l.fail(c, Malformed)
	case whole:
		l.answer(c)
	}
}

// answer ends a request that was answered.
func (l *loop) answer(c *conn) {
	l.busy--
	early := c.state == sending // an answer before the request was whole: the connection cannot be used again
	l.record.done(&c.request, &c.response, l.now)
	l.record.turn(l.now)
	l.source.Now(time.Duration(l.now))
	l.source.Done(&c.request, &c.response)
	if c.response.close || early || l.config.NewConnection {
		l.drop(c)
		return
	}
	c.state = free
	if l.next == nil && !l.ending && l.now < int64(l.config.Duration) {
		l.begin(c)
		return
	}
	l.idle.push(c)
}

// fail ends a request that was not answered.
func (l *loop) fail(c *conn, outcome Outcome) {
	l.busy--
	c.response = Response{Outcome: outcome}
	l.record.done(&c.request, &c.response, l.now)
	l.source.Done(&c.request, &c.response)
	c.retryAt = l.now + int64(backoff)
	l.drop(c)
}

// drop closes a connection; its slot is free for another one.
func (l *loop) drop(c *conn) {
	if c.state == free {
		l.idle.remove(c)
	}
	if c.fd >= 0 {
		c.abort(l.config.NewConnection)
	}
	c.state = closed
	c.generation++
	l.gone.push(c)
}

// sweep fails requests that are older than the timeout.
func (l *loop) sweep() {
	oldest := l.now - int64(l.config.Timeout)
	for _, c := range l.conns {
		if (c.state == connecting || c.state == sending || c.state == waiting) && c.started < oldest {
			l.fail(c, TimedOut)
		}
	}
}

func (l *loop) watch(c *conn, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: c.slot, Pad: c.generation}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &e))
}

func (l *loop) rewatch(c *conn, events uint32) {
	e := unix.EpollEvent{Events: events, Fd: c.slot, Pad: c.generation}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &e); err != nil {
		panic("BUG: an open connection is unknown to its event loop: " + err.Error())
	}
}

// send and recv never block, so that the Go scheduler need not know about them.
func send(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func recv(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// wait waits for events for at most the given nanoseconds, which epoll_wait's milliseconds are too coarse for.
func wait(epoll int, events []unix.EpollEvent, ns int64) (int, error) {
	timeout := unix.NsecToTimespec(max(ns, 0))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	case unix.ENOSYS: // Linux before 5.11
		got, err := unix.EpollWait(epoll, events, int((max(ns, 0)+999_999)/1_000_000))
		if err == unix.EINTR {
			return 0, nil
		}
		return got, err
	}
	return 0, errno
}
