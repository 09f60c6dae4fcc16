package facts

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"waymark/schema"
)

// Config says where facts go. The zero values of the durations mean 50 ms and 5 s.
type Config struct {
	ClickHouse driver.Conn
	Logger     *slog.Logger
	Metrics    *Metrics
	// MinBackoff and MaxBackoff bound the wait between two tries of a write.
	MinBackoff, MaxBackoff time.Duration
}

// Metrics counts what is written.
type Metrics struct {
	Rows     *prometheus.CounterVec
	Failures *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Rows:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_aggregator_rows_total", Help: "Rows that ClickHouse has confirmed, by table."}, []string{"table"}),
		Failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_aggregator_write_failures_total", Help: "Writes to ClickHouse that failed and were made again, by table."}, []string{"table"}),
	}
	reg.MustRegister(m.Rows, m.Failures)
	for _, t := range []string{clicks.name, visitors.name, totals.name, progress.name} {
		m.Rows.WithLabelValues(t)
		m.Failures.WithLabelValues(t)
	}
	return m
}

// Store reads and writes facts. It is safe for concurrent use, but the writes of one partition must come from one
// goroutine, one flush after the other.
type Store struct {
	cfg Config
}

// New returns a store. Metrics must be set.
func New(cfg Config) *Store {
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = 50 * time.Millisecond
	}
	if cfg.MaxBackoff < cfg.MinBackoff {
		cfg.MaxBackoff = max(5*time.Second, cfg.MinBackoff)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Store{cfg}
}

// Rows is what one flush writes before progress.
type Rows struct {
	Clicks   []schema.ClickRow
	Visitors []schema.VisitorRow
	Totals   []schema.TotalRow
}

// Write stores the rows: clicks, and then visitors and totals. It tries for ever; it returns the context's error once that
// is cancelled, and then any part of the rows may be stored, each of them true.
func (s *Store) Write(ctx context.Context, rows Rows) error {
	if err := write(ctx, s, &clicks, rows.Clicks); err != nil {
		return err
	}
	if err := write(ctx, s, &visitors, rows.Visitors); err != nil {
		return err
	}
	return write(ctx, s, &totals, rows.Totals)
}

// WriteProgress stores that everything below each row's V is stored. It must follow the Write of these rows, and behaves
// as Write does.
func (s *Store) WriteProgress(ctx context.Context, rows []schema.ProgressRow) error {
	return write(ctx, s, &progress, rows)
}

func write[R any](ctx context.Context, s *Store, t *table[R], rows []R) error {
	if len(rows) == 0 {
		return ctx.Err()
	}
	for try := 0; ; try++ {
		err := ctx.Err()
		if err != nil {
			return err
		}
		if err = t.insert(ctx, s.cfg.ClickHouse, rows); err == nil {
			s.cfg.Metrics.Rows.WithLabelValues(t.name).Add(float64(len(rows)))
			if try > 0 {
				s.cfg.Logger.Info("ClickHouse takes writes again", "table", t.name, "tries", try+1)
			}
			return nil
		}
		s.cfg.Metrics.Failures.WithLabelValues(t.name).Inc()
		wait := s.backoff(try)
		// The waits grow to seconds, so this is said at most a few times a minute.
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("cannot write facts, trying again", "table", t.name, "rows", len(rows), "try", try+1, "wait", wait, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// backoff doubles with every try, and is spread so that several aggregators do not knock at once.
func (s *Store) backoff(try int) time.Duration {
	d := s.cfg.MaxBackoff
	if try < 16 {
		d = min(d, s.cfg.MinBackoff<<try)
	}
	return d/2 + rand.N(d/2+1)
}
