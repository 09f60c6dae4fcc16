package links

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// The pauses between attempts to reach Kafka.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Source says how the catalog topic is read.
type Source struct {
	Brokers []string
	// Dialer may be nil.
	Dialer *kafka.Dialer
	// Topic is the catalog topic's name. It has one partition.
	Topic string
}

// Follow applies the catalog topic as it grows, from the stored offset, until the context ends. Kafka may come and go.
func (t *Table) Follow(ctx context.Context, s Source) error {
	if s.Dialer == nil {
		s.Dialer = kafka.DefaultDialer
	}
	pause := firstPause
	for ctx.Err() == nil {
		err := t.follow(ctx, s)
		if ctx.Err() != nil {
			break
		}
		t.metrics.followErrors.Inc()
		t.log.Debug("cannot follow the catalog, trying again", "topic", s.Topic, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(pause*2, maxPause)
		}
	}
	return nil
}

// follow reads the topic until something fails.
func (t *Table) follow(ctx context.Context, s Source) error {
	first, end, err := offsets(ctx, s)
	if err != nil {
		return err
	}
	if start := t.Offset(); start > end || start > 0 && start < first {
		t.log.Warn("the catalog topic is not the one that was read before, reading it from its start", "offset", start, "first", first, "end", end)
		t.restart()
	}
	if t.Offset() >= end {
		t.ready.Store(true)
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: s.Brokers, Dialer: s.Dialer, Topic: s.Topic, Partition: 0,
		MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 250 * time.Millisecond, ReadBackoffMin: 10 * time.Millisecond, ReadBackoffMax: 250 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(t.Offset()); err != nil {
		return fmt.Errorf("cannot start at offset %d of %s: %w", t.Offset(), s.Topic, err)
	}
	for {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", s.Topic, err)
		}
		if err := t.Apply(m.Value, m.Offset+1); err != nil {
			return err
		}
		t.metrics.applied.Inc()
		if m.Offset+1 >= end {
			t.ready.Store(true)
		}
	}
}

// offsets returns the first offset of the topic and the one behind its last record.
func offsets(ctx context.Context, s Source) (first, end int64, err error) {
	if len(s.Brokers) == 0 {
		return 0, 0, fmt.Errorf("no broker for %s", s.Topic)
	}
	for _, broker := range s.Brokers {
		var conn *kafka.Conn
		if conn, err = s.Dialer.DialLeader(ctx, "tcp", broker, s.Topic, 0); err != nil {
			continue
		}
		if err = conn.SetDeadline(time.Now().Add(5 * time.Second)); err == nil {
			first, end, err = conn.ReadOffsets()
		}
		conn.Close()
		if err == nil {
			return first, end, nil
		}
	}
	return 0, 0, fmt.Errorf("cannot read the offsets of %s: %w", s.Topic, err)
}
