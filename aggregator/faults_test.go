package aggregator_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/segmentio/kafka-go"

	"waymark/aggregator"
	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
	"waymark/schema"
)

var (
	seeds = flag.Int("seeds", 3, "how many seeds the tests with random faults run")
	from  = flag.Uint64("seed", 1, "the first seed")
)

// flaky is a ClickHouse that fails at random: before anything has happened, or after it has.
type flaky struct {
	driver.Conn
	mu   sync.Mutex
	r    *rand.Rand
	rate float64
}

var errInjected = errors.New("injected")

// draw returns what goes wrong with the next operation: 0 nothing, 1 it fails, 2 it is done and its answer is lost.
func (f *flaky) draw() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.Float64() >= f.rate {
		return 0
	}
	return 1 + f.r.IntN(2)
}

func (f *flaky) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	b, err := f.Conn.PrepareBatch(ctx, query, opts...)
	if strings.Contains(query, "schema_migrations") {
		return b, err
	}
	return &flakyBatch{b, f.draw()}, err
}

func (f *flaky) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	if !strings.Contains(query, "schema_migrations") && f.draw() > 0 {
		return nil, errInjected
	}
	return f.Conn.Query(ctx, query, args...)
}

func (f *flaky) Select(ctx context.Context, dest any, query string, args ...any) error {
	if f.draw() > 0 {
		return errInjected
	}
	return f.Conn.Select(ctx, dest, query, args...)
}

type flakyBatch struct {
	driver.Batch
	outcome int
}

func (b *flakyBatch) Send() error {
	if b.outcome == 1 {
		return errInjected
	}
	if err := b.Batch.Send(); err != nil || b.outcome == 0 {
		return err
	}
	return errInjected
}

func (f *flaky) storm(rate float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = rate
}

// logs4 returns a log with faults for each of the four partitions, and what the tables must hold of it.
func logs4(seed uint64) (logs [4][]fold.Record, refs [4]*foldtest.Reference) {
	for p := range logs {
		r := rand.New(rand.NewPCG(seed, uint64(p)))
		c := foldtest.Small
		c.Clicks, c.Visitors, c.Start, c.Step = 1200, 300, time.Now().UnixMilli()-48*3600_000, 30_000
		logs[p] = foldtest.Log(r, c)
		refs[p] = foldtest.NewReference(fold.MaxValues)
		for _, rec := range logs[p] {
			refs[p].Fold(rec)
		}
	}
	return logs, refs
}

// diff compares the tables of one partition with the reference.
func diff(t *testing.T, ch driver.Conn, p int, log []fold.Record, ref *foldtest.Reference) error {
	t.Helper()
	where := fmt.Sprintf(" FINAL WHERE log = '%s' AND partition = %d", clickLog, p)
	var progress []schema.ProgressRow
	if err := ch.Select(t.Context(), &progress, "SELECT * FROM progress"+where); err != nil {
		return err
	}
	if len(progress) != 1 || progress[0].V != uint64(len(log)) {
		return fmt.Errorf("partition %d: got progress %+v, want %d", p, progress, len(log))
	}
	got, want := progress[0], ref.Progress(clickLog.String(), uint64(len(log)))
	want.Partition, want.WrittenAt = uint16(p), got.WrittenAt
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("partition %d: got progress %+v, want %+v", p, got, want)
	}
	var clicks []schema.ClickRow
	if err := ch.Select(t.Context(), &clicks, "SELECT * FROM clicks"+where); err != nil {
		return err
	}
	if len(clicks) != len(ref.Clicks) {
		return fmt.Errorf("partition %d: got %d clicks, want %d", p, len(clicks), len(ref.Clicks))
	}
	for _, c := range clicks {
		if got, want := (foldtest.Verdict{Verdict: schema.Verdict(c.Verdict), LinkUnique: c.LinkUnique}), ref.Clicks[c.Offset]; got != want {
			return fmt.Errorf("partition %d, click %d: got %v, want %v", p, c.Offset, got, want)
		}
	}
	var totals []schema.TotalRow
	if err := ch.Select(t.Context(), &totals, "SELECT * FROM totals"+where); err != nil {
		return err
	}
	if len(totals) != len(ref.Totals) {
		return fmt.Errorf("partition %d: got %d totals, want %d", p, len(totals), len(ref.Totals))
	}
	for i := range totals {
		if got, want := foldtest.CountsOf(&totals[i]), ref.Totals[foldtest.KeyOf(&totals[i])]; got != want {
			return fmt.Errorf("partition %d, total %+v: got %v, want %v", p, foldtest.KeyOf(&totals[i]), got, want)
		}
	}
	if n := number(t, ch, "SELECT count() FROM visitors"+where); n != uint64(len(ref.Visitors)) {
		return fmt.Errorf("partition %d: got %d visitors, want %d", p, n, len(ref.Visitors))
	}
	return nil
}

// TestFaults folds four partitions while ClickHouse fails and answers get lost, aggregators stop, start and run beside each
// other, their disks are lost, and the broker restarts. In the end the tables hold what a fold from scratch says.
func TestFaults(t *testing.T) {
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { faults(t, seed) })
	}
}

func faults(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 17))
	_, conn := cluster(t, t.TempDir())
	ch := engine(t)
	shaky := &flaky{Conn: ch, r: rand.New(rand.NewPCG(seed, 18)), rate: 0.3}
	logs, refs := logs4(seed)
	disks := [3]string{t.TempDir(), t.TempDir(), t.TempDir()}
	stops := map[int]func() error{}
	turn := func() {
		i := r.IntN(len(disks))
		if stop := stops[i]; stop != nil {
			if err := stop(); err != nil {
				t.Fatalf("aggregator %d ended: %v", i, err)
			}
			delete(stops, i)
			if r.IntN(2) == 0 {
				disks[i] = t.TempDir()
			}
			return
		}
		cfg := config(conn, shaky, disks[i])
		cfg.CachedTotals, cfg.FlushRows, cfg.FlushInterval = 200, 1+r.IntN(400), time.Duration(5+r.IntN(50))*time.Millisecond
		// The end of a session without an answer is a kill as far as the tables can see.
		cfg.ShutdownTimeout = time.Duration(1+r.IntN(200)) * time.Millisecond
		_, stops[i] = start(t, cfg)
	}
	turn()
	for rest := logs; len(rest[0])+len(rest[1])+len(rest[2])+len(rest[3]) > 0; {
		p := r.IntN(4)
		n := min(len(rest[p]), 1+r.IntN(300))
		produce(t, conn.Client, clickLog, p, rest[p][:n])
		rest[p] = rest[p][n:]
		if r.IntN(4) == 0 {
			turn()
		}
	}
	for range 6 {
		turn()
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
	}
	for len(stops) == 0 {
		turn()
	}
	shaky.storm(0.05)
	wait(t, 60*time.Second, func() error {
		for p := range logs {
			if err := diff(t, ch, p, logs[p], refs[p]); err != nil {
				return err
			}
		}
		return nil
	})
	for i, stop := range stops {
		if err := stop(); err != nil {
			t.Errorf("aggregator %d ended: %v", i, err)
		}
	}
	// Whoever was behind has had its say: nothing has changed.
	for p := range logs {
		if err := diff(t, ch, p, logs[p], refs[p]); err != nil {
			t.Error(err)
		}
	}
}

// TestDeadLetters finds poison in its topic, with coordinates and reason, while the partition moves on.
func TestDeadLetters(t *testing.T) {
	_, conn := cluster(t, t.TempDir())
	ch := engine(t)
	a, _ := start(t, config(conn, ch, t.TempDir()))
	wait(t, 10*time.Second, a.Ready)
	big := strings.Repeat("x", 900_000)
	good := history(1, 3)
	log := []fold.Record{
		good[0],
		{Header: schema.Header{Version: 77, Type: schema.RecordClick, Edge: 9, Epoch: 1, Number: 1}.Append(nil), Value: []byte("from the future")},
		{Header: schema.Header{Version: schema.Version, Type: schema.RecordClick, Edge: 9, Epoch: 1, Number: 2}.Append(nil), Value: []byte("\xff" + big)},
		{Value: []byte("nobody's")},
		good[1],
	}
	produce(t, conn.Client, clickLog, 2, log)
	wait(t, 20*time.Second, func() error {
		if n := number(t, ch, "SELECT max(v) FROM progress WHERE partition = 2 AND log = '"+clickLog.String()+"'"); n != uint64(len(log)) {
			return fmt.Errorf("got progress %d, want %d", n, len(log))
		}
		return nil
	})
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: conn.Brokers, Dialer: conn.Dialer, Topic: schema.Log{Topic: schema.TopicDeadLetters, Generation: 1}.String(), MaxWait: 100 * time.Millisecond})
	defer r.Close()
	for i, want := range []struct {
		reason fold.Reason
		bytes  int
	}{{fold.ReasonVersion, 15}, {fold.ReasonPayload, 64 << 10}, {fold.ReasonHeader, 8}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		m, err := r.ReadMessage(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		headers := map[string]string{}
		for _, h := range m.Headers {
			headers[h.Key] = string(h.Value)
		}
		key := fmt.Sprintf("%s/2/%d", clickLog, i+1)
		if string(m.Key) != key || headers["reason"] != string(want.reason) || len(m.Value) != want.bytes || headers[schema.HeaderKey] != string(log[i+1].Header) {
			t.Errorf("dead letter %d: got key %q, headers %q, %d bytes; want %q, reason %q, %d bytes", i, m.Key, headers, len(m.Value), key, want.reason, want.bytes)
		}
	}
}

// TestRefusals ends Run by one line when Kafka is not what the facts were made of.
func TestRefusals(t *testing.T) {
	ch := engine(t)
	dir := t.TempDir()
	_, conn := cluster(t, dir)
	a, stop := start(t, config(conn, ch, t.TempDir()))
	wait(t, 10*time.Second, a.Ready)
	produce(t, conn.Client, clickLog, 1, history(1, 20))
	wait(t, 10*time.Second, func() error {
		if n := number(t, ch, "SELECT max(v) FROM progress WHERE partition = 1 AND log = '"+clickLog.String()+"'"); n != 20 {
			return fmt.Errorf("got progress %d, want 20", n)
		}
		return nil
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, cfg aggregator.Config, want ...string) {
		t.Helper()
		a, err := aggregator.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err = a.Run(ctx)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line", name, err)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %q, want it to name %q", name, err, w)
			}
		}
		if a.Ready() == nil {
			t.Errorf("%s: ready", name)
		}
	}
	_, other := cluster(t, t.TempDir())
	refused("another cluster", config(other, ch, t.TempDir()), "waymark.clicks.1", "cluster")
	if err := ch.Exec(t.Context(), "ALTER TABLE progress UPDATE fold_version = 1 WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ name, statement, want string }{
		{"shorter log", "INSERT INTO progress (log, partition, v, fold_version) SELECT 'waymark.clicks.1', 1, 21, 1", "ends at offset 20"},
		{"other partitions", "INSERT INTO logs SELECT 'waymark.clicks.1', cluster_id, 8, registered_at - 1 FROM logs WHERE log = 'waymark.clicks.1'", "8 partitions"},
	} {
		if err := ch.Exec(t.Context(), change.statement); err != nil {
			t.Fatal(err)
		}
		refused(change.name, config(conn, ch, t.TempDir()), "waymark.clicks.1", change.want)
	}
}

// TestConfig names what is wrong with a configuration.
func TestConfig(t *testing.T) {
	good := aggregator.Config{Kafka: &kafka.Client{}, Brokers: []string{"x:1"}, Dialer: &kafka.Dialer{}, ClickHouse: struct{ driver.Conn }{}, Dir: t.TempDir()}
	f := func(change func(*aggregator.Config), want string) {
		t.Helper()
		c := good
		change(&c)
		if _, err := aggregator.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %q", err, want)
		}
	}
	f(func(c *aggregator.Config) { c.Kafka = nil }, "--kafka")
	f(func(c *aggregator.Config) { c.ClickHouse = nil }, "--clickhouse")
	f(func(c *aggregator.Config) { c.Dir = "" }, "--data")
	f(func(c *aggregator.Config) { c.FlushInterval = -1 }, "--flush-interval")
	f(func(c *aggregator.Config) { c.FlushRows = -1 }, "--flush-rows")
	if _, err := aggregator.New(good); err != nil {
		t.Fatal(err)
	}
	if _, err := aggregator.New(good); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("a folder in use: got %v, want it to name the lock", err)
	}
}
