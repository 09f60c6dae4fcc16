package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// source answers polls from what it was told.
type source struct {
	mu      sync.Mutex
	polls   int
	state   string
	changed map[uint64]int
	err     error
	watched []uint64
}

func (s *source) poll(_ context.Context, watched, fresh []uint64) (Frame[string, int], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	s.watched = watched
	frame := Frame[string, int]{State: s.state, Changed: map[uint64]int{}}
	for key, v := range s.changed {
		if slices.Contains(watched, key) {
			frame.Changed[key] = v
		}
	}
	for _, key := range fresh {
		if _, ok := frame.Changed[key]; !ok {
			frame.Changed[key] = 0
		}
	}
	s.changed = nil
	return frame, s.err
}

func (s *source) set(state string, changed map[uint64]int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.changed, s.err = state, changed, err
}

func run(t *testing.T, f func(t *testing.T, h *Hub[string, int], s *source)) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{state: "begin"}
		h := New(Config[string, int]{Poll: s.poll, Fail: func(err error) string { return err.Error() }, MaxWatchers: 3, MaxPerOwner: 2})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		f(t, h, s)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func watch(t *testing.T, h *Hub[string, int], owner uint64, keys ...uint64) *Watcher[string, int] {
	t.Helper()
	w, err := h.Watch(owner, keys)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wants(t *testing.T, w *Watcher[string, int], state string, changed map[uint64]int) {
	t.Helper()
	<-w.Ready()
	gotState, gotChanged, ok := w.News()
	if !ok || gotState != state || !cmp.Equal(gotChanged, changed) {
		t.Errorf("news = %q, %v, %v; want %q, %v", gotState, gotChanged, ok, state, changed)
	}
}

func TestNobodyWatchingMeansNoPolls(t *testing.T) {
	run(t, func(t *testing.T, h *Hub[string, int], s *source) {
		time.Sleep(time.Minute)
		if s.polls != 0 {
			t.Errorf("%d polls while nobody watches", s.polls)
		}
		w := watch(t, h, 1, 7)
		wants(t, w, "begin", map[uint64]int{7: 0})
		w.Close()
		w.Close()
		time.Sleep(time.Second)
		before := s.polls
		time.Sleep(time.Minute)
		if s.polls != before {
			t.Errorf("%d polls after the last watcher left", s.polls-before)
		}
	})
}

func TestWatchersSeeTheirOwnKeys(t *testing.T) {
	run(t, func(t *testing.T, h *Hub[string, int], s *source) {
		a, b := watch(t, h, 1, 1, 2), watch(t, h, 2, 2, 3)
		wants(t, a, "begin", map[uint64]int{1: 0, 2: 0})
		wants(t, b, "begin", map[uint64]int{2: 0, 3: 0})
		<-a.Ready()
		a.News()
		<-b.Ready()
		b.News()
		s.set("next", map[uint64]int{1: 10, 2: 20, 3: 30, 9: 90}, nil)
		time.Sleep(300 * time.Millisecond)
		wants(t, a, "next", map[uint64]int{1: 10, 2: 20})
		wants(t, b, "next", map[uint64]int{2: 20, 3: 30})
		if diff := cmp.Diff([]uint64{1, 2, 3}, s.watched); diff != "" {
			t.Errorf("the watched keys differ (-want +got):\n%s", diff)
		}
		a.Close()
		b.Close()
	})
}

// A watcher that does not read holds the newest of each key and nothing more.
func TestASlowWatcherHoldsTheNewest(t *testing.T) {
	run(t, func(t *testing.T, h *Hub[string, int], s *source) {
		w := watch(t, h, 1, 1, 2)
		time.Sleep(100 * time.Millisecond)
		for i := range 50 {
			s.set(fmt.Sprint(i), map[uint64]int{1: i}, nil)
			time.Sleep(200 * time.Millisecond)
		}
		wants(t, w, "49", map[uint64]int{1: 49, 2: 0})
		if len(w.ready) > 1 {
			t.Errorf("%d signals wait, want 1 at most", len(w.ready))
		}
		w.Close()
	})
}

func TestFailuresAreAState(t *testing.T) {
	run(t, func(t *testing.T, h *Hub[string, int], s *source) {
		s.set("", nil, errors.New("down"))
		w := watch(t, h, 1, 5)
		wants(t, w, "down", map[uint64]int{})
		s.set("up", nil, nil)
		time.Sleep(300 * time.Millisecond)
		// What it had not been told yet comes with the first answer.
		wants(t, w, "up", map[uint64]int{5: 0})
		w.Close()
	})
}

func TestWatchingIsBounded(t *testing.T) {
	run(t, func(t *testing.T, h *Hub[string, int], s *source) {
		a, b := watch(t, h, 1), watch(t, h, 1)
		if _, err := h.Watch(1, nil); !errors.Is(err, ErrFull) {
			t.Errorf("the third page of one owner: %v, want ErrFull", err)
		}
		c := watch(t, h, 2)
		if _, err := h.Watch(3, nil); !errors.Is(err, ErrFull) {
			t.Errorf("the fourth page of all: %v, want ErrFull", err)
		}
		a.Close()
		d := watch(t, h, 1)
		for _, w := range []*Watcher[string, int]{b, c, d} {
			w.Close()
		}
		if len(h.watchers)+len(h.owners) != 0 {
			t.Errorf("after all have left: %d watchers, %d owners", len(h.watchers), len(h.owners))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	s := &source{}
	h := New(Config[string, int]{Poll: s.poll, Fail: func(error) string { return "" }, Interval: time.Millisecond, MaxWatchers: 1000, MaxPerOwner: 1000})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 5 {
				w, err := h.Watch(uint64(i), []uint64{uint64(i % 8)})
				if err != nil {
					t.Error(err)
					return
				}
				<-w.Ready()
				w.News()
				w.Close()
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
