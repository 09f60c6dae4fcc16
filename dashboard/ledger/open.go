package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"waymark/schema"
)

// number is the last number given out in a partition of the ledger log, under the session's epoch.
type number struct {
	last  uint64
	dirty bool
}

// epochStart names the session's outbox as an edge.
type epochStart struct {
	edge  schema.EdgeID
	epoch schema.Epoch
}

// outboxRecord is a record on its way to the ledger log.
type outboxRecord struct {
	id         uint64
	partition  int
	header     []byte
	key, value []byte
}

func random64() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// open reads what SQL holds and begins an epoch, whose open records become the outbox's last.
func (b *book) open(ctx context.Context) error {
	return b.l.config.Database.Update(ctx, func(tx *sql.Tx) error {
		b.tx = tx
		defer func() { b.tx = nil }()
		if err := b.l.config.Database.CheckLease(ctx, tx, leaseName, b.l.holder); err != nil {
			return err
		}
		if err := b.load(ctx); err != nil {
			return fmt.Errorf("cannot read the progress of %s: %w", b.l.conversions, err)
		}
		if err := b.beginEpoch(ctx); err != nil {
			return fmt.Errorf("cannot begin an epoch of the ledger's outbox: %w", err)
		}
		return nil
	})
}

func (b *book) load(ctx context.Context) error {
	for i := range b.l.config.ConversionPartitions {
		b.partitions = append(b.partitions, newPartition(i))
	}
	each := func(query string, scan func(*sql.Rows) error) error {
		rows, err := b.tx.QueryContext(ctx, query, b.l.conversions)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	at := func(number int) *partition {
		for len(b.partitions) <= number {
			b.partitions = append(b.partitions, newPartition(len(b.partitions)))
		}
		return b.partitions[number]
	}
	var number int
	var edge, epoch int64
	err := each(`SELECT partition, next_offset FROM ledger_offsets WHERE log = $1 ORDER BY partition`, func(rows *sql.Rows) error {
		var next int64
		err := rows.Scan(&number, &next)
		at(number).next = next
		return err
	})
	if err != nil {
		return err
	}
	if n := len(b.partitions); n > b.l.config.ConversionPartitions {
		return fmt.Errorf("%d partitions were read once, and now there are %d: a log never changes its partitions", n, b.l.config.ConversionPartitions)
	}
	err = each(`SELECT partition, edge, epoch, last_number FROM ledger_watermarks WHERE log = $1`, func(rows *sql.Rows) error {
		var last int64
		err := rows.Scan(&number, &edge, &epoch, &last)
		at(number).mark(source{schema.EdgeID(edge), schema.Epoch(epoch)}).last = uint64(last)
		return err
	})
	if err != nil {
		return err
	}
	err = each(`SELECT partition, edge, epoch, first_number, last_number FROM ledger_gaps WHERE log = $1`, func(rows *sql.Rows) error {
		var first, last int64
		err := rows.Scan(&number, &edge, &epoch, &first, &last)
		w := at(number).mark(source{schema.EdgeID(edge), schema.Epoch(epoch)})
		w.gaps = append(w.gaps, span{uint64(first), uint64(last)})
		slices.SortFunc(w.gaps, func(a, b span) int {
			if a.first < b.first {
				return -1
			}
			return 1
		})
		return err
	})
	if err != nil {
		return err
	}
	return each(`SELECT partition, edge, tick_ms FROM ledger_ticks WHERE log = $1`, func(rows *sql.Rows) error {
		var millis int64
		err := rows.Scan(&number, &edge, &millis)
		at(number).ticks[schema.EdgeID(edge)] = millis
		return err
	})
}

func (b *book) beginEpoch(ctx context.Context) error {
	var edge int64
	err := b.tx.QueryRowContext(ctx, `SELECT edge FROM ledger_edge WHERE id = 1`).Scan(&edge)
	if errors.Is(err, sql.ErrNoRows) {
		edge = int64(random64())
		err = nil
	}
	if err != nil {
		return err
	}
	e := epochStart{edge: schema.EdgeID(edge), epoch: schema.Epoch(random64())}
	if _, err := b.tx.ExecContext(ctx, `INSERT INTO ledger_edge (id, edge, epoch) VALUES (1, $1, $2)
		ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch`, edge, int64(e.epoch)); err != nil {
		return err
	}
	b.tally = newTally()
	b.epochStart = e
	b.numbers = make([]number, b.l.config.LedgerPartitions)
	for i := range b.numbers {
		var previous, last int64
		err := b.tx.QueryRowContext(ctx, `SELECT epoch, last_number FROM ledger_numbers WHERE log = $1 AND partition = $2`, b.l.ledger, i).Scan(&previous, &last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		open := &schema.Open{PreviousEpoch: uint64(previous), PreviousLast: uint64(last), OpenedMs: time.Now().UnixMilli()}
		value, err := open.MarshalVT()
		if err != nil {
			return err
		}
		b.put(i, schema.RecordOpen, nil, value)
	}
	return b.storePending(ctx, &b.lastRecord)
}

// put numbers a record for a partition of the ledger log.
func (b *book) put(partition int, typ schema.RecordType, key, value []byte) {
	n := &b.numbers[partition]
	n.last, n.dirty = n.last+1, true
	h := schema.Header{Version: schema.Version, Type: typ, Edge: b.epochStart.edge, Epoch: b.epochStart.epoch, Number: n.last}
	b.pending = append(b.pending, outboxRecord{partition: partition, header: h.Append(nil), key: notNil(key), value: value})
}

// putEntry books an entry for the ledger log.
func (b *book) putEntry(e *schema.LedgerEntry) error {
	value, err := e.MarshalVT()
	if err != nil {
		return fmt.Errorf("cannot encode entry %d: %w", e.EntryId, err)
	}
	partition := int(e.PartnershipId % uint64(len(b.numbers)))
	b.put(partition, schema.RecordLedgerEntry, strconv.AppendUint(nil, e.PartnershipId, 10), value)
	return nil
}

// storePending writes the transaction's records into the outbox, and the numbers they took.
func (b *book) storePending(ctx context.Context, last *uint64) error {
	if len(b.pending) == 0 {
		return nil
	}
	first, err := b.l.config.Database.NextIDs(ctx, b.tx, "ledger record", len(b.pending))
	if err != nil {
		return err
	}
	for i, r := range b.pending {
		*last = first + uint64(i)
		if _, err := b.tx.ExecContext(ctx, `INSERT INTO ledger_outbox (id, log, partition, header, key, value) VALUES ($1, $2, $3, $4, $5, $6)`,
			int64(*last), b.l.ledger, r.partition, r.header, r.key, r.value); err != nil {
			return fmt.Errorf("cannot store a record for %s: %w", b.l.ledger, err)
		}
	}
	b.pending = nil
	for i := range b.numbers {
		if !b.numbers[i].dirty {
			continue
		}
		if _, err := b.tx.ExecContext(ctx, `INSERT INTO ledger_numbers (log, partition, epoch, last_number) VALUES ($1, $2, $3, $4)
			ON CONFLICT (log, partition) DO UPDATE SET epoch = excluded.epoch, last_number = excluded.last_number`,
			b.l.ledger, i, int64(b.epochStart.epoch), int64(b.numbers[i].last)); err != nil {
			return fmt.Errorf("cannot store the numbers of %s: %w", b.l.ledger, err)
		}
		b.numbers[i].dirty = false
	}
	return nil
}
