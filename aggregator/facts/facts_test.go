package facts_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"waymark/aggregator/facts"
	"waymark/aggregator/warehouse"
	"waymark/schema"
	"waymark/schema/ddl"
)

func engine(t testing.TB) driver.Conn {
	t.Helper()
	library := os.Getenv("WAYMARK_ENGINE")
	if library == "" {
		fetch := exec.Command("sh", "../warehouse/fetch.sh")
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
	if err := warehouse.Migrate(t.Context(), conn, ddl.Files); err != nil {
		t.Fatal(err)
	}
	return conn
}

// faulty fails writes: mode says how the n-th, counted from 1, ends.
type faulty struct {
	driver.Conn
	writes atomic.Int64
	mode   func(n int64) outcome
	insert func(statement string)
}

type outcome int

const (
	works outcome = iota
	fails
	failsApplied
)

var errInjected = errors.New("injected")

func (f *faulty) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	if f.insert != nil {
		f.insert(query)
	}
	b, err := f.Conn.PrepareBatch(ctx, query, opts...)
	return &faultyBatch{b, f.mode(f.writes.Add(1))}, err
}

type faultyBatch struct {
	driver.Batch
	mode outcome
}

func (b *faultyBatch) Send() error {
	if b.mode == fails {
		return errInjected
	}
	if err := b.Batch.Send(); err != nil || b.mode == works {
		return err
	}
	return errInjected
}

func store(conn driver.Conn) (*facts.Store, *facts.Metrics) {
	m := facts.NewMetrics(prometheus.NewRegistry())
	return facts.New(facts.Config{ClickHouse: conn, Metrics: m, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MinBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond}), m
}

var (
	at = time.UnixMilli(time.Now().UnixMilli() - 3600_000).UTC()
	q  = time.UnixMilli(schema.Quarter(at.UnixMilli())).UTC()
)

const name = "waymark.clicks.1"

func exampleRows() facts.Rows {
	return facts.Rows{
		Clicks: []schema.ClickRow{{
			Log: name, Partition: 3, Offset: 1 << 40, Edge: ^uint64(0), Epoch: 2, Number: 3, OccurredAt: at, ReceivedAt: at.Add(time.Millisecond), ProgramID: 4, PartnerID: 5,
			PartnershipID: 6, LinkID: 7, ClickID: strings.Repeat("\xff\x00c", 13), Visitor: "0123456789abcdef", Identity: 1, WindowMillis: 9, EdgeVerdict: 1, EdgeLinkUnique: true,
			Verdict: 2, LinkUnique: true, Signals: 1 << 31, Country: "NO", Region: "03", City: "Oslo", Device: 1, Browser: 2, OS: 3, ReferrerHost: "r\xff", SubIDs: []string{"a", "", "c"},
			UTMSource: "s", UTMMedium: "m", UTMCampaign: "c", UTMTerm: "t", UTMContent: "n", Trigger: 1, UserAgent: "ua", FoldVersion: 1,
		}, {Log: name, Partition: 3, Offset: 1<<40 + 1, OccurredAt: at, ReceivedAt: at, PartnershipID: 6, ClickID: strings.Repeat("\x00", 39), Visitor: "0123456789abcdeg", Verdict: 1, SubIDs: []string{}}},
		Visitors: []schema.VisitorRow{
			{Log: name, Partition: 3, PartnershipID: 6, Visitor: "0123456789abcdef", CountedAt: at, Position: 1 << 40, WindowMillis: 9},
			{Log: name, Partition: 3, PartnershipID: 6, Visitor: "0123456789abcdef", LinkID: 7, CountedAt: at, Position: 1<<40 + 1},
		},
		Totals: []schema.TotalRow{
			{PartnershipID: 6, Kind: 1, Quarter: q, Log: name, Partition: 3, V: 10, Clicks: []uint64{0, 1, 2}},
			{PartnershipID: 6, Kind: 8, Value: "x", Quarter: q.Add(-time.Hour), Log: name, Partition: 3, V: 10, Clicks: []uint64{}, Referred: -1, Amount: -2},
			{PartnershipID: 6, Kind: 8, Value: "x", Quarter: q, Log: name, Partition: 3, V: 10, Clicks: []uint64{0, 0, 0, 4}},
			{PartnershipID: 7, Kind: 1, Quarter: q, Log: name, Partition: 3, V: 10, Clicks: []uint64{0, 9}},
		},
	}
}

// TestColumns holds the lists of columns, with their types, against the tables that the numbered statements make.
func TestColumns(t *testing.T) {
	conn := engine(t)
	var inserts []string
	s, _ := store(&faulty{Conn: conn, mode: func(int64) outcome { return works }, insert: func(q string) { inserts = append(inserts, q) }})
	if err := s.Write(t.Context(), exampleRows()); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteProgress(t.Context(), []schema.ProgressRow{{Log: name}}); err != nil {
		t.Fatal(err)
	}
	if len(inserts) != 4 {
		t.Fatalf("got %d inserts, want 4", len(inserts))
	}
	for _, insert := range inserts {
		if !strings.Contains(insert, "async_insert=0") {
			t.Errorf("%s: want async_insert=0", insert)
		}
	}
	for table, want := range facts.Columns() {
		var got []string
		rows, err := conn.Query(t.Context(), "SELECT name || ' ' || type FROM system.columns WHERE database = currentDatabase() AND table = '"+table+"' ORDER BY position")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var c string
			if err := rows.Scan(&c); err != nil {
				t.Fatal(err)
			}
			got = append(got, c)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s: columns in ClickHouse and in facts differ (-ClickHouse +facts):\n%s", table, diff)
		}
	}
}

// TestFailures writes a flush while every kind of failure meets every write; what is read back must be the rows, once.
func TestFailures(t *testing.T) {
	conn := engine(t)
	modes := map[string]func(n int64) outcome{
		"never":                      func(int64) outcome { return works },
		"twice each":                 func(n int64) outcome { return []outcome{works, fails, fails}[n%3] },
		"applied, the answer lost":   func(n int64) outcome { return []outcome{works, failsApplied}[n%2] },
		"applied twice, then failed": func(n int64) outcome { return []outcome{works, failsApplied, failsApplied, fails}[n%4] },
	}
	for mode, f := range modes {
		t.Run(mode, func(t *testing.T) {
			for _, table := range []string{"clicks", "visitors", "totals", "progress"} {
				if err := conn.Exec(t.Context(), "TRUNCATE TABLE "+table); err != nil {
					t.Fatal(err)
				}
			}
			c := &faulty{Conn: conn, mode: f}
			s, m := store(c)
			rows := exampleRows()
			if err := s.Write(t.Context(), rows); err != nil {
				t.Fatal(err)
			}
			progress := schema.ProgressRow{Log: name, Partition: 3, V: 10, FoldVersion: 1, Edges: []uint64{1, ^uint64(0)}, Epochs: []uint64{1, 2}, Lasts: []uint64{3, 4},
				GapEdges: []uint64{1}, GapEpochs: []uint64{1}, GapFirsts: []uint64{2}, GapLasts: []uint64{2}, TickEdges: []uint64{1}, TickMillis: []int64{at.UnixMilli()}, WrittenAt: at}
			older := progress
			older.V, older.Lasts = 9, []uint64{1, 1}
			for _, p := range []schema.ProgressRow{progress, older} {
				if err := s.WriteProgress(t.Context(), []schema.ProgressRow{p}); err != nil {
					t.Fatal(err)
				}
			}
			check(t, conn, s, rows, progress)
			failures := 0.0
			for _, table := range []string{"clicks", "visitors", "totals", "progress"} {
				var counter dto.Metric
				if err := m.Failures.WithLabelValues(table).Write(&counter); err != nil {
					t.Fatal(err)
				}
				failures += counter.GetCounter().GetValue()
			}
			if want := float64(c.writes.Load() - 5); failures != want {
				t.Errorf("counted %v failures, want %v", failures, want)
			}
		})
	}
}

func check(t *testing.T, conn driver.Conn, s *facts.Store, rows facts.Rows, progress schema.ProgressRow) {
	t.Helper()
	var clicks []schema.ClickRow
	if err := conn.Select(t.Context(), &clicks, "SELECT * FROM clicks FINAL ORDER BY offset"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows.Clicks, clicks); diff != "" {
		t.Errorf("clicks (-want +got):\n%s", diff)
	}
	read, err := s.Progress(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint16]schema.ProgressRow{3: progress}, read); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	for from, want := range map[uint64][]schema.VisitorRow{0: rows.Visitors, 1<<40 + 1: rows.Visitors[1:], 1<<40 + 2: nil} {
		var got []schema.VisitorRow
		if err := s.Visitors(t.Context(), name, 3, from, func(rows []schema.VisitorRow) error { got = append(got, rows...); return nil }); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b schema.VisitorRow) int { return int(a.LinkID) - int(b.LinkID) })
		if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
			t.Errorf("visitors from %d (-want +got):\n%s", from, diff)
		}
	}
	got := map[uint64]schema.Verdict{}
	if err := s.Verdicts(t.Context(), name, 3, 1<<40+1, func(offset uint64, v schema.Verdict, linkUnique bool, version uint16) { got[offset] = v }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint64]schema.Verdict{1<<40 + 1: schema.Verdict_VERDICT_UNIQUE}, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	checkTotals(t, s)
}

func checkTotals(t *testing.T, s *facts.Store) {
	t.Helper()
	values, err := s.Values(t.Context(), name, 3, []uint64{6, 99})
	if err != nil {
		t.Fatal(err)
	}
	want := []schema.TotalRow{{PartnershipID: 6, Kind: 1, Quarter: q}, {PartnershipID: 6, Kind: 8, Value: "x", Quarter: q}}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	cell := facts.Cell{Partnership: 6, Quarter: uint32(q.Unix())}
	totals, err := s.Totals(t.Context(), name, 3, []facts.Cell{cell, {Partnership: 99, Quarter: 0}})
	if err != nil {
		t.Fatal(err)
	}
	want = []schema.TotalRow{
		{PartnershipID: 6, Kind: 1, Quarter: q, V: 10, Clicks: []uint64{0, 1, 2}},
		{PartnershipID: 6, Kind: 8, Value: "x", Quarter: q, V: 10, Clicks: []uint64{0, 0, 0, 4}},
	}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	for _, other := range []struct {
		log       string
		partition uint16
	}{{name, 2}, {"waymark.clicks.2", 3}} {
		if rows, err := s.Totals(t.Context(), other.log, other.partition, []facts.Cell{cell}); err != nil || len(rows) > 0 {
			t.Errorf("totals of %v: got %v, %v; want none", other, rows, err)
		}
	}
}

// TestNewestTotal reads the row of the highest v, also before parts are merged.
func TestNewestTotal(t *testing.T) {
	conn := engine(t)
	s, _ := store(conn)
	row := exampleRows().Totals[0]
	for _, v := range []uint64{5, 30, 20} {
		row.V, row.Clicks = v, []uint64{0, v}
		if err := s.Write(t.Context(), facts.Rows{Totals: []schema.TotalRow{row}}); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := s.Totals(t.Context(), name, 3, []facts.Cell{{Partnership: 6, Quarter: uint32(q.Unix())}})
	if err != nil || len(rows) != 1 || rows[0].V != 30 || rows[0].Clicks[1] != 30 {
		t.Errorf("got %+v, %v; want one row of v 30", rows, err)
	}
}

// TestCancel ends a write that would be tried for ever.
func TestCancel(t *testing.T) {
	conn := engine(t)
	c := &faulty{Conn: conn, mode: func(int64) outcome { return fails }}
	s, _ := store(c)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Write(ctx, exampleRows()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if n := c.writes.Load(); n < 5 {
		t.Errorf("got %d tries, want at least 5", n)
	}
	var stored uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM clicks").Scan(&stored); err != nil || stored > 0 {
		t.Errorf("got %d rows, %v; want none", stored, err)
	}
}

// TestLogs reads back what was registered.
func TestLogs(t *testing.T) {
	s, _ := store(engine(t))
	l := facts.Log{Log: name, ClusterID: "abc", Partitions: 4, RegisteredAt: at}
	if err := s.Register(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	got, err := s.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]facts.Log{name: l}, got); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

func BenchmarkWrite(b *testing.B) {
	s, _ := store(engine(b))
	var rows facts.Rows
	for i := range uint64(2500) {
		c := exampleRows().Clicks[0]
		c.Offset, c.PartnershipID = i, i%100
		rows.Clicks = append(rows.Clicks, c)
		v := exampleRows().Visitors[0]
		v.PartnershipID, v.Position = i, i
		rows.Visitors = append(rows.Visitors, v)
		for kind := range uint8(2) {
			t := exampleRows().Totals[0]
			t.PartnershipID, t.Kind = i, kind+1
			rows.Totals = append(rows.Totals, t)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
		if err := s.WriteProgress(b.Context(), []schema.ProgressRow{{Log: name}}); err != nil {
			b.Fatal(err)
		}
	}
}
