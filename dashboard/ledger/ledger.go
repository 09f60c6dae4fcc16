package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"waymark/schema"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

const leaseName = "ledger"

// Database is the SQL database, whose migrations make the ledger's tables. *store.Store is one.
type Database interface {
	// Update runs fn in a transaction; no two run at once.
	Update(ctx context.Context, fn func(*sql.Tx) error) error
	// Reader returns connections that only read.
	Reader() *sql.DB
	// NextIDs gives out n numbers of a kind and returns the first.
	NextIDs(ctx context.Context, tx *sql.Tx, kind string, n int) (uint64, error)
	TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	CheckLease(ctx context.Context, tx *sql.Tx, name, holder string) error
	DropLease(ctx context.Context, name, holder string) error
}

// Config says what a ledger works on.
type Config struct {
	Database Database
	Kafka    *kafka.Client
	ClickIDs *schema.ClickIDs
	// Generation of both logs; 0 means 1.
	Generation uint32
	// ConversionPartitions and LedgerPartitions are the logs' numbers of partitions; 0 means 2 and 1.
	ConversionPartitions int
	LedgerPartitions     int
	// Window is how long after a click a conversion is credited for it; 0 means 90 days.
	Window time.Duration
	// TickEvery is how often the ledger log gets a tick; 0 means 500 ms.
	TickEvery time.Duration
	// Lease is for how long others are kept off; 0 means 10 s.
	Lease time.Duration
	// Logger and Metrics may be nil.
	Logger  *slog.Logger
	Metrics *Metrics
}

func (c *Config) fill() error {
	if c.Database == nil || c.Kafka == nil || c.ClickIDs == nil {
		return errors.New("BUG: a ledger needs a database, Kafka and click ids")
	}
	number := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	span := func(s *time.Duration, d time.Duration) {
		if *s == 0 {
			*s = d
		}
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	number(&c.ConversionPartitions, 2)
	number(&c.LedgerPartitions, 1)
	span(&c.Window, 90*24*time.Hour)
	span(&c.TickEvery, 500*time.Millisecond)
	span(&c.Lease, 10*time.Second)
	if c.ConversionPartitions < 1 || c.LedgerPartitions < 1 || c.Window < 0 || c.Lease < time.Second {
		return fmt.Errorf("cannot keep a ledger of %d and %d partitions with a window of %s under a lease of %s",
			c.ConversionPartitions, c.LedgerPartitions, c.Window, c.Lease)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	return nil
}

// Ledger keeps the ledger. Its methods are safe for concurrent use; Run may be called once.
type Ledger struct {
	config      Config
	conversions string
	ledger      string
	holder      string
	stuck       atomic.Int32

	mu      sync.Mutex
	offsets map[int]int64

	// logged is when a failure was last logged, in nanoseconds since start.
	logged atomic.Int64
	start  time.Time
}

// New returns a ledger. It returns an error for a configuration that makes no sense.
func New(c Config) (*Ledger, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	return &Ledger{
		config: c, holder: rand.Text(), start: time.Now(), offsets: map[int]int64{},
		conversions: schema.Log{Topic: schema.TopicConversions, Generation: c.Generation}.String(),
		ledger:      schema.Log{Topic: schema.TopicLedger, Generation: c.Generation}.String(),
	}, nil
}

// Offsets returns the next offset of each partition of the conversions log: what lies before is in SQL for good. It is
// empty while another process keeps the ledger.
func (l *Ledger) Offsets() map[int]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	offsets := make(map[int]int64, len(l.offsets))
	for p, o := range l.offsets {
		offsets[p] = o
	}
	return offsets
}

// Ready returns an error while a partition cannot be read on.
func (l *Ledger) Ready() error {
	if n := l.stuck.Load(); n > 0 {
		return fmt.Errorf("cannot read %d partitions of %s on: their next record is gone", n, l.conversions)
	}
	return nil
}

// Run keeps the ledger until the context ends, whatever fails meanwhile. It returns nil.
func (l *Ledger) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		taken, err := l.config.Database.TakeLease(ctx, leaseName, l.holder, l.config.Lease)
		if err != nil {
			l.failed(ctx, "lease", err)
		}
		if taken {
			l.config.Metrics.leading.Set(1)
			err := l.session(ctx)
			l.config.Metrics.leading.Set(0)
			l.setOffsets(nil)
			l.failed(ctx, "session", err)
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		sleep(ctx, l.config.Lease/5)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := l.config.Database.DropLease(ctx, leaseName, l.holder); err != nil {
		l.failed(ctx, "lease", err)
	}
	return nil
}

// session keeps the ledger from what SQL holds, until something fails or the context ends.
func (l *Ledger) session(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &book{l: l, owners: map[uint64]owner{}}
	if err := b.open(ctx); err != nil {
		return err
	}
	l.publish(b)
	out := newSender(l, b.epochStart)
	out.publish(b.lastRecord, leastTick(b.partitions))
	chunks := make(chan chunk, len(b.partitions))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { cancel(l.renew(ctx)) })
	wg.Go(func() { out.run(ctx) })
	for _, p := range b.partitions {
		number, next := p.number, p.next
		wg.Go(func() { l.fetch(ctx, number, next, chunks) })
	}
	if err := b.run(ctx, chunks, out); err != nil && ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// renew prolongs the lease, and returns when it is lost or the context ends.
func (l *Ledger) renew(ctx context.Context) error {
	last := time.Now()
	for sleep(ctx, l.config.Lease/4) {
		asked := time.Now()
		taken, err := l.config.Database.TakeLease(ctx, leaseName, l.holder, l.config.Lease)
		switch {
		case taken:
			last = asked
		case err == nil, time.Since(last) > l.config.Lease:
			return errors.New("the lease is lost")
		default:
			l.failed(ctx, "lease", err)
		}
	}
	return nil
}

func (l *Ledger) publish(b *book) {
	offsets := map[int]int64{}
	for _, p := range b.partitions {
		offsets[p.number] = p.next
	}
	l.setOffsets(offsets)
	l.config.Metrics.gaps.Set(float64(openGaps(b.partitions)))
}

func (l *Ledger) setOffsets(offsets map[int]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offsets = offsets
}

// failed counts a failure, unless the context's end is the reason, and logs one in ten seconds.
func (l *Ledger) failed(ctx context.Context, step string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	l.config.Metrics.errors.WithLabelValues(step).Inc()
	now := int64(time.Since(l.start)) + 1
	if last := l.logged.Load(); (last == 0 || now-last > int64(10*time.Second)) && l.logged.CompareAndSwap(last, now) {
		l.config.Logger.Warn("the ledger tries again", "step", step, "error", err)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
