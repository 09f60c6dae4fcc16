package aggregator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sys/unix"

	"waymark/aggregator/facts"
	"waymark/aggregator/warehouse"
	"waymark/schema/ddl"
	"waymark/tracker/dedupe"
)

// Aggregator folds the partitions that its consumer group gives it into ClickHouse.
type Aggregator struct {
	cfg      Config
	metrics  *Metrics
	visitors *dedupe.Metrics
	store    *facts.Store
	lock     *os.File
	state    state
}

// New checks the configuration and locks the folder. It speaks to nothing yet.
func New(cfg Config) (*Aggregator, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	a := &Aggregator{cfg: cfg, metrics: NewMetrics(cfg.Registerer), visitors: dedupe.NewMetrics(cfg.Registerer, "aggregator"), lock: lock}
	a.store = facts.New(facts.Config{ClickHouse: cfg.ClickHouse, Logger: cfg.Logger, Metrics: a.metrics.Facts})
	return a, nil
}

func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the aggregator's folder (%s): %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the aggregator's folder (%s): %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use the aggregator's folder (%s): another process has it locked", dir)
		}
		return nil, fmt.Errorf("cannot lock the aggregator's folder (%s): %w", dir, err)
	}
	return f, nil
}

// Metrics returns the aggregator's metrics.
func (a *Aggregator) Metrics() *Metrics { return a.metrics }

// Run applies the tables, checks the logs and folds until the context ends; then it flushes once more, within its own
// deadline, and leaves the group. It returns nil after the context has ended. Any other return is an error that trying
// again does not mend: tables that cannot be applied, a log that is not the one the facts were made of, or a disk that fails.
// It must be called once.
func (a *Aggregator) Run(ctx context.Context) error {
	defer a.lock.Close()
	if err := a.migrate(ctx); err != nil {
		return a.ended(ctx, err)
	}
	if err := a.prepare(ctx); err != nil {
		return a.ended(ctx, err)
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: a.cfg.Group, Brokers: a.cfg.Brokers, Dialer: a.cfg.Dialer,
		Topics:            []string{a.cfg.clicks().String(), a.cfg.ledger().String()},
		HeartbeatInterval: a.cfg.SessionTimeout / 5, SessionTimeout: a.cfg.SessionTimeout,
		// A member that is asked to give up its partitions flushes first.
		RebalanceTimeout: a.cfg.ShutdownTimeout + 10*time.Second,
		JoinGroupBackoff: 200 * time.Millisecond, StartOffset: kafka.FirstOffset,
	})
	if err != nil {
		return fmt.Errorf("cannot make consumer group %s: %w", a.cfg.Group, err)
	}
	defer group.Close()
	for try := 0; ; {
		gen, err := group.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// The group's coordinator may be starting or moving; what waits between two tries is the group itself.
			a.failed("join", try, err)
			try++
			continue
		}
		try = 0
		if err := a.serve(ctx, gen); err != nil {
			return a.ended(ctx, err)
		}
	}
}

// ended turns an error that the end of the context has caused into none.
func (a *Aggregator) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	a.state.fail(err)
	return err
}

// answeredTimeout is how long the tables may fail to apply while ClickHouse answers.
const answeredTimeout = 2 * time.Second

// migrate applies the tables. A ClickHouse that does not answer is given time to start.
func (a *Aggregator) migrate(ctx context.Context) error {
	begin := time.Now()
	for try := 0; ; try++ {
		err := warehouse.Migrate(ctx, a.cfg.ClickHouse, ddl.Files)
		if err == nil || ctx.Err() != nil {
			return err
		}
		limit := a.cfg.StartTimeout
		if a.cfg.ClickHouse.Ping(ctx) == nil {
			limit = min(limit, answeredTimeout)
		}
		if time.Since(begin) > limit {
			return err
		}
		a.retry(ctx, "migrate", try, err)
	}
}

// prepare waits until Kafka and ClickHouse have answered what the start depends on.
func (a *Aggregator) prepare(ctx context.Context) error {
	for try := 0; ; try++ {
		cluster, err := a.checkLogs(ctx)
		if err == nil {
			return a.claimDir(cluster)
		}
		var no refusal
		if errors.As(err, &no) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		a.retry(ctx, "check_logs", try, err)
	}
}

const clusterName = "cluster-id"

// claimDir empties the visitor set of another cluster: its positions mean nothing here.
func (a *Aggregator) claimDir(cluster string) error {
	path := filepath.Join(a.cfg.Dir, clusterName)
	b, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(b)) == cluster {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the aggregator's folder (%s): %w", a.cfg.Dir, err)
	}
	if err := os.RemoveAll(a.visitorsDir()); err != nil {
		return fmt.Errorf("cannot empty the visitor set of another cluster: %w", err)
	}
	if err := os.WriteFile(path, []byte(cluster+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot write the aggregator's folder (%s): %w", a.cfg.Dir, err)
	}
	return nil
}

func (a *Aggregator) visitorsDir() string { return filepath.Join(a.cfg.Dir, "visitors") }

// retry says that an operation failed and waits before the next try, or until the context ends.
func (a *Aggregator) retry(ctx context.Context, operation string, try int, err error) {
	if ctx.Err() != nil {
		return
	}
	a.failed(operation, try, err)
	wait := 5 * time.Second
	if try < 8 {
		wait = min(wait, 20*time.Millisecond<<try)
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait/2 + rand.N(wait/2)):
	}
}

// failed counts a failure and logs it; of a row of failures, ever fewer.
func (a *Aggregator) failed(operation string, try int, err error) {
	a.metrics.Failures.WithLabelValues(operation).Inc()
	if try&(try+1) == 0 {
		a.cfg.Logger.Warn("an operation failed, trying again", "operation", operation, "try", try+1, "error", err)
	}
}

// state is what the outside may know while Run runs.
type state struct {
	mu       sync.Mutex
	err      error
	serving  bool
	flushing time.Time
	stopped  map[string]error
	lags     map[*owned]lag
}

type lag struct {
	end, stored uint64
	known       bool
}

// slowFlush is how long a flush may take before the aggregator is not ready.
const slowFlush = 10 * time.Second

// Ready returns nil while the aggregator does its work: it is in its group, its partitions are recovered and none is
// stopped, and ClickHouse takes what it writes.
func (a *Aggregator) Ready() error {
	s := &a.state
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.stopped {
		return err
	}
	switch {
	case s.err != nil:
		return s.err
	case !s.serving:
		return errors.New("the aggregator is taking over its partitions")
	case !s.flushing.IsZero() && time.Since(s.flushing) > slowFlush:
		return fmt.Errorf("ClickHouse has not taken a flush for %s", time.Since(s.flushing).Round(time.Second))
	}
	return nil
}

// Lag returns how many records of the owned partitions no stored fact holds yet; known is false until every one of them has
// been asked for its end.
func (a *Aggregator) Lag() (records uint64, known bool) {
	s := &a.state
	s.mu.Lock()
	defer s.mu.Unlock()
	known = s.serving
	for _, l := range s.lags {
		known = known && l.known
		if l.end > l.stored {
			records += l.end - l.stored
		}
	}
	return records, known
}

func (s *state) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *state) setServing(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = on
	s.stopped, s.lags = map[string]error{}, map[*owned]lag{}
}

func (s *state) stop(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped[name] = err
}

func (s *state) setFlushing(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushing = since
}

// see notes the end of a partition and how much of it is stored; it returns the lag.
func (s *state) see(o *owned, end, stored uint64, ended bool) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lags[o]
	l.stored = stored
	if ended {
		l.end, l.known = end, true
	}
	s.lags[o] = l
	return l.end - min(l.end, l.stored)
}
