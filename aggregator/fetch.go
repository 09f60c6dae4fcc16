package aggregator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"waymark/aggregator/fold"
	"waymark/schema"
)

const (
	// fetchBytes bounds one answer of a broker, and with it how much is read ahead per partition.
	fetchBytes = 1 << 20
	// fetchWait is how long the broker holds a request that it has nothing for. It answers as soon as it has a byte.
	fetchWait = 500 * time.Millisecond
	// fetchTimeout is when a request that was not answered is given up.
	fetchTimeout = fetchWait + 10*time.Second
)

// chunk is what one fetch has read of a partition.
type chunk struct {
	owned   *owned
	records []fold.Record
	// end is the offset after the partition's last record, as the broker knew it.
	end uint64
	// err says that the partition cannot be read on.
	err error
}

// fetch reads a partition from the offset on and hands it over in pieces, until the context ends or the offset is gone.
func (s *session) fetch(ctx context.Context, o *owned, offset uint64) {
	for try := 0; ctx.Err() == nil; {
		c, err := s.a.read(ctx, o.log, o.partition, offset)
		switch {
		case err == nil:
			try = 0
		case errors.Is(err, kafka.OffsetOutOfRange):
			c.err = fmt.Errorf("cannot read %s/%d on: offset %d is gone from Kafka: %w", o.log, o.partition, offset, err)
		default:
			s.a.retry(ctx, "fetch", try, err)
			try++
			continue
		}
		if len(c.records) > 0 {
			offset = c.records[len(c.records)-1].Offset + 1
		}
		c.owned = o
		select {
		case s.chunks <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// read makes one fetch. The records lie at or behind the offset: a broker answers in whole batches.
func (a *Aggregator) read(ctx context.Context, l schema.Log, partition uint16, offset uint64) (chunk, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	resp, err := a.cfg.Kafka.Fetch(ctx, &kafka.FetchRequest{
		Topic: l.String(), Partition: int(partition), Offset: int64(offset), MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait,
		IsolationLevel: kafka.ReadCommitted,
	})
	if err != nil {
		return chunk{}, fmt.Errorf("cannot fetch %s/%d at %d: %w", l, partition, offset, err)
	}
	if c, ok := resp.Records.(io.Closer); ok {
		defer c.Close()
	}
	if resp.Error != nil {
		return chunk{}, fmt.Errorf("cannot fetch %s/%d at %d: %w", l, partition, offset, resp.Error)
	}
	c := chunk{end: uint64(max(resp.HighWatermark, 0))}
	for {
		rec, err := resp.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			// What was read before is whole; the rest is read again.
			if len(c.records) > 0 {
				return c, nil
			}
			return chunk{}, fmt.Errorf("cannot read the answer for %s/%d at %d: %w", l, partition, offset, err)
		}
		r, err := copyRecord(rec)
		if err != nil {
			return chunk{}, fmt.Errorf("cannot read the record at %s/%d/%d: %w", l, partition, rec.Offset, err)
		}
		if r.Offset >= offset {
			c.records = append(c.records, r)
		}
	}
}

func copyRecord(rec *kafka.Record) (fold.Record, error) {
	r := fold.Record{Offset: uint64(rec.Offset)}
	var err error
	if rec.Key != nil {
		if r.Key, err = protocol.ReadAll(rec.Key); err != nil {
			return r, err
		}
	}
	if rec.Value != nil {
		if r.Value, err = protocol.ReadAll(rec.Value); err != nil {
			return r, err
		}
	}
	for _, h := range rec.Headers {
		if h.Key == schema.HeaderKey {
			r.Header = append([]byte(nil), h.Value...)
		}
	}
	return r, nil
}
