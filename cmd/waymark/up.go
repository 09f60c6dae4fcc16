package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"waymark/aggregator/broker"
	"waymark/aggregator/warehouse"
	"waymark/cmd/internal/admin"
	"waymark/dashboard"
	"waymark/dashboard/store"
	"waymark/schema"
	"waymark/tracker"
)

type upCommand struct {
	dataFlags
	readyFlags
	Demo        bool   `help:"Start with demo programs, ninety days of history and a small shop. Listens on loopback by default."`
	AdminListen string `placeholder:"ADDRESS" help:"Address of metrics, health, profiles and 'waymark admin'; keep it private (default: 127.0.0.1:7082)."`
	ShopListen  string `placeholder:"ADDRESS" help:"Address of the demo's shop (default: 127.0.0.1:7083)."`
	SecretsFile string `placeholder:"FILE" help:"Secrets of the installation (default: made once in the data folder)."`

	engineFlags
	kafkaFlags
	clickhouseFlags
	databaseFlags
	trackerFlags
	aggregatorFlags
	dashboardFlags
}

// sockets are the system's open listeners. They are opened before anything else starts, so that a port that is taken is
// told at once.
type sockets struct{ tracker, dashboard, admin, shop net.Listener }

func (c *upCommand) listen(log *slog.Logger) (s sockets, err error) {
	trackerDefault, dashboardDefault := defaultTracker, defaultDashboard
	if c.Demo { // its password is public
		trackerDefault, dashboardDefault = "127.0.0.1"+trackerDefault, "127.0.0.1"+dashboardDefault
	}
	if s.tracker, err = listenOrMove("--tracker-listen", c.TrackerListen, trackerDefault, c.Demo, log); err != nil {
		return s, err
	}
	if s.dashboard, err = listenOrMove("--dashboard-listen", c.DashboardListen, dashboardDefault, c.Demo, log); err != nil {
		return s, err
	}
	if s.admin, err = listenOrMove("--admin-listen", c.AdminListen, defaultAdmin, c.Demo, log); err != nil {
		return s, err
	}
	if c.Demo {
		s.shop, err = listenOrMove("--shop-listen", c.ShopListen, defaultShop, true, log)
	}
	return s, err
}

// system is everything that runs in one process.
type system struct {
	*process
	sockets   sockets
	database  *store.Store
	secrets   *schema.Secrets
	tracker   *tracker.Tracker
	dashboard *dashboard.Dashboard
}

// Run runs everything until the context ends.
func (c *upCommand) Run(ctx context.Context, log *slog.Logger, out *output) error {
	begin := time.Now()
	return runProcess(ctx, log, c.Data, &c.readyFlags, func(ctx context.Context, p *process) (ready, error) {
		s := &system{process: p}
		var err error
		if s.sockets, err = c.listen(log); err != nil {
			return ready{}, err
		}
		if c.Demo {
			if err := restartDemo(p); err != nil {
				return ready{}, err
			}
			c.linksOnTracker(s.sockets.tracker.Addr())
		}
		if err := c.start(ctx, s); err != nil {
			return ready{}, err
		}
		r := ready{Tracker: baseURL("http", s.tracker.Addr()), Dashboard: baseURL("http", s.dashboard.Addr())}
		if c.Demo {
			if err := s.startDemo(ctx, &r); err != nil {
				return r, err
			}
		}
		c.welcome(out, s, &r, time.Since(begin))
		return r, nil
	})
}

// linksOnTracker makes the links lead to the tracker itself, where nothing else is said.
func (c *upCommand) linksOnTracker(addr net.Addr) {
	if c.LinkScheme == "" {
		c.LinkScheme = "http"
	}
	if tcp, ok := addr.(*net.TCPAddr); ok && c.LinkPort == 0 {
		c.LinkPort = tcp.Port
	}
}

// start starts the parts downstream first, and returns when all are ready.
func (c *upCommand) start(ctx context.Context, s *system) error {
	p := s.process
	p.admin = admin.New(s.sockets.admin, p.log)
	var err error
	if s.secrets, err = p.data.Secrets(); c.SecretsFile != "" {
		s.secrets, err = (&separateFlags{SecretsFile: c.SecretsFile}).secrets()
	}
	if err != nil {
		return err
	}
	var engine *warehouse.Engine
	if c.Clickhouse == "" {
		if engine, err = c.engineFlags.open(p.stack, p.data.Path("clickhouse")); err != nil {
			return err
		}
	}
	conn, err := c.clickhouseFlags.connect(ctx, p.stack, engine)
	if err != nil {
		return err
	}
	kafka, err := c.connectKafka(ctx, p)
	if err != nil {
		return err
	}
	if s.database, err = c.databaseFlags.open(ctx, p); err != nil {
		return err
	}
	a, err := p.startAggregator(&c.aggregatorFlags, kafka, conn)
	if err != nil {
		return err
	}
	if s.dashboard, err = p.startDashboard(ctx, &c.dashboardFlags, &c.kafkaFlags, kafka, conn, s.database, s.secrets, s.sockets.dashboard); err != nil {
		return err
	}
	if s.tracker, err = p.startTracker(ctx, &c.trackerFlags, &c.kafkaFlags, kafka, s.secrets, s.sockets.tracker); err != nil {
		return err
	}
	p.startAdmin()
	for _, part := range []struct {
		name  string
		ready func() error
	}{{"aggregator", a.Ready}, {"dashboard", s.dashboard.Ready}, {"tracker", s.tracker.Ready}} {
		if err := p.waitReady(ctx, part.name, part.ready); err != nil {
			return err
		}
	}
	return nil
}

func (c *upCommand) connectKafka(ctx context.Context, p *process) (*broker.Connection, error) {
	if len(c.Kafka) == 0 {
		_, connection, err := c.kafkaFlags.openBroker(ctx, p.stack, p.data.Path("kafka"), "127.0.0.1:0", p.log)
		return connection, err
	}
	connection, err := c.kafkaFlags.connect(p.stack)
	if err != nil {
		return nil, err
	}
	return connection, c.ensureTopics(ctx, connection, false)
}

// welcome says where everything is and what to do next.
func (c *upCommand) welcome(out *output, s *system, r *ready, took time.Duration) {
	fmt.Fprintf(out.stdout, "\nWaymark is ready after %.1f s, with its data in %s.\n\n", took.Seconds(), absolute(c.Data))
	line := func(what, where string) { fmt.Fprintf(out.stdout, "  %-16s %s\n", what, where) }
	line("Partner pages", r.Dashboard)
	if c.Demo {
		line("  sign in with", r.Email+" / "+r.Password)
		line("A default link", r.Links[0])
		line("A custom link", r.Links[1])
		line("The demo's shop", r.Shop)
	} else {
		line("Tracker", r.Tracker)
	}
	line("Admin", s.admin.URL())
	if !c.Demo {
		fmt.Fprintf(out.stdout, "\nNothing is configured yet unless you have applied a program file before. Next:\n\n  waymark admin apply -f program.yaml --admin %s\n", s.admin.URL())
	} else {
		fmt.Fprintf(out.stdout, "\nSign in, then open a link in another tab and watch the number change.\n")
	}
	fmt.Fprintf(out.stdout, "Ctrl-C stops it; the next start goes on with all data.\n\n")
}
