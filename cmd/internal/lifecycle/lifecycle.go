// Package lifecycle starts the parts of a process downstream first and stops them upstream first.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Stack is a list of running parts. It is for one goroutine; the parts run in their own.
type Stack struct {
	log    *slog.Logger
	parts  []*part
	failed chan *part
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// New returns an empty stack.
func New(log *slog.Logger) *Stack {
	return &Stack{log: log, failed: make(chan *part, 64)}
}

// Start runs a part until Stop cancels its context. A part that returns before is a failure of the whole.
func (s *Stack) Start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	s.parts = append(s.parts, p)
	go func() {
		p.err = run(ctx)
		close(p.done)
		if ctx.Err() == nil {
			s.failed <- p
		}
	}()
}

// Defer adds a part that has nothing to run, only to close.
func (s *Stack) Defer(name string, closeIt func() error) {
	s.Start(name, func(ctx context.Context) error {
		<-ctx.Done()
		return closeIt()
	})
}

// Wait returns nil when the context ends, or the error of the first part that fails.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case p := <-s.failed:
		if p.err == nil {
			return fmt.Errorf("%s ended by itself", p.name)
		}
		return p.err
	}
}

// Failed returns the error of a part that failed so far, or nil. Wait still reports it.
func (s *Stack) Failed() error {
	select {
	case p := <-s.failed:
		s.failed <- p
		return errors.Join(p.err, fmt.Errorf("%s ended", p.name))
	default:
		return nil
	}
}

// Stop stops the parts, the last one started first, and returns their errors.
func (s *Stack) Stop() error {
	var errs error
	for len(s.parts) > 0 {
		p := s.parts[len(s.parts)-1]
		s.parts = s.parts[:len(s.parts)-1]
		start := time.Now()
		running := true
		select {
		case <-p.done:
			running = false
		default:
		}
		p.cancel()
		<-p.done
		if running && p.err != nil && !errors.Is(p.err, context.Canceled) {
			errs = errors.Join(errs, p.err)
		}
		s.log.Info("stopped", "part", p.name, "duration", time.Since(start).Round(time.Millisecond))
	}
	return errs
}
