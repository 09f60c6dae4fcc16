package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"waymark/schema"
)

// Journal is what the forwarder needs of the edge's journal.
type Journal interface {
	Edge() schema.EdgeID
	Epoch() schema.Epoch
	// Read returns synced records behind a position, and where to go on.
	Read(from schema.Position, atMost int) ([]schema.Record, schema.Position, error)
	Synced() schema.Position
	SyncedChanged() <-chan struct{}
	// Appended returns the position up to which records have been handed to the journal so far.
	Appended() schema.Position
	// Forwarded returns what SetForwarded kept, which may be less after a crash.
	Forwarded() schema.Position
	SetForwarded(schema.Position) error
}

// Config is what a forwarder needs.
type Config struct {
	Kafka   *kafka.Client
	Journal Journal
	// Generation of the topics; 0: 1.
	Generation uint32
	// Clicks and Conversions are the numbers of partitions of the two topics.
	Clicks, Conversions int
	// TickEvery is the pause between ticks; 0: 500 ms.
	TickEvery time.Duration
	Logger    *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// The bounds of a round and of one request, in bytes. A broker takes requests of 1 MiB unless it is told otherwise.
const (
	roundBytes   = 4 << 20
	requestBytes = 900 << 10
	keepEvery    = time.Second
	firstPause   = 20 * time.Millisecond
	maxPause     = 2 * time.Second
	timeout      = 10 * time.Second
)

// Forwarder sends a journal to Kafka. Its methods are safe for concurrent use; Run is called once.
type Forwarder struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics
	acked   atomic.Uint64

	mu      sync.Mutex
	changed chan struct{} // closed and made anew when acked has grown

	// The rest belongs to Run.
	lasts    map[slot]schema.Header // the last record sent to each partition
	tick     tick
	nextTick time.Time
	kept     schema.Position
	keptAt   time.Time
}

type slot struct {
	topic     schema.Topic
	partition uint16
}

// tick is a tick that waits until everything before it is acknowledged.
type tick struct {
	due        bool
	timeMillis int64
	position   schema.Position
}

// New returns a forwarder that begins where the one before it stopped, as far as that is known.
func New(cfg Config) (*Forwarder, error) {
	if cfg.Kafka == nil || cfg.Journal == nil {
		return nil, errors.New("cannot forward: no Kafka client or no journal")
	}
	if cfg.Generation == 0 {
		cfg.Generation = 1
	}
	if cfg.TickEvery == 0 {
		cfg.TickEvery = 500 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	f := &Forwarder{cfg: cfg, log: cfg.Logger, metrics: cfg.Metrics, changed: make(chan struct{}), lasts: map[slot]schema.Header{}}
	f.kept = min(cfg.Journal.Forwarded(), cfg.Journal.Synced())
	f.acked.Store(uint64(f.kept))
	return f, nil
}

// Acked returns the position up to which Kafka has acknowledged every record.
func (f *Forwarder) Acked() schema.Position { return schema.Position(f.acked.Load()) }

// Drain waits until Kafka has acknowledged everything that is synced at the moment.
func (f *Forwarder) Drain(ctx context.Context) error {
	end := f.cfg.Journal.Synced()
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if f.Acked() >= end {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("cannot send %d positions of the journal in time: %w", end-f.Acked(), ctx.Err())
		}
	}
}

// Run forwards until the context ends. Kafka may come and go.
func (f *Forwarder) Run(ctx context.Context) error {
	wait := time.NewTimer(f.cfg.TickEvery)
	defer wait.Stop()
	for ctx.Err() == nil {
		more, err := f.round(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if more {
			continue
		}
		wait.Reset(max(time.Until(f.nextTick), time.Millisecond))
		select {
		case <-ctx.Done():
		case <-f.cfg.Journal.SyncedChanged():
		case <-wait.C:
		}
	}
	f.keep(true)
	return nil
}

// round sends what is there and, when it is due, a tick. It returns true when there may be more at once.
func (f *Forwarder) round(ctx context.Context) (more bool, err error) {
	if now := time.Now(); !f.tick.due && !now.Before(f.nextTick) {
		f.tick = tick{due: true, timeMillis: now.UnixMilli()}
		f.tick.position = f.cfg.Journal.Appended()
		f.nextTick = now.Add(f.cfg.TickEvery)
	}
	records, next, err := f.cfg.Journal.Read(f.Acked(), roundBytes)
	if err != nil {
		return false, fmt.Errorf("cannot forward: %w", err)
	}
	if len(records) > 0 {
		if err := f.send(ctx, records); err != nil {
			return false, err
		}
		f.acknowledge(next)
		f.metrics.records.Add(float64(len(records)))
	} else if next > f.Acked() {
		f.acknowledge(next)
	}
	f.metrics.lag.Set(float64(f.cfg.Journal.Synced() - min(f.Acked(), f.cfg.Journal.Synced())))
	if f.tick.due && f.Acked() >= f.tick.position {
		f.tick.due = false
		if err := f.sendTicks(ctx); err != nil {
			return false, err
		}
	}
	f.keep(false)
	return len(records) > 0, nil
}

func (f *Forwarder) acknowledge(position schema.Position) {
	f.acked.Store(uint64(position))
	f.mu.Lock()
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
}

// keep writes down how far Kafka has acknowledged, once in a while.
func (f *Forwarder) keep(now bool) {
	if f.Acked() == f.kept || !now && time.Since(f.keptAt) < keepEvery {
		return
	}
	f.keptAt = time.Now()
	if err := f.cfg.Journal.SetForwarded(f.Acked()); err != nil {
		f.log.Warn("cannot keep how far the journal was forwarded; a restart sends more again than it needs to", "error", err)
		return
	}
	f.kept = f.Acked()
}

// send sends records to their partitions, side by side, and returns when all are acknowledged or the context has ended.
func (f *Forwarder) send(ctx context.Context, records []schema.Record) error {
	split := map[slot][]*schema.Record{}
	for i := range records {
		r := &records[i]
		s := slot{r.Topic, r.Partition}
		split[s] = append(split[s], r)
		f.lasts[s] = r.Header
	}
	return f.each(func(s slot) error {
		for rest := split[s]; len(rest) > 0; {
			n, size := 0, 0
			for n < len(rest) && (n == 0 || size < requestBytes) {
				size += len(rest[n].Key) + len(rest[n].Value) + schema.HeaderSize + 16
				n++
			}
			if err := f.produce(ctx, s, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

// each calls send for every partition at once and returns the first error.
func (f *Forwarder) each(send func(slot) error) error {
	var all sync.WaitGroup
	errs := make(chan error, f.cfg.Clicks+f.cfg.Conversions)
	for _, t := range []struct {
		topic schema.Topic
		n     int
	}{{schema.TopicClicks, f.cfg.Clicks}, {schema.TopicConversions, f.cfg.Conversions}} {
		for p := range t.n {
			all.Go(func() {
				if err := send(slot{t.topic, uint16(p)}); err != nil {
					errs <- err
				}
			})
		}
	}
	all.Wait()
	close(errs)
	return <-errs
}

// sendTicks sends the due tick to every partition.
func (f *Forwarder) sendTicks(ctx context.Context) error {
	message := schema.Tick{TimeMs: f.tick.timeMillis}
	value, err := message.MarshalVT()
	if err != nil {
		return fmt.Errorf("cannot encode a tick: %w", err)
	}
	return f.each(func(s slot) error {
		h := schema.Header{Version: schema.Version, Type: schema.RecordTick, Edge: f.cfg.Journal.Edge(), Epoch: f.cfg.Journal.Epoch()}
		last := f.lasts[s]
		if last.Epoch != h.Epoch {
			return nil // nothing of this epoch has been sent yet
		}
		h.Number = last.Number
		return f.produce(ctx, s, []*schema.Record{{Header: h, Value: value}})
	})
}

// produce sends one request until it is acknowledged or the context has ended.
func (f *Forwarder) produce(ctx context.Context, s slot, records []*schema.Record) error {
	topic := schema.Log{Topic: s.topic, Generation: f.cfg.Generation}.String()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := f.attempt(ctx, topic, int(s.partition), records)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.metrics.note(err)
		f.log.Debug("cannot send to Kafka, trying again", "topic", topic, "partition", s.partition, "records", len(records), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (f *Forwarder) attempt(ctx context.Context, topic string, partition int, records []*schema.Record) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := make([]kafka.Record, len(records))
	headers := make([]byte, 0, len(records)*schema.HeaderSize)
	for i, r := range records {
		start := len(headers)
		headers = r.Header.Append(headers)
		out[i] = kafka.Record{Value: kafka.NewBytes(r.Value), Headers: []kafka.Header{{Key: schema.HeaderKey, Value: headers[start:]}}}
		if len(r.Key) > 0 {
			out[i].Key = kafka.NewBytes(r.Key)
		}
	}
	res, err := f.cfg.Kafka.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(out...),
	})
	if err != nil {
		return err
	}
	if res.Error != nil {
		return res.Error
	}
	for _, err := range res.RecordErrors {
		return err
	}
	return nil
}
