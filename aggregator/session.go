package aggregator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"waymark/aggregator/facts"
	"waymark/aggregator/fold"
	"waymark/schema"
	"waymark/tracker/dedupe"
)

// session is one generation of the consumer group: the partitions that are owned, from their recovery to the last flush.
// Everything in it belongs to the goroutine of run, except what the fetchers send over chunks.
type session struct {
	a      *Aggregator
	gen    *kafka.Generation
	set    *dedupe.Set
	owned  []*owned
	chunks chan chunk

	batch fold.Batch
	// touched are the partitions with records since the last flush, which is due when due is set.
	touched   map[*owned]bool
	due       bool
	lastFlush time.Time
}

// owned is a partition that this session folds.
type owned struct {
	log       schema.Log
	partition uint16
	fold      *fold.Partition
	stored    uint64
	// Visitors were counted that the local set has not stored; settled is when it last did.
	marked  bool
	settled time.Time
}

func (o *owned) String() string { return fmt.Sprintf("%s/%d", o.log, o.partition) }

// linger is how long a flush after a pause waits for what comes with the first record.
const linger = 15 * time.Millisecond

// serve folds what one generation assigns until it or the context ends.
func (a *Aggregator) serve(ctx context.Context, gen *kafka.Generation) error {
	done := make(chan error, 1)
	gen.Start(func(genCtx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(genCtx, cancel)()
		done <- a.runSession(ctx, gen)
	})
	return <-done
}

func (a *Aggregator) runSession(ctx context.Context, gen *kafka.Generation) (err error) {
	// Marks that were not flushed end with the set that holds them, so no session sees what another has left undone.
	set, err := dedupe.Open(dedupe.Config{Dir: filepath.Join(a.visitorsDir(), a.cfg.clicks().String()), Logger: a.cfg.Logger, Metrics: a.visitors})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	a.state.setServing(false)
	defer a.state.setServing(false)
	s := &session{a: a, gen: gen, set: set, chunks: make(chan chunk), touched: map[*owned]bool{}}
	if err := s.takeOver(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.state.setServing(true)
	return s.run(ctx)
}

func (s *session) run(ctx context.Context) error {
	fetching, stop := context.WithCancel(ctx)
	var fetchers sync.WaitGroup
	defer fetchers.Wait()
	defer stop()
	for _, o := range s.owned {
		fetchers.Go(func() { s.fetch(fetching, o, o.fold.Next()) })
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case c := <-s.chunks:
			if err := s.take(ctx, c); err != nil {
				return s.cut(ctx, err)
			}
			// The first record sets the time, and later ones do not move it: a steady stream must not put a flush off.
			if len(s.batch.Clicks) >= s.a.cfg.FlushRows {
				timer.Reset(0)
			} else if len(s.touched) > 0 && !s.due {
				timer.Reset(max(time.Until(s.lastFlush.Add(s.a.cfg.FlushInterval)), linger))
				s.due = true
			}
		case <-timer.C:
			if err := s.flush(ctx); err != nil {
				return s.cut(ctx, err)
			}
		case <-ctx.Done():
			stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.a.cfg.ShutdownTimeout)
			defer cancel()
			if err := s.flush(last); err != nil && last.Err() == nil {
				return err
			} else if err != nil {
				s.a.cfg.Logger.Warn("the last flush was not answered in time; what it holds is folded again", "timeout", s.a.cfg.ShutdownTimeout)
			}
			return nil
		}
	}
}

// cut returns nil for an error that is the end of the session itself: what was not flushed is folded again.
func (s *session) cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// take folds a chunk.
func (s *session) take(ctx context.Context, c chunk) error {
	o := c.owned
	if c.err != nil {
		s.a.stop(o, c.err)
		return nil
	}
	if len(c.records) > 0 {
		if err := s.fold(ctx, o, c.records); err != nil {
			return err
		}
		s.touched[o] = true
	}
	s.a.metrics.Lag.WithLabelValues(o.log.String(), partitionLabel(o.partition)).Set(float64(s.a.state.see(o, c.end, o.stored, true)))
	return nil
}

// stop says that a partition cannot be read on.
func (a *Aggregator) stop(o *owned, err error) {
	a.state.stop(o.String(), err)
	a.metrics.Stopped.WithLabelValues(o.log.String(), partitionLabel(o.partition)).Set(1)
	a.cfg.Logger.Error("a partition is stopped", "log", o.log.String(), "partition", o.partition, "error", err)
}

func (s *session) fold(ctx context.Context, o *owned, records []fold.Record) error {
	p, name := o.fold, o.log.String()
	if err := p.Stage(records); err != nil {
		return err
	}
	if ids := p.MissingValues(); len(ids) > 0 {
		rows, err := read(ctx, s.a, "read_values", func() ([]schema.TotalRow, error) { return s.a.store.Values(ctx, name, o.partition, ids) })
		if err == nil {
			err = p.LoadValues(ids, rows)
		}
		if err != nil {
			return err
		}
	}
	if cells := p.MissingCells(); len(cells) > 0 {
		asked := make([]facts.Cell, len(cells))
		for i, c := range cells {
			asked[i] = facts.Cell(c)
		}
		rows, err := read(ctx, s.a, "read_totals", func() ([]schema.TotalRow, error) { return s.a.store.Totals(ctx, name, o.partition, asked) })
		if err == nil {
			err = p.LoadCells(cells, rows)
		}
		if err != nil {
			return err
		}
	}
	before := len(s.batch.Visitors)
	p.Apply(&s.batch)
	o.marked = o.marked || len(s.batch.Visitors) > before
	return nil
}

// read tries until it has an answer or the context ends.
func read[T any](ctx context.Context, a *Aggregator, operation string, f func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := f()
		if err == nil {
			return v, nil
		}
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		a.retry(ctx, operation, try, err)
	}
}

// flush stores everything folded so far, in the order that recovery depends on: clicks, visitors and totals, dead letters,
// progress; then the local visitor set, and the group's offsets last.
func (s *session) flush(ctx context.Context) error {
	begin := time.Now()
	s.lastFlush, s.due = begin, false
	if len(s.touched) == 0 {
		return nil
	}
	s.a.state.setFlushing(begin)
	defer s.a.state.setFlushing(time.Time{})
	b := &s.batch
	for _, o := range s.owned {
		if s.touched[o] {
			o.fold.Emit(b)
		}
	}
	if err := s.a.store.Write(ctx, facts.Rows{Clicks: b.Clicks, Visitors: b.Visitors, Totals: b.Totals}); err != nil {
		return err
	}
	if err := s.a.bury(ctx, b.DeadLetters); err != nil {
		return err
	}
	now := time.Now().UTC()
	for i := range b.Progress {
		b.Progress[i].WrittenAt = now
	}
	if err := s.a.store.WriteProgress(ctx, b.Progress); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.a.metrics.count(b)
	s.a.tell(b.Notices)
	s.a.metrics.Flushes.Observe(time.Since(begin).Seconds())
	b.Reset()
	clear(s.touched)
	return nil
}

// settle follows what ClickHouse holds now with the local set, and then with the group's offsets.
func (s *session) settle() error {
	offsets := map[string]map[int]int64{}
	for o := range s.touched {
		o.stored = o.fold.Next()
		if o.log.Topic == schema.TopicClicks && (o.marked || time.Since(o.settled) > settleInterval) {
			if err := s.set.Flush(o.partition, schema.Position(o.stored)); err != nil {
				return err
			}
			o.marked, o.settled = false, time.Now()
		}
		if offsets[o.log.String()] == nil {
			offsets[o.log.String()] = map[int]int64{}
		}
		offsets[o.log.String()][int(o.partition)] = int64(o.stored)
		log, partition := o.log.String(), partitionLabel(o.partition)
		s.a.metrics.Lag.WithLabelValues(log, partition).Set(float64(s.a.state.see(o, 0, o.stored, false)))
		s.a.metrics.Missing.WithLabelValues(log, partition).Set(float64(o.fold.Missing()))
	}
	// The offsets tell others how far this has come. Recovery does not ask them, so a commit that fails costs nothing.
	if err := s.gen.CommitOffsets(offsets); err != nil {
		s.a.failed("commit_offsets", 0, err)
	}
	return nil
}

// settleInterval is how often the local set's position follows while there is nothing to store but the position.
const settleInterval = 10 * time.Second

// maxTold bounds how many notices of one flush are logged.
const maxTold = 5

func (a *Aggregator) tell(notices []fold.Notice) {
	for i, n := range notices {
		if i == maxTold {
			a.cfg.Logger.Warn("more notices of the same flush are not shown", "dropped", len(notices)-maxTold)
			return
		}
		a.cfg.Logger.Warn(n.Text, "kind", string(n.Kind), "log", n.Log, "partition", n.Partition, "offset", n.Offset, "edge", n.Edge.String(), "epoch", fmt.Sprintf("%016x", uint64(n.Epoch)))
	}
}
