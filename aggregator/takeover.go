package aggregator

import (
	"context"
	"time"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// takeOver recovers every partition that the generation assigns.
func (s *session) takeOver(ctx context.Context) error {
	for _, l := range []schema.Log{s.a.cfg.clicks(), s.a.cfg.ledger()} {
		assigned := s.gen.Assignments[l.String()]
		if len(assigned) == 0 {
			continue
		}
		progress, err := read(ctx, s.a, "read_progress", func() (map[uint16]schema.ProgressRow, error) { return s.a.store.Progress(ctx, l.String()) })
		if err != nil {
			return err
		}
		cached := s.a.cfg.CachedTotals / len(assigned)
		for _, p := range assigned {
			begin := time.Now()
			o := &owned{log: l, partition: uint16(p.ID)}
			var row *schema.ProgressRow
			if r, ok := progress[o.partition]; ok {
				row, o.stored = &r, r.V
			}
			if o.fold, err = fold.New(fold.Config{Log: l, Partition: o.partition, Visitors: s.set, CachedTotals: cached}, row); err != nil {
				return err
			}
			if err := s.recover(ctx, o); err != nil {
				return err
			}
			s.owned = append(s.owned, o)
			s.a.metrics.Takeovers.Observe(time.Since(begin).Seconds())
			s.a.cfg.Logger.Info("took over a partition", "log", l.String(), "partition", p.ID, "offset", o.stored, "duration", time.Since(begin).Round(time.Millisecond))
		}
	}
	return nil
}

type offsets struct{ first, end uint64 }

// recover brings a partition's state to its progress: first the visitors that the local set does not have, then the
// verdicts that lie beyond progress. The order matters: a visitor may be ahead of progress, and is right only beside the
// verdicts that were stored before it. Totals are read back when they are first needed.
func (s *session) recover(ctx context.Context, o *owned) error {
	a, name, v := s.a, o.log.String(), o.stored
	at, err := read(ctx, a, "list_offsets", func() (offsets, error) {
		first, end, err := a.offsets(ctx, o.log, o.partition)
		return offsets{first, end}, err
	})
	if err != nil {
		return err
	}
	if err := checkEnd(o.log, o.partition, v, at.end); err != nil {
		return err
	}
	a.metrics.Stopped.WithLabelValues(name, partitionLabel(o.partition)).Set(0)
	if o.log.Topic != schema.TopicClicks {
		return nil
	}
	if s.set.Position(o.partition) > schema.Position(v) {
		a.cfg.Logger.Warn("the local visitor set is ahead of ClickHouse and is made anew", "log", name, "partition", o.partition, "position", uint64(s.set.Position(o.partition)), "progress", v)
		if err := s.set.Discard(o.partition); err != nil {
			return err
		}
	}
	if _, err := read(ctx, a, "read_visitors", func() (struct{}, error) { return struct{}{}, s.restore(ctx, o) }); err != nil {
		return err
	}
	_, err = read(ctx, a, "read_verdicts", func() (struct{}, error) {
		return struct{}{}, a.store.Verdicts(ctx, name, o.partition, v, func(offset uint64, verdict schema.Verdict, linkUnique bool, version uint16) {
			o.fold.Keep(offset, fold.Kept{Verdict: verdict, LinkUnique: linkUnique, FoldVersion: version})
		})
	})
	return err
}

// restore reads the visitors that were counted beyond the local set's position. They come in the order of their offsets, so
// the set can be flushed on the way and memory stays bounded however many there are.
func (s *session) restore(ctx context.Context, o *owned) error {
	from := uint64(s.set.Position(o.partition))
	return s.a.store.Visitors(ctx, o.log.String(), o.partition, from, func(rows []schema.VisitorRow) error {
		if err := o.fold.Restore(rows); err != nil {
			return err
		}
		// The last offset may go on in the next piece; all before it are complete.
		if last := rows[len(rows)-1].Position; last <= o.stored {
			return s.set.Flush(o.partition, schema.Position(last))
		}
		return nil
	})
}
