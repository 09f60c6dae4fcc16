package aggregator

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// maxPayload is where a dead letter's payload is cut, in bytes. The record itself stays in its log.
const maxPayload = 64 << 10

// The headers of a dead letter, beside the record's own.
const (
	headerReason    = "reason"
	headerDetail    = "detail"
	headerLog       = "log"
	headerPartition = "partition"
	headerOffset    = "offset"
	headerBytes     = "bytes"
)

// bury sends dead letters to their topic, trying until the context ends. A letter may arrive more than once, under the same
// key.
func (a *Aggregator) bury(ctx context.Context, letters []fold.DeadLetter) error {
	for len(letters) > 0 {
		n, size := 0, 0
		for n < len(letters) && (n == 0 || size < fetchBytes/2) {
			size += min(len(letters[n].Record.Value), maxPayload)
			n++
		}
		for try := 0; ; try++ {
			err := a.produce(ctx, letters[:n])
			if err == nil {
				break
			}
			if a.retry(ctx, "dead_letters", try, err); ctx.Err() != nil {
				return ctx.Err()
			}
		}
		letters = letters[n:]
	}
	return nil
}

func (a *Aggregator) produce(ctx context.Context, letters []fold.DeadLetter) error {
	records := make([]kafka.Record, len(letters))
	now := time.Now()
	for i := range letters {
		records[i] = letterRecord(&letters[i], now)
	}
	topic := a.cfg.deadLetters().String()
	resp, err := a.cfg.Kafka.Produce(ctx, &kafka.ProduceRequest{Topic: topic, Partition: 0, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return fmt.Errorf("cannot write %d dead letters to %s: %w", len(letters), topic, err)
	}
	return nil
}

func letterRecord(d *fold.DeadLetter, now time.Time) kafka.Record {
	partition, offset := strconv.Itoa(int(d.Partition)), strconv.FormatUint(d.Record.Offset, 10)
	value := d.Record.Value
	if len(value) > maxPayload {
		value = value[:maxPayload]
	}
	r := kafka.Record{
		Time: now, Key: kafka.NewBytes([]byte(d.Log + "/" + partition + "/" + offset)), Value: kafka.NewBytes(value),
		Headers: []kafka.Header{
			{Key: headerReason, Value: []byte(d.Reason)}, {Key: headerDetail, Value: []byte(d.Detail)},
			{Key: headerLog, Value: []byte(d.Log)}, {Key: headerPartition, Value: []byte(partition)}, {Key: headerOffset, Value: []byte(offset)},
			{Key: headerBytes, Value: []byte(strconv.Itoa(len(d.Record.Value)))},
		},
	}
	if d.Record.Header != nil {
		r.Headers = append(r.Headers, kafka.Header{Key: schema.HeaderKey, Value: d.Record.Header})
	}
	return r
}
