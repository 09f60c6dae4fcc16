package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"waymark/dashboard/store"
	"waymark/schema"

	"github.com/segmentio/kafka-go"
)

const (
	fetchBytes   = 1 << 20
	fetchWait    = 250 * time.Millisecond
	fetchTimeout = 10 * time.Second
)

// compare sends what the topic does not hold as SQL does, among the records up to the version at which following
// starts. It reports false when the context ended before.
func (r *Relay) compare(ctx context.Context, upTo uint64) bool {
	var held map[string]uint64
	if !r.retry(ctx, "cannot compare the catalog with its topic", func() (err error) {
		held, err = r.readTopic(ctx)
		return err
	}) {
		return false
	}
	var after uint64
	ahead := 0
	for more := true; more; {
		if !r.retry(ctx, "cannot send the catalog again", func() error {
			// What changes from now on has a higher version and is the follower's: with the lock held, it comes after this.
			r.sending.Lock()
			defer r.sending.Unlock()
			records, err := r.config.Store.CatalogAfter(ctx, after, batch)
			if err != nil {
				return err
			}
			var stale []store.OutboxRecord
			for _, rec := range records {
				if held[rec.Key] > upTo {
					ahead++
				}
				if rec.Version <= upTo && held[rec.Key] != rec.Version {
					stale = append(stale, rec)
				}
			}
			if len(stale) > 0 {
				if err := r.send(ctx, stale); err != nil {
					return err
				}
				r.config.Metrics.resent.Add(float64(len(stale)))
			}
			more = len(records) == batch && records[batch-1].Version < upTo
			if more {
				after = records[batch-1].Version
			}
			return nil
		}) {
			return false
		}
	}
	if ahead > 0 {
		r.config.Logger.Error("the catalog's topic is ahead of the database, which looks like an old copy of itself; edges keep what the topic says",
			"topic", r.topic, "records", ahead)
	}
	return true
}

// readTopic returns the version of the last record of each key, up to the end found now.
func (r *Relay) readTopic(ctx context.Context) (map[string]uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := r.config.Kafka.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{r.topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the ends of %s: %w", r.topic, err)
	}
	partitions := response.Topics[r.topic]
	if len(partitions) != 1 {
		return nil, fmt.Errorf("cannot find the ends of %s: the answer has %d partitions", r.topic, len(partitions))
	}
	if partitions[0].Error != nil {
		return nil, fmt.Errorf("cannot find the ends of %s: %w", r.topic, partitions[0].Error)
	}
	held := map[string]uint64{}
	for offset, end := partitions[0].FirstOffset, partitions[0].LastOffset; offset < end; {
		next, err := r.readSome(ctx, offset, held)
		if err != nil {
			return nil, err
		}
		// A batch whose records were all compacted away is empty, and still takes its offsets.
		offset = max(next, offset+1)
	}
	return held, nil
}

// readSome reads one answer of the broker and returns the offset behind it.
func (r *Relay) readSome(ctx context.Context, offset int64, held map[string]uint64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	response, err := r.config.Kafka.Fetch(ctx, &kafka.FetchRequest{
		Topic: r.topic, Offset: offset, MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait,
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return offset, fmt.Errorf("cannot read %s at %d: %w", r.topic, offset, err)
	}
	if c, ok := response.Records.(io.Closer); ok {
		defer c.Close()
	}
	next := offset
	for {
		rec, err := response.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		if err != nil {
			if next > offset {
				return next, nil
			}
			return offset, fmt.Errorf("cannot read %s at %d: %w", r.topic, next, err)
		}
		if rec.Offset < next {
			continue
		}
		next = rec.Offset + 1
		key, err := kafka.ReadAll(rec.Key)
		if err != nil {
			return offset, fmt.Errorf("cannot read a key of %s at %d: %w", r.topic, rec.Offset, err)
		}
		value, err := kafka.ReadAll(rec.Value)
		if err != nil {
			return offset, fmt.Errorf("cannot read a value of %s at %d: %w", r.topic, rec.Offset, err)
		}
		// A record that is none of ours is overwritten by ours.
		var record schema.CatalogRecord
		version := uint64(0)
		if record.UnmarshalVT(value) == nil && record.CatalogKey() == string(key) {
			version = record.Version
		}
		held[string(key)] = version
	}
}
