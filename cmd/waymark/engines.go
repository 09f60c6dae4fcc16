package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"waymark/aggregator/broker"
	"waymark/aggregator/warehouse"
	"waymark/cmd/internal/datadir"
	"waymark/cmd/internal/lifecycle"
)

// engineFlags are the settings of the embedded ClickHouse engine.
type engineFlags struct {
	Engine string `placeholder:"FILE" help:"Path of libchdb.so, the embedded ClickHouse engine (default: where 'make build' keeps it)."`
}

func (f *engineFlags) open(stack *lifecycle.Stack, dir string) (*warehouse.Engine, error) {
	library := f.Engine
	if library == "" {
		library = warehouse.DefaultLibrary()
	}
	engine, err := warehouse.OpenEngine(warehouse.EngineConfig{Library: library, Dir: dir})
	if err != nil {
		return nil, err
	}
	stack.Defer("clickhouse engine", engine.Close)
	return engine, nil
}

// kafkaFlags are the settings of the logs in Kafka.
type kafkaFlags struct {
	Kafka                 []string `placeholder:"HOST:PORT" help:"Addresses of Kafka brokers (default with up: a broker in this process)."`
	ClicksPartitions      int      `default:"4" help:"Partitions of the clicks log, fixed for its life (default: ${default})."`
	ConversionsPartitions int      `default:"2" help:"Partitions of the conversions log, fixed for its life (default: ${default})."`
}

func (f *kafkaFlags) partitions() broker.Partitions {
	return broker.Partitions{Clicks: f.ClicksPartitions, Conversions: f.ConversionsPartitions}
}

// connect returns the clients of the cluster that the flags name.
func (f *kafkaFlags) connect(stack *lifecycle.Stack) (*broker.Connection, error) {
	if len(f.Kafka) == 0 {
		return nil, usagef("--kafka is needed: the addresses of Kafka brokers, or what 'waymark engines' prints")
	}
	connection, err := broker.Connect(broker.Config{Addresses: f.Kafka})
	if err != nil {
		return nil, usageError{err}
	}
	stack.Defer("kafka connections", connection.Close)
	return connection, nil
}

const topicsTimeout = 15 * time.Second

// ensureTopics makes the topics that are missing. Those of the embedded broker are kept for ever.
func (f *kafkaFlags) ensureTopics(ctx context.Context, connection *broker.Connection, embedded bool) error {
	ctx, cancel := context.WithTimeout(ctx, topicsTimeout)
	defer cancel()
	return broker.EnsureTopics(ctx, connection.Client, broker.Topics(generation, f.partitions(), 0, embedded))
}

// generation is the generation of the logs.
const generation = 1

// openBroker starts the broker of this process and returns its clients. Its topics are made.
func (f *kafkaFlags) openBroker(ctx context.Context, stack *lifecycle.Stack, dir, listen string, log *slog.Logger) (*broker.Embedded, *broker.Connection, error) {
	embedded, err := broker.OpenEmbedded(broker.EmbeddedConfig{Dir: dir, Listen: listen, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	stack.Defer("kafka broker", embedded.Close)
	own := kafkaFlags{Kafka: []string{embedded.Addr()}, ClicksPartitions: f.ClicksPartitions, ConversionsPartitions: f.ConversionsPartitions}
	connection, err := own.connect(stack)
	if err != nil {
		return nil, nil, err
	}
	return embedded, connection, own.ensureTopics(ctx, connection, true)
}

// clickhouseFlags are the settings of the connection to ClickHouse.
type clickhouseFlags struct {
	Clickhouse string `placeholder:"URL" help:"ClickHouse server: clickhouse://user:password@host:9000/database, or http://... of 'waymark clickhouse' (default with up: an engine in this process)."`
}

func (f *clickhouseFlags) connect(ctx context.Context, stack *lifecycle.Stack, engine *warehouse.Engine) (driver.Conn, error) {
	if engine == nil && f.Clickhouse == "" {
		return nil, usagef("--clickhouse is needed: the address of a ClickHouse server, or what 'waymark clickhouse' prints")
	}
	conn, err := warehouse.Open(ctx, warehouse.Options{Engine: engine, Address: f.Clickhouse})
	if err != nil {
		return nil, err
	}
	stack.Defer("clickhouse connections", conn.Close)
	return conn, nil
}

// serveClickhouse serves the engine to other processes.
func serveClickhouse(stack *lifecycle.Stack, engine *warehouse.Engine, listener net.Listener) {
	stack.Start("clickhouse server", func(ctx context.Context) error {
		server := &http.Server{Handler: engine, ReadHeaderTimeout: 10 * time.Second}
		stop := context.AfterFunc(ctx, func() {
			deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if server.Shutdown(deadline) != nil {
				server.Close()
			}
		})
		defer stop()
		if err := server.Serve(listener); err != http.ErrServerClosed {
			return fmt.Errorf("cannot serve ClickHouse's interface: %w", err)
		}
		return nil
	})
}

type clickhouseCommand struct {
	dataFlags
	readyFlags
	engineFlags
	Listen      string `default:"127.0.0.1:8123" placeholder:"ADDRESS" help:"Address to serve ClickHouse's HTTP interface on. It asks nobody for a password (default: ${default})."`
	AdminListen string `default:"127.0.0.1:7082" placeholder:"ADDRESS" help:"Address of metrics, health and profiles (default: ${default})."`
}

// Run serves the engine until the context ends.
func (c *clickhouseCommand) Run(ctx context.Context, log *slog.Logger, out *output) error {
	e := enginesCommand{dataFlags: c.dataFlags, readyFlags: c.readyFlags, engineFlags: c.engineFlags, ClickhouseListen: c.Listen, AdminListen: c.AdminListen}
	return e.serve(ctx, log, out, "--listen", false)
}

type enginesCommand struct {
	dataFlags
	readyFlags
	engineFlags
	KafkaListen           string `default:"127.0.0.1:9092" placeholder:"ADDRESS" help:"Loopback address of the Kafka broker (default: ${default})."`
	ClickhouseListen      string `default:"127.0.0.1:8123" placeholder:"ADDRESS" help:"Address of ClickHouse's HTTP interface. It asks nobody for a password (default: ${default})."`
	AdminListen           string `default:"127.0.0.1:7082" placeholder:"ADDRESS" help:"Address of metrics, health and profiles (default: ${default})."`
	ClicksPartitions      int    `default:"4" help:"Partitions of the clicks log, fixed for its life (default: ${default})."`
	ConversionsPartitions int    `default:"2" help:"Partitions of the conversions log, fixed for its life (default: ${default})."`
}

// Run serves both engines until the context ends.
func (c *enginesCommand) Run(ctx context.Context, log *slog.Logger, out *output) error {
	return c.serve(ctx, log, out, "--clickhouse-listen", true)
}

func (c *enginesCommand) serve(ctx context.Context, log *slog.Logger, out *output, flag string, withKafka bool) error {
	return runProcess(ctx, log, c.Data, &c.readyFlags, func(ctx context.Context, p *process) (ready, error) {
		if err := p.listenAdmin("--admin-listen", c.AdminListen); err != nil {
			return ready{}, err
		}
		listener, err := listen(flag, c.ClickhouseListen)
		if err != nil {
			return ready{}, err
		}
		r := ready{Clickhouse: "http://" + listener.Addr().String()}
		if withKafka {
			topics := kafkaFlags{ClicksPartitions: c.ClicksPartitions, ConversionsPartitions: c.ConversionsPartitions}
			embedded, _, err := topics.openBroker(ctx, p.stack, p.data.Path("kafka"), c.KafkaListen, log)
			if err != nil {
				return r, err
			}
			r.Kafka = embedded.Addr()
			fmt.Fprintf(out.stdout, "Kafka       --kafka %s\n", r.Kafka)
		}
		engine, err := c.engineFlags.open(p.stack, p.data.Path("clickhouse"))
		if err != nil {
			return r, err
		}
		serveClickhouse(p.stack, engine, listener)
		p.startAdmin()
		fmt.Fprintf(out.stdout, "ClickHouse  --clickhouse %s\n", r.Clickhouse)
		return r, nil
	})
}

// process is what the commands that run until they are stopped have in common.
type process struct {
	log   *slog.Logger
	data  *datadir.Dir
	stack *lifecycle.Stack
	admin *adminServer
}

// runProcess opens the data folder, starts a process's parts, writes the ready file, and stops the parts when the context
// ends or one of them fails.
func runProcess(ctx context.Context, log *slog.Logger, dir string, readyFile *readyFlags, start func(context.Context, *process) (ready, error)) error {
	data, err := datadir.Open(dir)
	if err != nil {
		return err
	}
	defer data.Close()
	stack := lifecycle.New(log)
	p := &process{log: log, data: data, stack: stack}
	r, err := start(ctx, p)
	var remove func()
	if err == nil && ctx.Err() == nil {
		r.Admin = p.admin.URL()
		remove, err = readyFile.write(r)
	}
	if err == nil {
		err = stack.Wait(ctx)
	}
	if remove != nil {
		remove()
	}
	if ctx.Err() != nil {
		err = nil // it was asked to stop, at whatever point it was
		log.Info("stopping")
	}
	if stopErr := stack.Stop(); err == nil {
		err = stopErr
	}
	return err
}

// absolute returns a path that stays right when the working directory changes.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
