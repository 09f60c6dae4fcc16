package ledger

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"waymark/schema"

	"github.com/segmentio/kafka-go"
)

const (
	sendBatch   = 500
	sendTimeout = 10 * time.Second
)

// sender sends the outbox in the order of its ids, one request per partition at a time.
type sender struct {
	l *Ledger
	epochStart
	// acked is the id of the last record that Kafka has acknowledged with all before it.
	acked atomic.Uint64
	// numbers are the last ones acknowledged in each partition, under the session's epoch.
	numbers []uint64
	wake    chan struct{}

	mu   sync.Mutex
	last uint64
	tick int64
}

func newSender(l *Ledger, e epochStart) *sender {
	return &sender{l: l, epochStart: e, numbers: make([]uint64, l.config.LedgerPartitions), wake: make(chan struct{}, 1)}
}

// publish says that records up to the id are in SQL, and that nothing before the tick's time will follow them.
func (s *sender) publish(last uint64, tick int64) {
	s.mu.Lock()
	grown := last > s.last
	s.last, s.tick = last, tick
	s.mu.Unlock()
	if grown {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *sender) published() (last uint64, tick int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.tick
}

func (s *sender) run(ctx context.Context) {
	ticker := time.NewTicker(s.l.config.TickEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-ticker.C:
			due = true
		}
		// The tick is read before the records are sent that it covers.
		last, tick := s.published()
		if s.drain(ctx, last) && due && tick > 0 {
			s.sendTicks(ctx, tick)
		}
	}
}

// drain sends the records up to an id, however long it takes, and reports false when the context ended before.
func (s *sender) drain(ctx context.Context, last uint64) bool {
	for s.acked.Load() < last {
		records, err := s.read(ctx)
		if err != nil {
			s.l.failed(ctx, "outbox", err)
			if !sleep(ctx, 100*time.Millisecond) {
				return false
			}
			continue
		}
		if len(records) == 0 {
			// The rest has been acknowledged in an earlier session.
			s.acked.Store(last)
			return true
		}
		byPartition := make([][]outboxRecord, len(s.numbers))
		for _, r := range records {
			byPartition[r.partition] = append(byPartition[r.partition], r)
		}
		for partition, part := range byPartition {
			if len(part) > 0 && !s.sendAll(ctx, partition, part) {
				return false
			}
		}
		s.acked.Store(records[len(records)-1].id)
		s.l.config.Metrics.sent.Add(float64(len(records)))
	}
	return true
}

func (s *sender) read(ctx context.Context) ([]outboxRecord, error) {
	rows, err := s.l.config.Database.Reader().QueryContext(ctx, `SELECT id, partition, header, key, value FROM ledger_outbox
		WHERE id > $1 AND log = $2 ORDER BY id LIMIT $3`, int64(s.acked.Load()), s.l.ledger, sendBatch)
	if err != nil {
		return nil, fmt.Errorf("cannot read the outbox: %w", err)
	}
	defer rows.Close()
	var records []outboxRecord
	for rows.Next() {
		var r outboxRecord
		if err := rows.Scan(&r.id, &r.partition, &r.header, &r.key, &r.value); err != nil {
			return nil, fmt.Errorf("cannot read the outbox: %w", err)
		}
		if r.partition < 0 || r.partition >= len(s.numbers) {
			return nil, fmt.Errorf("cannot send record %d: %s has no partition %d any more", r.id, s.l.ledger, r.partition)
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// sendAll sends records of one partition until Kafka has acknowledged them.
func (s *sender) sendAll(ctx context.Context, partition int, records []outboxRecord) bool {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		messages := make([]kafka.Record, len(records))
		for i, r := range records {
			messages[i] = kafkaRecord(r.header, r.key, r.value)
		}
		err := s.produce(ctx, partition, messages)
		if err == nil {
			break
		}
		s.l.failed(ctx, "send", err)
		if !sleep(ctx, pause) {
			return false
		}
	}
	for _, r := range records {
		if h, err := schema.ParseHeader(r.header); err == nil && h.Epoch == s.epoch {
			s.numbers[partition] = h.Number
		}
	}
	return true
}

// sendTicks sends one tick to each partition. One that fails is not tried again: the next one says more.
func (s *sender) sendTicks(ctx context.Context, millis int64) {
	value, err := (&schema.Tick{TimeMs: millis}).MarshalVT()
	if err != nil {
		s.l.failed(ctx, "tick", err)
		return
	}
	for partition, number := range s.numbers {
		h := schema.Header{Version: schema.Version, Type: schema.RecordTick, Edge: s.edge, Epoch: s.epoch, Number: number}
		if err := s.produce(ctx, partition, []kafka.Record{kafkaRecord(h.Append(nil), nil, value)}); err != nil {
			s.l.failed(ctx, "tick", err)
		}
	}
}

func kafkaRecord(header, key, value []byte) kafka.Record {
	r := kafka.Record{Value: kafka.NewBytes(value), Headers: []kafka.Header{{Key: schema.HeaderKey, Value: header}}}
	if len(key) > 0 {
		r.Key = kafka.NewBytes(key)
	}
	return r
}

func (s *sender) produce(ctx context.Context, partition int, records []kafka.Record) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	response, err := s.l.config.Kafka.Produce(ctx, &kafka.ProduceRequest{
		Topic: s.l.ledger, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return fmt.Errorf("cannot send %d records to %s/%d: %w", len(records), s.l.ledger, partition, err)
	}
	return nil
}
