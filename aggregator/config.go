package aggregator

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"waymark/schema"
)

// Config is what an aggregator needs. Everything without a stated default must be set.
type Config struct {
	// Kafka sends single requests; Brokers and Dialer reach the same cluster for the consumer group.
	Kafka   *kafka.Client
	Brokers []string
	Dialer  *kafka.Dialer
	// ClickHouse is closed by the caller, after Run has returned.
	ClickHouse driver.Conn
	// Dir is the aggregator's own folder, made if it does not exist. What it holds can be lost: it is rebuilt from
	// ClickHouse.
	Dir string
	// Generation is the generation of the logs that are read. 0: 1.
	Generation uint32
	// Group is the consumer group. Empty: waymark.aggregator.
	Group string
	// FlushInterval is the least time between two flushes while records come in. 0: 250 ms.
	FlushInterval time.Duration
	// FlushRows is how many clicks make a flush due before its time. 0: 20,000.
	FlushRows int
	// CachedTotals bounds the unchanged totals in memory, over all partitions. 0: 400,000, about 100 MB.
	CachedTotals int
	// StartTimeout is how long ClickHouse may take to answer at the start. 0: 30 s.
	StartTimeout time.Duration
	// ShutdownTimeout bounds the last flush. 0: 10 s.
	ShutdownTimeout time.Duration
	// SessionTimeout is how long a silent aggregator keeps its partitions; brokers take 6 s at least. 0: 10 s.
	SessionTimeout time.Duration
	// Registerer takes the metrics. nil: a registry of the aggregator's own.
	Registerer prometheus.Registerer
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	setDefault(&c.Generation, 1)
	setDefault(&c.Group, "waymark.aggregator")
	setDefault(&c.FlushInterval, 250*time.Millisecond)
	setDefault(&c.FlushRows, 20_000)
	setDefault(&c.CachedTotals, 400_000)
	setDefault(&c.StartTimeout, 30*time.Second)
	setDefault(&c.ShutdownTimeout, 10*time.Second)
	setDefault(&c.SessionTimeout, 10*time.Second)
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	switch {
	case c.Kafka == nil || len(c.Brokers) == 0 || c.Dialer == nil:
		return errors.New("the aggregator needs a Kafka cluster (--kafka)")
	case c.ClickHouse == nil:
		return errors.New("the aggregator needs ClickHouse (--clickhouse)")
	case c.Dir == "":
		return errors.New("the aggregator needs a folder (--data)")
	case c.FlushInterval < time.Millisecond || c.FlushInterval > time.Minute:
		return fmt.Errorf("--flush-interval must be between 1ms and 1m, got %s", c.FlushInterval)
	case c.FlushRows < 1:
		return fmt.Errorf("--flush-rows must be positive, got %d", c.FlushRows)
	case c.CachedTotals < 1:
		return fmt.Errorf("--cached-totals must be positive, got %d", c.CachedTotals)
	case c.SessionTimeout < time.Second:
		return fmt.Errorf("--session-timeout must be at least 1s, got %s", c.SessionTimeout)
	}
	return nil
}

func (c *Config) clicks() schema.Log {
	return schema.Log{Topic: schema.TopicClicks, Generation: c.Generation}
}

func (c *Config) ledger() schema.Log {
	return schema.Log{Topic: schema.TopicLedger, Generation: c.Generation}
}

func (c *Config) deadLetters() schema.Log {
	return schema.Log{Topic: schema.TopicDeadLetters, Generation: c.Generation}
}
