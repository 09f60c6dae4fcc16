package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // programs name time zones, and not every machine has their rules

	"waymark/dashboard/auth"
	"waymark/dashboard/ledger"
	"waymark/dashboard/live"
	"waymark/dashboard/pages"
	"waymark/dashboard/report"
	"waymark/dashboard/store/relay"

	"github.com/prometheus/client_golang/prometheus"
)

// How many days the chart shows, and how many of the latest events.
const (
	chartDays    = 90
	recentEvents = 10
)

// Dashboard serves the partners' pages and their API, and keeps catalog and ledger moving. See the package's
// documentation for how it is put together.
type Dashboard struct {
	c         Config
	log       *slog.Logger
	listener  net.Listener
	secure    bool
	pages     *pages.Pages
	passwords *auth.Passwords
	guesses   *auth.Limiter
	callers   *rates[uint64]
	strangers *rates[netip.Prefix]
	numbers   *numbers
	hub       *live.Hub[standing, *report.Sheet]
	document  []byte
	// nil without Kafka, which only tests are.
	relay   *relay.Relay
	ledger  *ledger.Ledger
	metrics *Metrics
	// streamWrite bounds one write to an open page; it is the constant of that name but in tests.
	streamWrite time.Duration
	// schemaError is why ClickHouse's tables cannot be read by this version; nil: they can, or nobody asked.
	schemaError atomic.Pointer[error]
}

// Metrics are what the dashboard counts of its requests.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
	signIns  *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_requests_total", Help: "Requests by route and class of status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_dashboard_request_seconds", Help: "How long requests take, by route; streams count until they end.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"route"}),
		panics:  prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_panics_total", Help: "Requests that panicked; each is a bug."}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_sign_ins_total", Help: "Attempts to sign in by outcome."}, []string{"outcome"}),
	}
	for _, outcome := range []string{"ok", "refused", "limited"} {
		m.signIns.WithLabelValues(outcome)
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.panics, m.signIns)
	}
	return m
}

// New checks the configuration and listens; nothing is served until Run. ClickHouse and Kafka may be down.
func New(ctx context.Context, c Config) (*Dashboard, error) {
	c.fill()
	if err := c.validate(); err != nil {
		return nil, err
	}
	d, err := newDashboard(c, report.New(c.ClickHouse))
	if err != nil {
		return nil, err
	}
	if err := d.newBackground(); err != nil {
		return nil, err
	}
	if d.listener = c.Listener; d.listener != nil {
		return d, nil
	}
	if d.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, fmt.Errorf("cannot listen (--dashboard-listen %s): %w", c.Listen, err)
	}
	return d, nil
}

// newDashboard makes all of a dashboard but its listener. The configuration is filled.
func newDashboard(c Config, source reader) (*Dashboard, error) {
	p, err := pages.New()
	if err != nil {
		return nil, err
	}
	d := &Dashboard{c: c, log: c.Logger, secure: strings.HasPrefix(c.PublicURL, "https:"), streamWrite: streamWrite, pages: p, metrics: NewMetrics(c.Registerer),
		passwords: auth.NewPasswords(), guesses: auth.NewLimiter(auth.LimiterConfig{Now: c.Now}),
		callers: newRates[uint64](c.APIRate, c.APIBurst, 65536), strangers: newRates[netip.Prefix](10, 100, 65536),
		numbers: newNumbers(source, c.QueryTimeout, c.Logger)}
	d.hub = live.New(live.Config[standing, *report.Sheet]{Poll: d.numbers.poll, Fail: d.numbers.fail, Interval: c.PollInterval,
		Timeout: c.QueryTimeout, Logger: c.Logger, Metrics: live.NewMetrics(c.Registerer)})
	if d.document, err = documentJSON(); err != nil {
		return nil, err
	}
	return d, nil
}

// Metrics returns the metrics, which are registered with Config.Registerer.
func (d *Dashboard) Metrics() *Metrics { return d.metrics }

// Addr returns the address that is listened on.
func (d *Dashboard) Addr() net.Addr { return d.listener.Addr() }

// URL returns where people reach the pages.
func (d *Dashboard) URL() string {
	if d.c.PublicURL != "" {
		return strings.TrimRight(d.c.PublicURL, "/")
	}
	return "http://" + d.listener.Addr().String()
}

// Ready returns nil when the database answers and ClickHouse's tables are the ones that this version reads. Pages are
// served also while it returns an error.
func (d *Dashboard) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := d.c.Store.Ping(ctx); err != nil {
		return err
	}
	if err := d.schemaError.Load(); err != nil {
		return *err
	}
	if d.ledger != nil {
		return d.ledger.Ready()
	}
	return nil
}

// Run serves until the context ends, then lets requests finish for a few seconds.
func (d *Dashboard) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := map[string]func(context.Context) error{"pages": d.serve, "live updates": d.hub.Run, "schema check": d.checkSchema}
	d.background(work)
	results := make(chan error, len(work))
	for name, run := range work {
		go func() {
			err := run(ctx)
			if err == nil && ctx.Err() == nil {
				err = fmt.Errorf("BUG: %s ended by themselves", name)
			}
			results <- err
		}()
	}
	var errs []error
	for range work {
		err := <-results
		if err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
		cancel()
	}
	return errors.Join(errs...)
}

func (d *Dashboard) serve(ctx context.Context) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	srv := &http.Server{
		Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return streams },
		ConnContext: withConn,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		endStreamsLater := time.AfterFunc(100*time.Millisecond, endStreams)
		defer endStreamsLater.Stop()
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(deadline) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(d.listener)
	if stop() {
		return fmt.Errorf("cannot serve pages (--dashboard-listen %s): %w", d.c.Listen, err)
	}
	<-stopped
	return nil
}

// checkSchema asks until ClickHouse holds the tables that this version reads.
func (d *Dashboard) checkSchema(ctx context.Context) error {
	if d.c.CheckSchema == nil {
		<-ctx.Done()
		return nil
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		check, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := d.c.CheckSchema(check)
		cancel()
		if err == nil {
			d.schemaError.Store(nil)
			<-ctx.Done()
			return nil
		}
		if old := d.schemaError.Swap(&err); old == nil || (*old).Error() != err.Error() {
			d.log.Info("ClickHouse cannot be read yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
