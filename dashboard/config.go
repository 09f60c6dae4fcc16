package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"waymark/dashboard/store"
	"waymark/schema"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
)

// Config is all that a dashboard needs. Clients are made, and closed, by the caller.
type Config struct {
	// Listen is the address of pages and API; port 0 takes a free one. Default 127.0.0.1:7081.
	Listen string
	// Listener, if not nil, is used in Listen's place; the dashboard closes it.
	Listener net.Listener
	// PublicURL is where people reach the pages, for example https://partners.example; https makes cookies secure.
	// Default: http on the address that is listened on.
	PublicURL string
	// LinkScheme and LinkPort complete the addresses of links, whose hosts the programs name. Default https and the
	// scheme's own port (0).
	LinkScheme string
	LinkPort   int
	// TrustedProxies are the networks whose X-Forwarded-For is believed, for the limit on guessing passwords.
	TrustedProxies []netip.Prefix

	Store      *store.Store
	ClickHouse driver.Conn
	// CheckSchema reports whether ClickHouse holds the tables that this version reads. It is asked until it agrees; pages
	// show a notice in the meantime. nil: not asked.
	CheckSchema func(context.Context) error

	// Kafka carries the catalog to the edges, and the conversions to the ledger. Generation is that of all logs (default
	// 1), the partitions are those of the conversions (2) and ledger logs (1).
	Kafka                *kafka.Client
	Generation           uint32
	ConversionPartitions int
	LedgerPartitions     int

	// Secrets prove the click ids that conversions carry.
	Secrets *schema.Secrets

	// SessionLifetime is how long a sign-in lasts. Default 14 days.
	SessionLifetime time.Duration
	// PollInterval is how often progress is asked for while a page is open. Default 200 ms.
	PollInterval time.Duration
	// QueryTimeout bounds the reading of one page's numbers. Default 3 s.
	QueryTimeout time.Duration
	// APIRate and APIBurst bound the requests of one API key, per second. Default 100 and 500.
	APIRate, APIBurst int

	Registerer prometheus.Registerer
	Logger     *slog.Logger
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

func (c *Config) fill() {
	text := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	span := func(s *time.Duration, d time.Duration) {
		if *s == 0 {
			*s = d
		}
	}
	text(&c.Listen, "127.0.0.1:7081")
	text(&c.LinkScheme, "https")
	span(&c.SessionLifetime, 14*24*time.Hour)
	span(&c.PollInterval, 200*time.Millisecond)
	span(&c.QueryTimeout, 3*time.Second)
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.APIRate == 0 {
		c.APIRate = 100
	}
	if c.APIBurst == 0 {
		c.APIBurst = 500
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func (c *Config) validate() error {
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("--public-url must be http:// or https:// and a host, got %q", c.PublicURL)
		}
	}
	if c.LinkScheme != "http" && c.LinkScheme != "https" {
		return fmt.Errorf("--link-scheme must be http or https, got %q", c.LinkScheme)
	}
	if c.LinkPort < 0 || c.LinkPort > 65535 {
		return fmt.Errorf("--link-port must be 0 to 65535, got %d", c.LinkPort)
	}
	if c.SessionLifetime < time.Minute {
		return fmt.Errorf("--session-lifetime must be at least 1m, got %s", c.SessionLifetime)
	}
	if c.APIRate < 1 || c.APIBurst < 1 {
		return fmt.Errorf("--api-rate and --api-burst must be at least 1, got %d and %d", c.APIRate, c.APIBurst)
	}
	if c.Store == nil || c.ClickHouse == nil || c.Kafka == nil || c.Secrets == nil {
		return errors.New("BUG: a dashboard needs Store, ClickHouse, Kafka and Secrets")
	}
	return nil
}
