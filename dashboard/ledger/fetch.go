package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"waymark/schema"

	"github.com/segmentio/kafka-go"
)

const (
	fetchBytes = 1 << 20
	// fetchWait is how long the broker holds a request that it has nothing for; it answers as soon as it has a byte.
	fetchWait    = 500 * time.Millisecond
	fetchTimeout = fetchWait + 10*time.Second
	// stuckPause is how often a partition is tried whose next record is gone.
	stuckPause = 5 * time.Second
)

// record is one record of the conversions log.
type record struct {
	offset int64
	header []byte
	value  []byte
}

// chunk is what one fetch has read of a partition.
type chunk struct {
	partition int
	records   []record
}

// fetch hands over a partition from an offset on, until the context ends.
func (l *Ledger) fetch(ctx context.Context, partition int, next int64, to chan<- chunk) {
	pause, stuck := time.Duration(0), false
	setStuck := func(on bool) {
		if on != stuck {
			n := l.stuck.Add(map[bool]int32{true: 1, false: -1}[on])
			l.config.Metrics.stuck.Set(float64(n))
			stuck = on
		}
	}
	defer setStuck(false)
	for ctx.Err() == nil {
		records, err := l.read(ctx, partition, next)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			if !stuck {
				l.config.Logger.Error("the ledger stands still: the next record of this partition is gone, or the log is not the one it was",
					"topic", l.conversions, "partition", partition, "offset", next)
			}
			setStuck(true)
			sleep(ctx, stuckPause)
			continue
		}
		if err != nil {
			l.failed(ctx, "fetch", err)
			pause = min(max(2*pause, 20*time.Millisecond), time.Second)
			sleep(ctx, pause)
			continue
		}
		pause = 0
		setStuck(false)
		if len(records) == 0 {
			continue
		}
		next = records[len(records)-1].offset + 1
		select {
		case to <- chunk{partition, records}:
		case <-ctx.Done():
		}
	}
}

// read makes one fetch. A broker answers in whole batches, so what lies before the offset is left out.
func (l *Ledger) read(ctx context.Context, partition int, next int64) ([]record, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := l.config.Kafka.Fetch(ctx, &kafka.FetchRequest{
		Topic: l.conversions, Partition: partition, Offset: next, MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait,
		IsolationLevel: kafka.ReadCommitted,
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s/%d at %d: %w", l.conversions, partition, next, err)
	}
	if c, ok := response.Records.(io.Closer); ok {
		defer c.Close()
	}
	if response.HighWatermark < next {
		return nil, fmt.Errorf("cannot fetch %s/%d at %d, beyond its end at %d: %w", l.conversions, partition, next, response.HighWatermark, kafka.OffsetOutOfRange)
	}
	var records []record
	for {
		rec, err := response.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			if len(records) > 0 {
				return records, nil
			}
			return nil, fmt.Errorf("cannot read %s/%d at %d: %w", l.conversions, partition, next, err)
		}
		if rec.Offset < next {
			continue
		}
		r := record{offset: rec.Offset}
		if r.value, err = kafka.ReadAll(rec.Value); err != nil {
			return nil, fmt.Errorf("cannot read %s/%d at %d: %w", l.conversions, partition, rec.Offset, err)
		}
		for _, h := range rec.Headers {
			if h.Key == schema.HeaderKey {
				r.header = append([]byte(nil), h.Value...)
			}
		}
		records = append(records, r)
	}
}
