package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStopsUpstreamFirst(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	var stopped []string
	for _, name := range []string{"engine", "aggregator", "tracker"} {
		s.Defer(name, func() error { stopped = append(stopped, name); return nil })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); err != nil {
		t.Errorf("Wait = %v, want nil after the context's end", err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("Stop = %v, want nil", err)
	}
	if diff := cmp.Diff([]string{"tracker", "aggregator", "engine"}, stopped); diff != "" {
		t.Errorf("stopped in another order (-want +got):\n%s", diff)
	}
}

func TestFailureOfAPartEndsTheWait(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	s.Defer("engine", func() error { return nil })
	want := errors.New("disk on fire")
	s.Start("tracker", func(context.Context) error { return want })
	if err := s.Wait(t.Context()); !errors.Is(err, want) {
		t.Errorf("Wait = %v, want %v", err, want)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("Stop = %v, want nil: the failure was reported already", err)
	}
}

func TestPartThatEndsByItselfIsAFailure(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	s.Start("tracker", func(context.Context) error { return nil })
	if err := s.Wait(t.Context()); err == nil {
		t.Error("Wait = nil, want an error")
	}
	s.Stop()
}
