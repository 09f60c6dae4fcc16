package dashboard

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"waymark/dashboard/live"
	"waymark/dashboard/report"
)

// reader is what pages and API ask of ClickHouse; [report.Reader] is it.
type reader interface {
	Sheets(ctx context.Context, partnerships []uint64) (map[uint64]*report.Sheet, error)
	Links(ctx context.Context, partnership uint64) (map[uint64]report.Clicks, error)
	Recent(ctx context.Context, partnership uint64, n int) ([]report.Click, error)
	Daily(ctx context.Context, partnership uint64, until time.Time, n int) ([]report.Day, error)
	Progress(ctx context.Context) (*report.Progress, error)
	Changed(ctx context.Context, partnerships []uint64, before, after *report.Progress) ([]uint64, error)
}

// standing is up to when the numbers are complete, and whether they could be read.
type standing struct {
	tick report.Tick
	down bool
}

// reading is a set of sheets, read together. A sheet is nil when it could not be read and never was.
type reading struct {
	standing
	sheets map[uint64]*report.Sheet
}

// linkReading is the clicks of a partnership's links. They are nil when they could not be read and never were.
type linkReading struct {
	standing
	clicks map[uint64]report.Clicks
}

// maxRemembered bounds how many partnerships' last known numbers are kept for the time when ClickHouse does not answer.
const maxRemembered = 4096

// numbers reads sheets and remembers them. It is safe for concurrent use.
type numbers struct {
	source  reader
	timeout time.Duration
	log     *slog.Logger

	// Only the poller uses it.
	last *report.Progress

	mu       sync.Mutex
	ok       bool
	tick     report.Tick
	sheets   map[uint64]remembered
	links    map[uint64]linkReading
	activity map[uint64]activity
}

type remembered struct {
	sheet *report.Sheet
	tick  report.Tick
}

// activity is what a summary shows besides the sheet.
type activity struct {
	recent []report.Click
	days   []report.Day
}

func newNumbers(source reader, timeout time.Duration, log *slog.Logger) *numbers {
	return &numbers{source: source, timeout: timeout, log: log, ok: true, sheets: map[uint64]remembered{}, links: map[uint64]linkReading{},
		activity: map[uint64]activity{}}
}

// read returns the sheets of partnerships and up to when they are complete. It never fails: what cannot be read is
// what was last known.
func (n *numbers) read(ctx context.Context, partnerships []uint64) reading {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	// Progress first: what is read after it holds at least what it promises.
	progress, err := n.source.Progress(ctx)
	if err == nil {
		var sheets map[uint64]*report.Sheet
		if sheets, err = n.source.Sheets(ctx, partnerships); err == nil {
			n.remember(sheets, progress.Least)
			return reading{standing{tick: progress.Least}, sheets}
		}
	}
	n.failed(err)
	return n.recall(partnerships)
}

func (n *numbers) remember(sheets map[uint64]*report.Sheet, tick report.Tick) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ok {
		n.log.Info("the numbers can be read again")
	}
	n.ok, n.tick = true, tick
	for id, s := range sheets {
		keep(n.sheets, id, remembered{s, tick})
	}
}

// readLinks is read for the links of a partnership.
func (n *numbers) readLinks(ctx context.Context, partnership uint64) linkReading {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	progress, err := n.source.Progress(ctx)
	if err == nil {
		var clicks map[uint64]report.Clicks
		if clicks, err = n.source.Links(ctx, partnership); err == nil {
			n.remember(nil, progress.Least)
			r := linkReading{standing{tick: progress.Least}, clicks}
			n.mu.Lock()
			defer n.mu.Unlock()
			keep(n.links, partnership, r)
			return r
		}
	}
	n.failed(err)
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.links[partnership]
	r.down = true
	return r
}

func keep[T any](m map[uint64]T, id uint64, v T) {
	if _, ok := m[id]; !ok && len(m) >= maxRemembered {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[id] = v
}

// failed logs the first failure of a row of them.
func (n *numbers) failed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ok {
		n.log.Warn("the numbers cannot be read; pages show the last known ones", "error", err)
	}
	n.ok = false
}

func (n *numbers) recall(partnerships []uint64) reading {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := reading{standing{down: true}, make(map[uint64]*report.Sheet, len(partnerships))}
	for i, id := range partnerships {
		known := n.sheets[id]
		r.sheets[id] = known.sheet
		if i == 0 || known.tick.Time.Before(r.tick.Time) {
			r.tick = known.tick
		}
	}
	return r
}

// act returns the latest clicks and the days of a chart, or the last known ones, with the time of the last full day.
func (n *numbers) act(ctx context.Context, partnership uint64, until time.Time) activity {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	var days []report.Day
	done := make(chan error, 1)
	go func() {
		var err error
		days, err = n.source.Daily(ctx, partnership, until, chartDays)
		done <- err
	}()
	recent, err := n.source.Recent(ctx, partnership, recentEvents)
	if dailyErr := <-done; err == nil {
		err = dailyErr
	}
	if err != nil {
		n.failed(err)
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.activity[partnership]
	}
	a := activity{recent, days}
	n.mu.Lock()
	defer n.mu.Unlock()
	keep(n.activity, partnership, a)
	return a
}

// poll answers the hub. One goroutine calls it.
func (n *numbers) poll(ctx context.Context, watched, fresh []uint64) (live.Frame[standing, *report.Sheet], error) {
	var none live.Frame[standing, *report.Sheet]
	progress, err := n.source.Progress(ctx)
	if err != nil {
		n.failed(err)
		n.last = nil
		return none, err
	}
	changed := slices.Clone(watched)
	if n.last != nil {
		if changed, err = n.source.Changed(ctx, watched, n.last, progress); err != nil {
			n.failed(err)
			return none, err
		}
		changed = append(changed, fresh...)
		slices.Sort(changed)
		changed = slices.Compact(changed)
	}
	sheets := map[uint64]*report.Sheet{}
	if len(changed) > 0 {
		if sheets, err = n.source.Sheets(ctx, changed); err != nil {
			n.failed(err)
			return none, err
		}
	}
	n.last = progress
	n.remember(sheets, progress.Least)
	return live.Frame[standing, *report.Sheet]{State: standing{tick: progress.Least}, Changed: sheets}, nil
}

// fail is the standing of pages that are open while nothing can be read.
func (n *numbers) fail(error) standing {
	n.mu.Lock()
	defer n.mu.Unlock()
	return standing{tick: n.tick, down: true}
}
