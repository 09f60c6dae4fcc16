// Package live tells open pages that their numbers have changed. One loop asks for progress while anyone watches, and
// what it learns goes to every watcher; a watcher that does not keep up sees the newest state, never a queue.
package live

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrFull is returned when as many watch as are allowed to.
var ErrFull = errors.New("too many pages are open")

// Frame is one answer to "what is new": S is the state that belongs to everyone, T what belongs to one key.
type Frame[S, T any] struct {
	State S
	// Changed holds the keys whose values are new. Keys that nobody watches are dropped.
	Changed map[uint64]T
}

// Config configures a [Hub].
type Config[S, T any] struct {
	// Poll asks what is new for the watched keys, of which those in fresh have not been asked for since somebody began
	// to watch them: they belong into the answer. It is called by one goroutine at a time.
	Poll func(ctx context.Context, watched, fresh []uint64) (Frame[S, T], error)
	// Fail makes the state to show when Poll has returned an error.
	Fail func(error) S
	// Interval is the time between two polls; 0 = 200 ms.
	Interval time.Duration
	// Timeout ends a poll that hangs; 0 = 5 s.
	Timeout time.Duration
	// MaxWatchers bounds how many may watch, MaxPerOwner how many of one owner; 0 = 4096 and 32.
	MaxWatchers, MaxPerOwner int
	Logger                   *slog.Logger
	Metrics                  *Metrics
}

// Metrics are what a hub counts.
type Metrics struct {
	watchers prometheus.Gauge
	polls    *prometheus.CounterVec
	seconds  prometheus.Histogram
	refused  prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_live_watchers", Help: "Pages that are open and updated."}),
		polls:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_live_polls_total", Help: "Questions for what is new, by outcome."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waymark_dashboard_live_poll_seconds", Help: "How long a question for what is new takes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_live_refused_total", Help: "Pages that were not updated because too many were open."}),
	}
	m.polls.WithLabelValues("ok")
	m.polls.WithLabelValues("failed")
	if reg != nil {
		reg.MustRegister(m.watchers, m.polls, m.seconds, m.refused)
	}
	return m
}

// Hub distributes what is new. It is safe for concurrent use.
type Hub[S, T any] struct {
	c    Config[S, T]
	wake chan struct{}

	mu       sync.Mutex
	watchers map[*Watcher[S, T]]struct{}
	owners   map[uint64]int
}

// New returns a hub that does nothing until Run.
func New[S, T any](c Config[S, T]) *Hub[S, T] {
	if c.Interval == 0 {
		c.Interval = 200 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxWatchers == 0 {
		c.MaxWatchers = 4096
	}
	if c.MaxPerOwner == 0 {
		c.MaxPerOwner = 32
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return &Hub[S, T]{c: c, wake: make(chan struct{}, 1), watchers: map[*Watcher[S, T]]struct{}{}, owners: map[uint64]int{}}
}

// Watcher is one open page. Its owner calls Close.
type Watcher[S, T any] struct {
	hub   *Hub[S, T]
	owner uint64
	keys  []uint64
	ready chan struct{}

	// Under hub.mu.
	fresh   bool
	news    bool
	state   S
	changed map[uint64]T
}

// Watch begins to watch keys on behalf of an owner. The first news holds all of them.
func (h *Hub[S, T]) Watch(owner uint64, keys []uint64) (*Watcher[S, T], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) >= h.c.MaxWatchers || h.owners[owner] >= h.c.MaxPerOwner {
		h.c.Metrics.refused.Inc()
		return nil, ErrFull
	}
	w := &Watcher[S, T]{hub: h, owner: owner, keys: slices.Clone(keys), ready: make(chan struct{}, 1), fresh: true, changed: map[uint64]T{}}
	h.watchers[w] = struct{}{}
	h.owners[owner]++
	h.c.Metrics.watchers.Set(float64(len(h.watchers)))
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return w, nil
}

// Close ends watching. It may be called more than once.
func (w *Watcher[S, T]) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.watchers[w]; !ok {
		return
	}
	delete(h.watchers, w)
	if h.owners[w.owner]--; h.owners[w.owner] == 0 {
		delete(h.owners, w.owner)
	}
	h.c.Metrics.watchers.Set(float64(len(h.watchers)))
}

// Ready is sent to when there is news.
func (w *Watcher[S, T]) Ready() <-chan struct{} { return w.ready }

// News returns the newest state and what has changed since the last call, and whether there was anything.
func (w *Watcher[S, T]) News() (state S, changed map[uint64]T, ok bool) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	state, changed, ok = w.state, w.changed, w.news
	w.changed, w.news = map[uint64]T{}, false
	return state, changed, ok
}

// Run polls while anyone watches, until the context ends.
func (h *Hub[S, T]) Run(ctx context.Context) error {
	for {
		watched, fresh, keys := h.watched()
		if len(watched) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-h.wake:
			}
			continue
		}
		h.deliver(h.poll(ctx, keys, fresh), watched)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(h.c.Interval):
		}
	}
}

// watched returns who watches now, and of their keys the fresh ones and all.
func (h *Hub[S, T]) watched() (watchers []*Watcher[S, T], fresh, keys []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		watchers = append(watchers, w)
		keys = append(keys, w.keys...)
		if w.fresh {
			fresh = append(fresh, w.keys...)
		}
	}
	return watchers, unique(fresh), unique(keys)
}

func unique(keys []uint64) []uint64 {
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (h *Hub[S, T]) poll(ctx context.Context, keys, fresh []uint64) (frame Frame[S, T]) {
	ctx, cancel := context.WithTimeout(ctx, h.c.Timeout)
	defer cancel()
	start := time.Now()
	frame, err := h.c.Poll(ctx, keys, fresh)
	h.c.Metrics.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		h.c.Metrics.polls.WithLabelValues("failed").Inc()
		h.c.Logger.Debug("cannot ask what is new", "error", err)
		return Frame[S, T]{State: h.c.Fail(err)}
	}
	h.c.Metrics.polls.WithLabelValues("ok").Inc()
	return frame
}

// deliver hands a frame to those who watched when it was asked for; who came since then waits for the next one.
func (h *Hub[S, T]) deliver(frame Frame[S, T], watchers []*Watcher[S, T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range watchers {
		missing := false
		for _, key := range w.keys {
			if v, ok := frame.Changed[key]; ok {
				w.changed[key] = v
			} else if w.fresh {
				missing = true
			}
		}
		w.fresh = missing
		w.state, w.news = frame.State, true
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}
