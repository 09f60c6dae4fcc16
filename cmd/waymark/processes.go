package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"waymark/aggregator"
	"waymark/aggregator/broker"
	"waymark/aggregator/warehouse"
	"waymark/cmd/internal/admin"
	"waymark/dashboard"
	"waymark/dashboard/store"
	"waymark/schema"
	"waymark/schema/ddl"
	"waymark/tracker"
)

type adminServer = admin.Server

// listenAdmin opens the admin listener. It serves from startAdmin on.
func (p *process) listenAdmin(flag, address string) error {
	listener, err := listen(flag, address)
	if err != nil {
		return err
	}
	p.admin = admin.New(listener, p.log)
	return nil
}

func (p *process) startAdmin() { p.stack.Start("admin listener", p.admin.Run) }

// waitReady waits until a part is ready.
func (p *process) waitReady(ctx context.Context, what string, check func() error) error {
	begin := time.Now()
	err := poll(ctx, what+" is ready", p.stack.Failed, func(context.Context) error { return check() })
	if err == nil {
		p.log.Info("ready", "part", what, "duration", time.Since(begin).Round(time.Millisecond))
	}
	return err
}

// trackerFlags are the settings of the edge.
type trackerFlags struct {
	TrackerListen     string        `placeholder:"ADDRESS" help:"Address of links and of the conversions API (default: :7080)."`
	Durability        string        `enum:"sync,write" default:"sync" help:"What a redirect waits for: sync (on disk; survives power loss) or write (survives a crash of the process) (default: ${default})."`
	JournalMax        int64         `default:"8589934592" placeholder:"BYTES" help:"Most disk that the journal may take; past it, clicks are redirected and counted as unjournaled (default: ${default})."`
	JournalSegment    int64         `default:"67108864" placeholder:"BYTES" help:"Size of a journal file (default: ${default})."`
	TrustedProxies    []string      `placeholder:"CIDR" help:"Networks whose X-Forwarded-For and X-Forwarded-Proto are believed."`
	Geoip             string        `placeholder:"FILE" help:"MMDB file with countries."`
	MaxConnections    int           `default:"65536" help:"Most open connections (default: ${default})."`
	MaxConnectionsPer int           `name:"max-connections-per-address" default:"0" help:"Most open connections of one address; 0: no bound."`
	ReadTimeout       time.Duration `default:"10s" help:"How long a request may take to arrive (default: ${default})."`
	WriteTimeout      time.Duration `default:"10s" help:"How long an answer may take to be read (default: ${default})."`
	IdleTimeout       time.Duration `default:"75s" help:"How long an idle connection is kept (default: ${default})."`
}

// startTracker starts the edge.
func (p *process) startTracker(ctx context.Context, f *trackerFlags, logs *kafkaFlags, kafka *broker.Connection, secrets *schema.Secrets, listener net.Listener) (*tracker.Tracker, error) {
	cfg := tracker.Config{
		Listener: listener, Dir: p.data.Path("tracker"), Durability: f.Durability, JournalMax: f.JournalMax, JournalSegment: f.JournalSegment,
		Secrets: secrets, Kafka: kafka.Client, Brokers: kafka.Brokers, Dialer: kafka.Dialer, Generation: generation,
		ClicksPartitions: logs.ClicksPartitions, ConversionsPartitions: logs.ConversionsPartitions,
		TrustedProxies: f.TrustedProxies, GeoIP: f.Geoip, MaxConnections: f.MaxConnections, MaxConnectionsPerAddress: f.MaxConnectionsPer,
		ReadTimeout: f.ReadTimeout, WriteTimeout: f.WriteTimeout, IdleTimeout: f.IdleTimeout,
		Registerer: p.admin.Registry(), Logger: p.log.With("process", "tracker"),
	}
	if err := cfg.Validate(); err != nil {
		return nil, usageError{err}
	}
	t, err := tracker.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p.admin.Check("tracker", t.Ready)
	p.stack.Start("tracker", t.Run)
	return t, nil
}

// aggregatorFlags are the settings of the fold.
type aggregatorFlags struct {
	FlushInterval time.Duration `default:"250ms" help:"Least time between two writes to ClickHouse (default: ${default})."`
	FlushRows     int           `default:"20000" help:"Clicks that are written before that time has passed (default: ${default})."`
}

// startAggregator starts the fold.
func (p *process) startAggregator(f *aggregatorFlags, kafka *broker.Connection, conn driver.Conn) (*aggregator.Aggregator, error) {
	a, err := aggregator.New(aggregator.Config{
		Kafka: kafka.Client, Brokers: kafka.Brokers, Dialer: kafka.Dialer, ClickHouse: conn, Dir: p.data.Path("aggregator"), Generation: generation,
		FlushInterval: f.FlushInterval, FlushRows: f.FlushRows, Registerer: p.admin.Registry(), Logger: p.log.With("process", "aggregator"),
	})
	if err != nil {
		return nil, err
	}
	p.admin.Check("aggregator", a.Ready)
	p.stack.Start("aggregator", a.Run)
	return a, nil
}

// dashboardFlags are the settings of the partner pages, the API and the ledger.
type dashboardFlags struct {
	DashboardListen  string         `placeholder:"ADDRESS" help:"Address of the partner pages and the JSON API (default: :7081)."`
	PublicURL        string         `placeholder:"URL" help:"Where people reach the pages; https makes cookies secure (default: http on the address that is listened on)."`
	LinkScheme       string         `enum:"http,https," default:"" help:"Scheme of links (default: https; http with --demo)."`
	LinkPort         int            `default:"0" help:"Port of links (default: the scheme's own; the tracker's with --demo)."`
	DashboardProxies []netip.Prefix `placeholder:"CIDR" help:"Networks whose X-Forwarded-For is believed when sign-ins are limited."`
	SessionLifetime  time.Duration  `default:"336h" help:"How long a sign-in lasts (default: ${default})."`
}

type databaseFlags struct {
	Database string `placeholder:"URL" help:"SQL database: postgres://... or the path of an SQLite file (default: waymark.db in the data folder)."`
}

func (f *databaseFlags) open(ctx context.Context, p *process) (*store.Store, error) {
	url := f.Database
	if url == "" {
		url = p.data.Path("waymark.db")
	}
	s, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return nil, fmt.Errorf("--database: %w", err)
	}
	p.stack.Defer("database", s.Close)
	return s, nil
}

// startDashboard starts the pages, the API, the relay and the ledger.
func (p *process) startDashboard(ctx context.Context, f *dashboardFlags, logs *kafkaFlags, kafka *broker.Connection, conn driver.Conn, db *store.Store, secrets *schema.Secrets, listener net.Listener) (*dashboard.Dashboard, error) {
	d, err := dashboard.New(ctx, dashboard.Config{
		Listener: listener, PublicURL: f.PublicURL, LinkScheme: f.LinkScheme, LinkPort: f.LinkPort, TrustedProxies: f.DashboardProxies,
		Store: db, ClickHouse: conn, CheckSchema: func(ctx context.Context) error { return warehouse.Check(ctx, conn, ddl.Files) },
		Kafka: kafka.Client, Generation: generation, ConversionPartitions: logs.ConversionsPartitions, LedgerPartitions: 1, Secrets: secrets,
		SessionLifetime: f.SessionLifetime, Registerer: p.admin.Registry(), Logger: p.log.With("process", "dashboard"),
	})
	if err != nil {
		return nil, err
	}
	p.admin.Handle("/v1/", d.AdminHandler())
	p.admin.Check("dashboard", d.Ready)
	p.stack.Start("dashboard", d.Run)
	return d, nil
}

type trackerCommand struct {
	separateFlags
	trackerFlags
}

// Run runs the edge until the context ends.
func (c *trackerCommand) Run(ctx context.Context, log *slog.Logger) error {
	return runProcess(ctx, log, c.Data, &c.readyFlags, func(ctx context.Context, p *process) (ready, error) {
		secrets, err := c.secrets()
		if err != nil {
			return ready{}, err
		}
		listener, err := listenOrMove("--tracker-listen", c.TrackerListen, defaultTracker, false, log)
		if err != nil {
			return ready{}, err
		}
		if err := p.listenAdmin("--admin-listen", c.AdminListen); err != nil {
			return ready{}, err
		}
		kafka, err := c.kafkaFlags.connect(p.stack)
		if err != nil {
			return ready{}, err
		}
		t, err := p.startTracker(ctx, &c.trackerFlags, &c.kafkaFlags, kafka, secrets, listener)
		if err != nil {
			return ready{}, err
		}
		p.startAdmin()
		return ready{Tracker: baseURL("http", t.Addr())}, p.waitReady(ctx, "tracker", t.Ready)
	})
}

type aggregatorCommand struct {
	separateFlags
	clickhouseFlags
	aggregatorFlags
}

// Run runs the fold until the context ends.
func (c *aggregatorCommand) Run(ctx context.Context, log *slog.Logger) error {
	return runProcess(ctx, log, c.Data, &c.readyFlags, func(ctx context.Context, p *process) (ready, error) {
		if err := p.listenAdmin("--admin-listen", c.AdminListen); err != nil {
			return ready{}, err
		}
		kafka, err := c.kafkaFlags.connect(p.stack)
		if err != nil {
			return ready{}, err
		}
		conn, err := c.clickhouseFlags.connect(ctx, p.stack, nil)
		if err != nil {
			return ready{}, err
		}
		if err := c.ensureTopics(ctx, kafka, false); err != nil {
			return ready{}, err
		}
		a, err := p.startAggregator(&c.aggregatorFlags, kafka, conn)
		if err != nil {
			return ready{}, err
		}
		p.startAdmin()
		return ready{}, p.waitReady(ctx, "aggregator", a.Ready)
	})
}

type dashboardCommand struct {
	separateFlags
	clickhouseFlags
	databaseFlags
	dashboardFlags
}

// Run runs the pages, the API, the relay and the ledger until the context ends.
func (c *dashboardCommand) Run(ctx context.Context, log *slog.Logger) error {
	return runProcess(ctx, log, c.Data, &c.readyFlags, func(ctx context.Context, p *process) (ready, error) {
		secrets, err := c.secrets()
		if err != nil {
			return ready{}, err
		}
		listener, err := listenOrMove("--dashboard-listen", c.DashboardListen, defaultDashboard, false, log)
		if err != nil {
			return ready{}, err
		}
		if err := p.listenAdmin("--admin-listen", c.AdminListen); err != nil {
			return ready{}, err
		}
		kafka, err := c.kafkaFlags.connect(p.stack)
		if err != nil {
			return ready{}, err
		}
		conn, err := c.clickhouseFlags.connect(ctx, p.stack, nil)
		if err != nil {
			return ready{}, err
		}
		db, err := c.databaseFlags.open(ctx, p)
		if err != nil {
			return ready{}, err
		}
		d, err := p.startDashboard(ctx, &c.dashboardFlags, &c.kafkaFlags, kafka, conn, db, secrets, listener)
		if err != nil {
			return ready{}, err
		}
		p.startAdmin()
		return ready{Dashboard: baseURL("http", d.Addr())}, p.waitReady(ctx, "dashboard", d.Ready)
	})
}
