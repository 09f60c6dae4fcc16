package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"waymark/schema"
)

const (
	// maxRecords is how many records one transaction takes in, at least one chunk.
	maxRecords = 2000
	// tidyEvery is how often acknowledged records of the outbox are removed when nothing else is written.
	tidyEvery = time.Second
	// tickStoreEvery is how often ticks alone are written to SQL.
	tickStoreEvery = 10 * time.Second
	// maxPayload bounds what is kept of a record that cannot be used.
	maxPayload = 4096
	// maxMillis is the end of the year 2105: later times have no quarter hour.
	maxMillis = 4291747200000
)

// book is the state of one session. It belongs to one goroutine.
type book struct {
	l          *Ledger
	partitions []*partition
	numbers    []number
	epochStart epochStart
	owners     map[uint64]owner
	// lastRecord is the id of the outbox's last record; removed, up to which acknowledged ones are gone from SQL.
	lastRecord, removed uint64
	stored              time.Time

	// Of the transaction under way.
	tx      *sql.Tx
	tally   *tally
	pending []outboxRecord
}

// run takes in what the fetchers read, until something fails or the context ends.
func (b *book) run(ctx context.Context, chunks <-chan chunk, out *sender) error {
	b.stored = time.Now()
	timer := time.NewTicker(tidyEvery)
	defer timer.Stop()
	for {
		var batch []chunk
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-chunks:
			batch = drain(c, chunks)
		case <-timer.C:
		}
		if err := b.take(ctx, batch, out); err != nil {
			return err
		}
	}
}

// drain adds what else waits.
func drain(c chunk, chunks <-chan chunk) []chunk {
	batch, n := []chunk{c}, len(c.records)
	for n < maxRecords {
		select {
		case c := <-chunks:
			batch, n = append(batch, c), n+len(c.records)
		default:
			return batch
		}
	}
	return batch
}

// take brings chunks into SQL in one transaction, and tells the sender.
func (b *book) take(ctx context.Context, batch []chunk, out *sender) error {
	idle := b.onlyTicks(batch)
	if idle && time.Since(b.stored) < tickStoreEvery && out.acked.Load() <= b.removed {
		// Ticks need no transaction: an offset that is older makes them read again.
		b.tally = newTally()
		for _, c := range batch {
			b.ticks(c)
		}
		out.publish(b.lastRecord, leastTick(b.partitions))
		return nil
	}
	began := time.Now()
	acked := out.acked.Load()
	b.tally, b.pending = newTally(), nil
	last := b.lastRecord
	err := b.l.config.Database.Update(ctx, func(tx *sql.Tx) error {
		b.tx = tx
		return b.write(ctx, batch, acked, &last)
	})
	b.tx = nil
	if err != nil {
		return err
	}
	b.lastRecord, b.removed, b.stored = last, max(b.removed, acked), time.Now()
	b.l.config.Metrics.seconds.Observe(time.Since(began).Seconds())
	b.l.config.Metrics.add(b.tally)
	b.l.publish(b)
	out.publish(b.lastRecord, leastTick(b.partitions))
	return nil
}

func (b *book) onlyTicks(batch []chunk) bool {
	for _, c := range batch {
		for _, r := range c.records {
			h, err := schema.ParseHeader(r.header)
			if err != nil || h.Version != schema.Version || h.Type != schema.RecordTick {
				return false
			}
		}
	}
	return true
}

func (b *book) ticks(c chunk) {
	p := b.partitions[c.partition]
	for _, r := range c.records {
		h, err := schema.ParseHeader(r.header)
		var t schema.Tick
		if err != nil || t.UnmarshalVT(r.value) != nil || t.TimeMs < 0 || t.TimeMs >= maxMillis {
			continue
		}
		p.tick(source{h.Edge, h.Epoch}, h.Number, t.TimeMs)
	}
}

// write does all of one transaction.
func (b *book) write(ctx context.Context, batch []chunk, acked uint64, last *uint64) error {
	if err := b.l.config.Database.CheckLease(ctx, b.tx, leaseName, b.l.holder); err != nil {
		return err
	}
	for _, c := range batch {
		for _, r := range c.records {
			if err := b.record(ctx, b.partitions[c.partition], r); err != nil {
				return err
			}
		}
	}
	for _, p := range b.partitions {
		if err := b.storePartition(ctx, p); err != nil {
			return err
		}
	}
	if acked > b.removed {
		if _, err := b.tx.ExecContext(ctx, `DELETE FROM ledger_outbox WHERE id <= $1 AND log = $2`, int64(acked), b.l.ledger); err != nil {
			return fmt.Errorf("cannot tidy the outbox: %w", err)
		}
	}
	return b.storePending(ctx, last)
}

// The reasons for which a record cannot be used.
const (
	poisonHeader  = "header"
	poisonVersion = "version"
	poisonNumber  = "number"
	poisonType    = "type"
	poisonPayload = "payload"
	poisonValue   = "value"
)

// record takes in one record.
func (b *book) record(ctx context.Context, p *partition, r record) error {
	if r.offset < p.next {
		return nil
	}
	p.next, p.dirty = r.offset+1, true
	h, err := schema.ParseHeader(r.header)
	if err != nil {
		return b.poison(ctx, p, r, poisonHeader)
	}
	from := source{h.Edge, h.Epoch}
	if h.Type != schema.RecordTick {
		if h.Number == 0 {
			return b.poison(ctx, p, r, poisonNumber)
		}
		if !p.mark(from).accept(h.Number) {
			b.tally.duplicates++
			return nil
		}
	}
	if h.Version != schema.Version {
		return b.poison(ctx, p, r, poisonVersion)
	}
	switch h.Type {
	case schema.RecordTick:
		return b.control(ctx, p, r, new(schema.Tick), func(m message) bool {
			t := m.(*schema.Tick).TimeMs
			if t >= 0 && t < maxMillis {
				p.tick(from, h.Number, t)
			}
			return t >= 0 && t < maxMillis
		})
	case schema.RecordOpen:
		return b.control(ctx, p, r, new(schema.Open), func(m message) bool {
			if o := m.(*schema.Open); o.PreviousEpoch != 0 {
				p.mark(source{h.Edge, schema.Epoch(o.PreviousEpoch)}).expect(o.PreviousLast)
			}
			return true
		})
	case schema.RecordHole:
		return b.control(ctx, p, r, new(schema.Hole), func(m message) bool {
			o := m.(*schema.Hole)
			if o.First == 0 || o.First > o.Last {
				return false
			}
			p.mark(source{h.Edge, schema.Epoch(o.Epoch)}).lose(span{o.First, o.Last})
			return true
		})
	case schema.RecordEnd:
		return nil
	case schema.RecordConversion:
		var c schema.Conversion
		if err := c.UnmarshalVT(r.value); err != nil {
			return b.poison(ctx, p, r, poisonPayload)
		}
		if !usable(&c) {
			return b.poison(ctx, p, r, poisonValue)
		}
		return b.conversion(ctx, &c, r.value)
	}
	return b.poison(ctx, p, r, poisonType)
}

type message interface{ UnmarshalVT([]byte) error }

// control reads a record about the log itself.
func (b *book) control(ctx context.Context, p *partition, r record, m message, use func(message) bool) error {
	if m.UnmarshalVT(r.value) != nil {
		return b.poison(ctx, p, r, poisonPayload)
	}
	if !use(m) {
		return b.poison(ctx, p, r, poisonValue)
	}
	return nil
}

func (b *book) poison(ctx context.Context, p *partition, r record, reason string) error {
	b.tally.poison[reason]++
	_, err := b.tx.ExecContext(ctx, `INSERT INTO ledger_poison (log, partition, "offset", reason, header, payload, payload_size)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, b.l.conversions, p.number, r.offset, reason,
		notNil(r.header[:min(len(r.header), maxPayload)]), notNil(r.value[:min(len(r.value), maxPayload)]), len(r.value))
	if err != nil {
		return fmt.Errorf("cannot keep the record at %s/%d/%d: %w", b.l.conversions, p.number, r.offset, err)
	}
	return nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (b *book) storePartition(ctx context.Context, p *partition) error {
	exec := func(query string, args ...any) error {
		_, err := b.tx.ExecContext(ctx, query, append([]any{b.l.conversions, p.number}, args...)...)
		return err
	}
	var errs []error
	if p.dirty {
		errs = append(errs, exec(`INSERT INTO ledger_offsets (log, partition, next_offset) VALUES ($1, $2, $3)
			ON CONFLICT (log, partition) DO UPDATE SET next_offset = excluded.next_offset`, p.next))
		for edge, millis := range p.ticks {
			errs = append(errs, exec(`INSERT INTO ledger_ticks (log, partition, edge, tick_ms) VALUES ($1, $2, $3, $4)
				ON CONFLICT (log, partition, edge) DO UPDATE SET tick_ms = excluded.tick_ms`, int64(edge), millis))
		}
		p.dirty = false
	}
	for s, w := range p.marks {
		if w.dirty {
			errs = append(errs, exec(`INSERT INTO ledger_watermarks (log, partition, edge, epoch, last_number) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (log, partition, edge, epoch) DO UPDATE SET last_number = excluded.last_number`, int64(s.edge), int64(s.epoch), int64(w.last)))
		}
		if w.holed {
			errs = append(errs, exec(`DELETE FROM ledger_gaps WHERE log = $1 AND partition = $2 AND edge = $3 AND epoch = $4`, int64(s.edge), int64(s.epoch)))
			for _, g := range w.gaps {
				errs = append(errs, exec(`INSERT INTO ledger_gaps (log, partition, edge, epoch, first_number, last_number) VALUES ($1, $2, $3, $4, $5, $6)`,
					int64(s.edge), int64(s.epoch), int64(g.first), int64(g.last)))
			}
		}
		w.dirty, w.holed = false, false
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot store the progress of %s/%d: %w", b.l.conversions, p.number, err)
	}
	return nil
}
