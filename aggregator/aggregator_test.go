package aggregator_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/segmentio/kafka-go"

	"waymark/aggregator"
	"waymark/aggregator/broker"
	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
	"waymark/aggregator/warehouse"
	"waymark/schema"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// engine returns a connection to a fresh embedded ClickHouse.
func engine(t testing.TB) driver.Conn {
	t.Helper()
	library := os.Getenv("WAYMARK_ENGINE")
	if library == "" {
		fetch := exec.Command("sh", "warehouse/fetch.sh")
		fetch.Stderr = os.Stderr
		out, err := fetch.Output()
		if err != nil {
			t.Fatalf("the embedded engine is needed and can't be fetched: %v", err)
		}
		library = strings.TrimSpace(string(out))
	}
	e, err := warehouse.OpenEngine(warehouse.EngineConfig{Library: library, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	conn, err := warehouse.Open(t.Context(), warehouse.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// cluster returns an embedded broker with Waymark's topics.
func cluster(t testing.TB, dir string) (*broker.Embedded, *broker.Connection) {
	t.Helper()
	b, err := broker.OpenEmbedded(broker.EmbeddedConfig{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	conn, err := broker.Connect(broker.Config{Addresses: []string{b.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := broker.EnsureTopics(t.Context(), conn.Client, broker.Topics(1, broker.Partitions{Clicks: 4, Conversions: 2}, 0, true)); err != nil {
		t.Fatal(err)
	}
	return b, conn
}

func config(conn *broker.Connection, ch driver.Conn, dir string) aggregator.Config {
	return aggregator.Config{Kafka: conn.Client, Brokers: conn.Brokers, Dialer: conn.Dialer, ClickHouse: ch, Dir: dir, Logger: quiet}
}

// start runs an aggregator until the returned function is called, which returns Run's error.
func start(t testing.TB, cfg aggregator.Config) (*aggregator.Aggregator, func() error) {
	t.Helper()
	a, err := aggregator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once bool
	var result error
	stop := func() error {
		if !once {
			once = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { stop() })
	return a, stop
}

func produce(t testing.TB, client *kafka.Client, l schema.Log, partition int, records []fold.Record) {
	t.Helper()
	for start := 0; start < len(records); start += 500 {
		var out []kafka.Record
		for _, r := range records[start:min(start+500, len(records))] {
			k := kafka.Record{Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value)}
			if r.Header != nil {
				k.Headers = []kafka.Header{{Key: schema.HeaderKey, Value: r.Header}}
			}
			out = append(out, k)
		}
		resp, err := client.Produce(t.Context(), &kafka.ProduceRequest{Topic: l.String(), Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(out...)})
		if err == nil {
			err = resp.Error
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wait polls until f returns nil.
func wait(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func number(t testing.TB, ch driver.Conn, query string) (n uint64) {
	t.Helper()
	if err := ch.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

var clickLog = schema.Log{Topic: schema.TopicClicks, Generation: 1}

// history is what a demo sends: clicks of 90 days in order.
func history(seed uint64, clicks int) []fold.Record {
	r := rand.New(rand.NewPCG(seed, 1))
	c := foldtest.Config{Edges: 1, Clicks: clicks * 2, Visitors: clicks / 3, Partnerships: 3, Values: 6, Step: 2 * 90 * 86400_000 / int64(clicks), Window: 86400_000, Start: time.Now().Add(-90 * 24 * time.Hour).UnixMilli()}
	for {
		if log := foldtest.Log(r, c); len(log) > clicks {
			return log[:clicks]
		}
	}
}

// TestHistory folds and stores 60,000 clicks of 90 days, as a demo sends them.
func TestHistory(t *testing.T) {
	_, conn := cluster(t, t.TempDir())
	ch := engine(t)
	a, stop := start(t, config(conn, ch, t.TempDir()))
	wait(t, 10*time.Second, a.Ready)
	begin := time.Now()
	sent := 0
	for p := range 4 {
		log := history(uint64(p), 15_000)
		sent += len(log)
		produce(t, conn.Client, clickLog, p, log)
	}
	t.Logf("produced %d in %s", sent, time.Since(begin))
	wait(t, time.Minute, func() error {
		if n := number(t, ch, "SELECT sum(v) FROM (SELECT max(v) AS v FROM progress WHERE log = 'waymark.clicks.1' GROUP BY partition)"); n != uint64(sent) {
			return context.DeadlineExceeded
		}
		return nil
	})
	t.Logf("stored %d records in %s; clicks %d, totals %d, visitors %d", sent, time.Since(begin), number(t, ch, "SELECT count() FROM clicks"), number(t, ch, "SELECT count() FROM totals"), number(t, ch, "SELECT count() FROM visitors"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
