package tracker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"waymark/schema"
	"waymark/tracker/journal"
	"waymark/tracker/visitor"
)

// Config is what a tracker needs. Fields without a comment on their zero value must be set.
type Config struct {
	// Listener takes the clients. From New on, unless the Config is refused, the tracker closes it.
	Listener net.Listener
	// Dir holds the journal, the dedupe set and the copy of the link table. Its lock is the caller's business.
	Dir string
	// FS is where Dir lies; nil: the operating system's.
	FS vfs.FS
	// Durability says what a 302 waits for: "sync" (the default; survives power loss) or "write" (survives a crash of the
	// process).
	Durability string
	// JournalMax bounds the journal, in bytes; 0: 8 GiB. When it is full, clicks are redirected and counted as unjournaled.
	JournalMax int64
	// JournalSegment is the size of a journal file, in bytes; 0: 64 MiB.
	JournalSegment int64
	// MinFree is how many bytes of the disk stay free; 0: 64 MiB. Below it the dedupe set stays in memory.
	MinFree uint64

	Secrets *schema.Secrets

	// Kafka sends what the journal holds; Brokers and Dialer read the catalog. Nothing that answers a client needs them.
	Kafka   *kafka.Client
	Brokers []string
	Dialer  *kafka.Dialer
	// Generation of the clicks and conversions topics, and of the catalog; 0: 1.
	Generation uint32
	// Partitions of the clicks and conversions topics; 0: 4 and 2.
	ClicksPartitions, ConversionsPartitions int

	// TrustedProxies are networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed; empty: nobody's.
	TrustedProxies []string
	// GeoIP is the path of an MMDB file with countries; empty: no countries.
	GeoIP string

	// MaxConnections bounds open connections; 0: 65,536. MaxConnectionsPerAddress those of one address; 0: no bound.
	MaxConnections, MaxConnectionsPerAddress int
	// ReadTimeout, WriteTimeout and IdleTimeout cut slow and silent clients; 0: 10 s, 10 s, 75 s.
	ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// DrainTimeout bounds each of the steps of a graceful stop that wait for others; 0: 5 s.
	DrainTimeout time.Duration

	// Registerer takes the metrics; nil: nobody.
	Registerer prometheus.Registerer
	// Logger; nil: slog's default.
	Logger *slog.Logger
}

// The defaults that a zero value stands for.
const (
	defaultJournalMax     = 8 << 30
	defaultJournalSegment = 64 << 20
	defaultMinFree        = 64 << 20
	defaultMaxConnections = 1 << 16
)

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	set(&c.Durability, "sync")
	set(&c.JournalMax, defaultJournalMax)
	set(&c.JournalSegment, defaultJournalSegment)
	set(&c.MinFree, defaultMinFree)
	set(&c.Generation, 1)
	set(&c.ClicksPartitions, 4)
	set(&c.ConversionsPartitions, 2)
	set(&c.MaxConnections, defaultMaxConnections)
	set(&c.ReadTimeout, 10*time.Second)
	set(&c.WriteTimeout, 10*time.Second)
	set(&c.IdleTimeout, 75*time.Second)
	set(&c.DrainTimeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns an error that names the flag of the first setting that makes no sense. Zero values stand for the
// defaults.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Listener == nil:
		return errors.New("--tracker-listen: no listener")
	case c.Dir == "":
		return errors.New("--data must not be empty")
	case c.Secrets == nil:
		return errors.New("--secrets-file: no secrets")
	case c.Durability != "sync" && c.Durability != "write":
		return fmt.Errorf("--durability must be sync or write, got %q", c.Durability)
	case c.JournalSegment < 1<<16:
		return fmt.Errorf("--journal-segment must be at least 64 KiB, got %d bytes", c.JournalSegment)
	case c.JournalMax < 2*c.JournalSegment:
		return fmt.Errorf("--journal-max must hold at least two segments of %d bytes, got %d", c.JournalSegment, c.JournalMax)
	case c.ClicksPartitions < 1 || c.ClicksPartitions > 1<<12:
		return fmt.Errorf("--clicks-partitions must be 1 to 4096, got %d", c.ClicksPartitions)
	case c.ConversionsPartitions < 1 || c.ConversionsPartitions > 1<<12:
		return fmt.Errorf("--conversions-partitions must be 1 to 4096, got %d", c.ConversionsPartitions)
	case c.MaxConnections < 1:
		return fmt.Errorf("--max-connections must be positive, got %d", c.MaxConnections)
	case c.MaxConnectionsPerAddress < 0:
		return fmt.Errorf("--max-connections-per-address must not be negative, got %d", c.MaxConnectionsPerAddress)
	case c.ReadTimeout < 0 || c.WriteTimeout < 0 || c.IdleTimeout < 0 || c.DrainTimeout < 0:
		return errors.New("--read-timeout, --write-timeout, --idle-timeout and --drain-timeout must be positive")
	}
	if _, err := visitor.ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("--trusted-proxies: %w", err)
	}
	return nil
}

func (c *Config) durability() journal.Durability {
	if c.Durability == "write" {
		return journal.Write
	}
	return journal.Sync
}

func (c *Config) dir(name string) string { return path.Join(c.Dir, name) }
