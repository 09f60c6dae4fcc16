package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"waymark/dashboard/store"
	"waymark/schema"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

const (
	leaseName = "catalog relay"
	// batch is how many records one request carries; they have 300 bytes or so.
	batch = 500
	// produceTimeout bounds one request. It is well below the lease, so that nothing is sent without it.
	produceTimeout = 3 * time.Second
)

// Config says what a relay works on.
type Config struct {
	Store *store.Store
	Kafka *kafka.Client
	// Generation of the catalog's log; 0 means 1.
	Generation uint32
	// Lease is for how long the relay keeps others off; 0 means 10 s. At least 4 s.
	Lease time.Duration
	// Poll is how often changes of other processes are looked for; 0 means 500 ms.
	Poll time.Duration
	// Logger may be nil.
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

func (c *Config) fill() {
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.Poll == 0 {
		c.Poll = 500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	}
}

// Metrics counts what relays do.
type Metrics struct {
	sent    prometheus.Counter
	resent  prometheus.Counter
	errors  prometheus.Counter
	leading prometheus.Gauge
	version prometheus.Gauge
}

// NewMetrics registers the relay's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_catalog_records_sent_total",
			Help: "Catalog records that Kafka acknowledged."}),
		resent: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_catalog_records_resent_total",
			Help: "Catalog records that were sent again because the topic did not hold them as SQL does."}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_catalog_errors_total",
			Help: "Failures to read the catalog's outbox or topic or to send to it; each is tried again."}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_catalog_leading",
			Help: "1 while this process is the one that sends the catalog."}),
		version: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_catalog_version",
			Help: "The highest version of the catalog that Kafka acknowledged."}),
	}
	reg.MustRegister(m.sent, m.resent, m.errors, m.leading, m.version)
	return m
}

// Relay sends the catalog. Its methods are safe for concurrent use; Run may be called once.
type Relay struct {
	config Config
	topic  string
	holder string
	// until is the end of the lease, in nanoseconds of the process's monotonic clock since start.
	until atomic.Int64
	start time.Time
	sent  atomic.Uint64

	// sending orders what is read from SQL and sent: nothing old follows something new.
	sending sync.Mutex

	// failing is when the last failure was logged.
	failing atomic.Int64
}

// New returns a relay.
func New(c Config) *Relay {
	c.fill()
	return &Relay{config: c, start: time.Now(), holder: rand.Text(),
		topic: schema.Log{Topic: schema.TopicCatalog, Generation: c.Generation}.String()}
}

// Sent returns the version up to which this relay knows everything to be in the topic; 0 until it has compared the
// topic with SQL.
func (r *Relay) Sent() uint64 { return r.sent.Load() }

// Run relays until the context ends, whatever fails meanwhile. It returns nil.
func (r *Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if r.takeLease(ctx) {
			r.lead(ctx)
		}
		r.sleep(ctx, r.config.Lease/5)
	}
	// The context is over; the lease need not be.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), produceTimeout)
	defer cancel()
	if err := r.config.Store.DropLease(ctx, leaseName, r.holder); err != nil {
		r.failed("cannot give up the lease", err)
	}
	return nil
}

func (r *Relay) takeLease(ctx context.Context) bool {
	asked := time.Since(r.start)
	taken, err := r.config.Store.TakeLease(ctx, leaseName, r.holder, r.config.Lease)
	if err != nil {
		r.failed("cannot take the lease", err)
	}
	if taken {
		r.until.Store(int64(asked + r.config.Lease))
	}
	return taken
}

// mayAsk reports whether the lease lasts for one more request.
func (r *Relay) mayAsk() bool {
	return time.Since(r.start)+produceTimeout < time.Duration(r.until.Load())
}

// lead does the relay's work until the lease is lost or the context ends.
func (r *Relay) lead(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	r.config.Metrics.leading.Set(1)
	defer r.config.Metrics.leading.Set(0)
	r.sent.Store(0)
	var start uint64
	if !r.retry(ctx, "cannot read the catalog", func() (err error) {
		start, err = r.config.Store.CatalogVersion(ctx)
		return err
	}) {
		return
	}
	followed := &progress{}
	followed.version.Store(start)
	wg.Go(func() { r.renew(ctx, cancel) })
	wg.Go(func() {
		if r.compare(ctx, start) {
			followed.compared.Store(true)
			r.publish(followed)
		}
	})
	r.follow(ctx, followed)
}

type progress struct {
	version  atomic.Uint64
	compared atomic.Bool
}

func (r *Relay) publish(p *progress) {
	if p.compared.Load() {
		r.sent.Store(p.version.Load())
		r.config.Metrics.version.Set(float64(p.version.Load()))
	}
}

func (r *Relay) renew(ctx context.Context, lost func()) {
	for r.sleep(ctx, r.config.Lease/4) {
		if !r.takeLease(ctx) && !r.mayAsk() && ctx.Err() == nil {
			lost()
			return
		}
	}
}

// follow sends the changes that are made from now on.
func (r *Relay) follow(ctx context.Context, p *progress) {
	for ctx.Err() == nil {
		changed := r.config.Store.CatalogChanged()
		n := 0
		if !r.retry(ctx, "cannot send the catalog", func() error {
			r.sending.Lock()
			defer r.sending.Unlock()
			records, err := r.config.Store.CatalogAfter(ctx, p.version.Load(), batch)
			if err != nil || len(records) == 0 {
				return err
			}
			if err := r.send(ctx, records); err != nil {
				return err
			}
			n = len(records)
			p.version.Store(records[n-1].Version)
			return nil
		}) {
			return
		}
		r.publish(p)
		if n > 0 {
			continue
		}
		timer := time.NewTimer(r.config.Poll)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

var errNoLease = errors.New("the lease runs out")

func (r *Relay) send(ctx context.Context, records []store.OutboxRecord) error {
	if !r.mayAsk() {
		return errNoLease
	}
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	messages := make([]kafka.Record, len(records))
	for i, rec := range records {
		messages[i] = kafka.Record{Key: kafka.NewBytes([]byte(rec.Key)), Value: kafka.NewBytes(rec.Record)}
	}
	response, err := r.config.Kafka.Produce(ctx, &kafka.ProduceRequest{
		Topic: r.topic, Partition: 0, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(messages...),
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return fmt.Errorf("cannot send %d records to %s: %w", len(records), r.topic, err)
	}
	r.config.Metrics.sent.Add(float64(len(records)))
	return nil
}

// retry calls f until it succeeds or the context ends, and reports which.
func (r *Relay) retry(ctx context.Context, what string, f func() error) bool {
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		err := f()
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			r.failed(what, err)
		}
		r.sleep(ctx, pause)
	}
	return false
}

// failed counts a failure, and logs one in ten seconds.
func (r *Relay) failed(what string, err error) {
	r.config.Metrics.errors.Inc()
	now := int64(time.Since(r.start)) + 1
	if last := r.failing.Load(); (last == 0 || now-last > int64(10*time.Second)) && r.failing.CompareAndSwap(last, now) {
		r.config.Logger.Warn(what, "error", err, "topic", r.topic)
	}
}

func (r *Relay) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
