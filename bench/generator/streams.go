package generator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// streams is the engine with a goroutine per connection. One more goroutine keeps the schedule of an open loop.
type streams struct {
	config  *Config
	address *net.TCPAddr
	tls     *tls.Config
	limit   int
	opened  int
	conns   int // open loop: goroutines; only the one that keeps the schedule counts them
	idle    chan *stream
	next    Schedule
	start   time.Time
	running sync.WaitGroup
	spare   sync.Pool

	mu     sync.Mutex
	source Source  // guarded by mu
	record *record // guarded by mu
	ending bool    // guarded by mu
}

// stream is one connection. A goroutine has it while a request is under way, otherwise it lies in streams.idle.
type stream struct {
	conn     net.Conn
	request  Request
	response Response
	reader   reader
	work     chan struct{}
}

func newStreams(c *Config, i int, address *net.TCPAddr, collect *collector) *streams {
	s := &streams{
		config: c, address: address, limit: share(c.MaxConnections, i, c.Workers), opened: share(c.Connections, i, c.Workers),
		source: c.Source(i), record: newRecord(c, collect),
	}
	if c.Schedule != nil {
		s.next = c.Schedule(i)
	}
	if c.TLS != nil {
		s.tls = c.TLS.Clone()
		if host, _, err := net.SplitHostPort(c.Target); err == nil && s.tls.ServerName == "" {
			s.tls.ServerName = host
		}
		if c.NewConnection { // a new visitor has no session to resume
			s.tls.SessionTicketsDisabled = true
		}
	}
	s.idle = make(chan *stream, s.limit)
	return s
}

func (s *streams) close() {
	for {
		select {
		case c := <-s.idle:
			c.hangUp()
		default:
			return
		}
	}
}

func (c *stream) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (s *streams) clock() int64 { return int64(time.Since(s.start)) }

func (s *streams) run(ctx context.Context, start time.Time) error {
	s.start = start
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	turning := make(chan struct{})
	turned := make(chan struct{})
	go s.turn(turning, turned)
	if s.next == nil {
		for range s.opened {
			s.running.Go(func() { s.closedLoop(ctx) })
		}
	} else {
		s.openLoop(ctx)
	}
	s.running.Wait()
	close(turning)
	<-turned
	s.record.last(s.clock())
	return nil
}

func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
}

// turn hands intervals over in time, also when nothing is answered.
func (s *streams) turn(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(s.config.Interval / 4)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			s.mu.Lock()
			s.record.turn(s.clock())
			s.mu.Unlock()
		}
	}
}

func (s *streams) closedLoop(ctx context.Context) {
	c := &stream{}
	defer c.hangUp()
	for {
		now := s.clock()
		s.mu.Lock()
		if s.ending || now >= int64(s.config.Duration) {
			s.mu.Unlock()
			return
		}
		s.source.Now(time.Duration(now))
		if at, ok := s.source.LaterAt(); ok && int64(at) <= now {
			c.request.class, c.request.scheduled = Later, int64(at)
			s.source.NextLater(&c.request)
		} else {
			c.request.class = Click
			s.source.Next(&c.request)
		}
		s.record.sent(&c.request, now, false)
		s.mu.Unlock()
		if s.do(ctx, c) == Refused {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// openLoop keeps the schedule.
func (s *streams) openLoop(ctx context.Context) {
	due, more := s.next()
	blocked := int64(-1)
	deadline := int64(s.config.Duration + s.config.Timeout)
	for {
		now := s.clock()
		s.mu.Lock()
		later, some := s.source.LaterAt()
		ending := s.ending
		s.mu.Unlock()
		isLater := some && (!more || later < due)
		if ending || now >= deadline || !more && (!some || now >= int64(s.config.Duration)) {
			break
		}
		at := due
		if isLater {
			at = later
		}
		if int64(at) > now {
			sleep(min(at-time.Duration(now), 50*time.Millisecond))
			continue
		}
		c := s.take(ctx, &blocked)
		if c == nil {
			break
		}
		s.give(c, int64(at), isLater, blocked)
		if !isLater {
			due, more = s.next()
		}
	}
	s.unsent(due, more)
	s.idleOut()
}

// give hands a request to a connection's goroutine.
func (s *streams) give(c *stream, at int64, isLater bool, blocked int64) {
	now := s.clock()
	s.mu.Lock()
	s.source.Now(time.Duration(now))
	c.request.scheduled = at
	if isLater {
		c.request.class = Later
		s.source.NextLater(&c.request)
	} else {
		c.request.class = Click
		s.source.Next(&c.request)
	}
	s.record.sent(&c.request, now, at <= blocked)
	s.mu.Unlock()
	c.work <- struct{}{}
}

// take returns a connection without a request. When all are busy it waits for one, and notes when.
func (s *streams) take(ctx context.Context, blocked *int64) *stream {
	select {
	case c := <-s.idle:
		return c
	default:
	}
	if s.conns < s.limit {
		s.conns++
		c := &stream{work: make(chan struct{}, 1)}
		s.running.Go(func() {
			defer c.hangUp()
			for range c.work {
				s.do(ctx, c)
				s.idle <- c
			}
		})
		return c
	}
	timer := time.NewTimer(time.Duration(int64(s.config.Duration+s.config.Timeout) - s.clock()))
	defer timer.Stop()
	select {
	case c := <-s.idle:
		*blocked = s.clock()
		return c
	case <-ctx.Done():
	case <-timer.C:
	}
	return nil
}

// unsent records what was due and found no connection.
func (s *streams) unsent(due time.Duration, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	now := s.clock()
	for ; more; due, more = s.next() {
		s.record.done(&Request{scheduled: int64(due)}, &Response{Outcome: Unsent}, now)
	}
}

// idleOut ends the connections' goroutines as they become free.
func (s *streams) idleOut() {
	for range s.conns {
		c := <-s.idle
		close(c.work)
	}
}

// do sends the request and waits for its answer.
func (s *streams) do(ctx context.Context, c *stream) Outcome {
	outcome := s.exchange(ctx, c)
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcome != Answered {
		c.response = Response{Outcome: outcome}
	}
	s.record.done(&c.request, &c.response, now)
	s.source.Now(time.Duration(now))
	s.source.Done(&c.request, &c.response)
	if outcome != Answered || c.response.close || s.config.NewConnection {
		c.hangUp()
	}
	return outcome
}

func (s *streams) exchange(ctx context.Context, c *stream) Outcome {
	deadline := time.Now().Add(s.config.Timeout)
	if c.conn == nil {
		conn, err := s.dial(ctx, deadline)
		if err != nil {
			return Refused
		}
		c.conn = conn
	}
	if c.conn.SetDeadline(deadline) != nil {
		return Closed
	}
	if _, err := c.conn.Write(c.request.Bytes); err != nil {
		return failure(err)
	}
	c.reader.reset()
	buffer := s.buffer()
	defer s.spare.Put(buffer)
	for {
		n, err := c.conn.Read(*buffer)
		if n > 0 {
			s.received(n)
			whole, malformed := c.reader.feed((*buffer)[:n], &c.request, &c.response)
			if malformed != nil {
				return Malformed
			}
			if whole {
				// The buffer goes to another connection before Done has seen the answer.
				c.response.Location = append([]byte(nil), c.response.Location...)
				c.response.Cookie = append([]byte(nil), c.response.Cookie...)
				return Answered
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && c.reader.end() {
				return Answered
			}
			return failure(err)
		}
	}
}

func (s *streams) received(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.BytesIn += int64(n)
}

func (s *streams) buffer() *[]byte {
	if b, ok := s.spare.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 16<<10)
	return &b
}

func (s *streams) dial(ctx context.Context, deadline time.Time) (net.Conn, error) {
	dialer := net.Dialer{Deadline: deadline, Control: s.control}
	conn, err := dialer.DialContext(ctx, "tcp", s.address.String())
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", s.config.Target, err)
	}
	if s.tls != nil {
		secure := tls.Client(conn, s.tls)
		err := secure.SetDeadline(deadline)
		if err == nil {
			err = secure.HandshakeContext(ctx)
		}
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("cannot agree on TLS with %s: %w", s.config.Target, err)
		}
		conn = secure
	}
	s.mu.Lock()
	s.record.Connects++
	s.mu.Unlock()
	return conn, nil
}

// control makes connections of a run with a connection per request leave no TIME_WAIT behind.
func (s *streams) control(_, _ string, raw syscall.RawConn) error {
	if !s.config.NewConnection {
		return nil
	}
	var err error
	if controlErr := raw.Control(func(fd uintptr) { err = resetOnClose(fd) }); controlErr != nil {
		return controlErr
	}
	return err
}

func failure(err error) Outcome {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return TimedOut
	}
	return Closed
}
