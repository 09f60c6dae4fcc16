// Package generator sends HTTP/1.1 requests, as many as one core can, and keeps what the answers cost.
//
// There are two engines behind one Run. The event loop (Linux, plain TCP) is one goroutine per worker, locked to its
// thread, that drives all of its connections by epoll with three system calls per request at most. The stream
// engine is a goroutine per connection; it speaks TLS and runs anywhere. Both send one request at a time per
// connection, in the order that the source gives them.
//
// In an open loop the clock of the corrected latency starts at the scheduled send, whatever the server does: when
// every connection waits for an answer, the next request waits too, and its wait counts. The service latency starts at
// the real send. In a closed loop each connection sends when it is free, and there is only the service latency.
//
// A worker writes to its own record without locks; once per interval it hands the full one to the collector, which
// merges those of all workers.
package generator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// Class says into which histogram a request goes.
type Class uint8

// Clicks follow the schedule; later requests are those that a source asks for by itself, after an answer.
const (
	Click Class = iota
	Later
)

// Request is one request. Its memory is reused: a source appends to Bytes[:0].
type Request struct {
	Bytes  []byte // what is written to the connection, whole
	Tag    uint64 // the source's own
	Data   uint64 // the source's own
	Status int    // the status that is expected; any other is counted as unexpected
	Head   bool   // the answer has no body
	class  Class
	// Nanoseconds since the start of the run.
	scheduled, sent int64
}

// Outcome is how a request ended.
type Outcome uint8

// The outcomes. A request whose outcome is not Answered may or may not have had its effect, unless it is Refused:
// then it was never sent.
const (
	Answered  Outcome = iota
	Refused           // no connection could be made
	Closed            // the server closed the connection before its answer was whole
	TimedOut          // no whole answer in time
	Malformed         // the answer is not HTTP/1.1
	Unsent            // the run ended before it could be sent
	outcomes
)

var outcomeNames = [outcomes]string{"answered", "refused", "closed", "timed_out", "malformed", "unsent"}

func (o Outcome) String() string { return outcomeNames[o] }

// Response is an answer. Its slices are valid until Done returns.
type Response struct {
	Outcome  Outcome
	Status   int
	Location []byte
	Cookie   []byte // the first Set-Cookie line's value
	close    bool
	chunked  bool
	length   int64
}

// Source gives one worker its requests. It is called by one goroutine at a time.
type Source interface {
	// Next fills in the next request of the schedule.
	Next(*Request)
	// Done hands back a request with its answer.
	Done(*Request, *Response)
	// LaterAt returns when the next later request is due, since the start of the run; false if there is none.
	LaterAt() (time.Duration, bool)
	// NextLater fills in the later request that LaterAt spoke of.
	NextLater(*Request)
	// Now tells the source the time since the start of the run, before each of the other calls.
	Now(time.Duration)
}

// Schedule gives the scheduled sends of one worker, in order; false after the last.
type Schedule func() (time.Duration, bool)

// Config is what a run needs. Target, Workers, Connections, Duration and Source have no defaults.
type Config struct {
	Target         string      // host:port
	TLS            *tls.Config // nil: plain TCP
	Workers        int
	Connections    int  // opened at the start, over all workers
	MaxConnections int  // open loop: as many may be open when every one is busy (default: Connections)
	NewConnection  bool // one connection per request
	Streams        bool // use the stream engine although the event loop would do
	Duration       time.Duration
	Timeout        time.Duration // of one request (default 10 s)
	Interval       time.Duration // (default 1 s)
	Late           time.Duration // a send this much behind its schedule is late (default 5 ms)
	// GiveUp ends the run when nothing was answered for this long; 0: never.
	GiveUp time.Duration
	Source func(worker int) Source
	// Schedule gives each worker's schedule; nil: closed loop.
	Schedule func(worker int) Schedule
	// OnInterval is called once per interval, in order, by one goroutine. An error ends the run.
	OnInterval func(*Interval) error
}

// Defaults fills in what was left out.
func (c *Config) Defaults() {
	if c.MaxConnections < c.Connections {
		c.MaxConnections = c.Connections
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Late == 0 {
		c.Late = 5 * time.Millisecond
	}
	if c.OnInterval == nil {
		c.OnInterval = func(*Interval) error { return nil }
	}
}

// Validate names the first setting that cannot be.
func (c *Config) Validate() error {
	switch {
	case c.Workers < 1 || c.Workers > 256:
		return fmt.Errorf("--workers must be 1 to 256, got %d", c.Workers)
	case c.Connections < c.Workers:
		return fmt.Errorf("--connections must be at least 1 per worker (%d), got %d", c.Workers, c.Connections)
	case c.MaxConnections > 1_000_000:
		return fmt.Errorf("--max-connections must be at most 1000000, got %d", c.MaxConnections)
	case c.Duration <= 0:
		return fmt.Errorf("--duration must be positive, got %v", c.Duration)
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout must be positive, got %v", c.Timeout)
	}
	return nil
}

// ErrGaveUp says that the target stopped answering.
var ErrGaveUp = errors.New("the target answered nothing")

// Run sends until the duration has passed, the context ends or an interval is refused, and waits for the answers that
// are under way. What was measured until then has been handed to OnInterval even when it returns an error.
func Run(ctx context.Context, c Config) error {
	c.Defaults()
	if err := c.Validate(); err != nil {
		return err
	}
	address, err := net.ResolveTCPAddr("tcp", c.Target)
	if err != nil {
		return fmt.Errorf("cannot find the target %s: %w", c.Target, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	collect := newCollector(&c)
	workers := make([]worker, c.Workers)
	for i := range workers {
		if workers[i], err = newWorker(&c, i, address, collect); err != nil {
			for _, w := range workers[:i] {
				w.close()
			}
			return err
		}
	}
	var running sync.WaitGroup
	start := time.Now()
	for _, w := range workers {
		running.Go(func() {
			if err := w.run(ctx, start); err != nil {
				cancel(err)
			}
			w.close()
		})
	}
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		collect.run(cancel)
	}()
	running.Wait()
	close(collect.full)
	<-collected
	return context.Cause(ctx)
}

// worker is an engine's share of the run.
type worker interface {
	run(ctx context.Context, start time.Time) error
	close()
}

func newWorker(c *Config, i int, address *net.TCPAddr, collect *collector) (worker, error) {
	if c.TLS == nil && !c.Streams && runtime.GOOS == "linux" {
		return newLoop(c, i, address, collect)
	}
	return newStreams(c, i, address, collect), nil
}

// share returns worker i's part of n things.
func share(n, i, workers int) int {
	part := n / workers
	if i < n%workers {
		part++
	}
	return part
}
