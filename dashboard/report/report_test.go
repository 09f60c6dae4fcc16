package report_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"waymark/aggregator/warehouse"
	"waymark/dashboard/report"
	"waymark/schema"
	"waymark/schema/ddl"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
)

var engine struct {
	once sync.Once
	*warehouse.Engine
	conn driver.Conn
	err  error
	dir  string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if engine.conn != nil {
		engine.conn.Close()
	}
	if engine.Engine != nil {
		engine.Close()
	}
	os.RemoveAll(engine.dir)
	os.Exit(code)
}

// open returns a connection to the real engine, with empty tables.
func open(t testing.TB) driver.Conn {
	t.Helper()
	ctx := context.Background()
	engine.once.Do(func() {
		library := os.Getenv("WAYMARK_ENGINE")
		if library == "" {
			library = warehouse.DefaultLibrary()
		}
		if engine.dir, engine.err = os.MkdirTemp("", "waymark-report"); engine.err != nil {
			return
		}
		if engine.Engine, engine.err = warehouse.OpenEngine(warehouse.EngineConfig{Library: library, Dir: engine.dir}); engine.err != nil {
			return
		}
		if engine.conn, engine.err = warehouse.Open(ctx, warehouse.Options{Engine: engine.Engine}); engine.err == nil {
			engine.err = warehouse.Migrate(ctx, engine.conn, ddl.Files)
		}
	})
	if engine.err != nil {
		t.Fatalf("the embedded engine is needed: %v", engine.err)
	}
	for _, table := range []string{"logs", "clicks", "visitors", "totals", "progress"} {
		if err := engine.conn.Exec(ctx, "TRUNCATE TABLE "+table); err != nil {
			t.Fatal(err)
		}
	}
	return engine.conn
}

func insert[T any](t testing.TB, conn driver.Conn, table string, rows ...T) {
	t.Helper()
	batch, err := conn.PrepareBatch(context.Background(), "INSERT INTO "+table)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := batch.AppendStruct(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

const clicksLog, ledgerLog = "waymark.clicks.1", "waymark.ledger.1"

// model counts what totals should say, click by click.
type model struct {
	rows   map[string]*schema.TotalRow
	sheets map[uint64]*report.Sheet
	links  map[uint64]map[uint64]report.Clicks
}

func (m *model) row(partnership uint64, kind schema.TotalKind, value string, at time.Time, log string, partition uint16) *schema.TotalRow {
	quarter := time.UnixMilli(schema.Quarter(at.UnixMilli())).UTC()
	key := fmt.Sprint(partnership, kind, value, quarter.Unix(), log, partition)
	if m.rows[key] == nil {
		m.rows[key] = &schema.TotalRow{PartnershipID: partnership, Kind: uint8(kind), Value: value, Quarter: quarter, Log: log, Partition: partition}
		if log == clicksLog {
			m.rows[key].Clicks = make([]uint64, schema.NumVerdicts)
		}
	}
	return m.rows[key]
}

func (m *model) sheet(partnership uint64) *report.Sheet {
	if m.sheets[partnership] == nil {
		m.sheets[partnership], m.links[partnership] = &report.Sheet{}, map[uint64]report.Clicks{}
	}
	return m.sheets[partnership]
}

func count(c report.Clicks, v schema.Verdict) report.Clicks {
	c.Gross++
	switch {
	case v == schema.Verdict_VERDICT_UNIQUE:
		c.Unique++
	case v == schema.Verdict_VERDICT_REPEAT:
		c.Repeat++
	default:
		invalid := map[string]uint64{v.Reason(): 1}
		for reason, n := range c.Invalid {
			invalid[reason] += n
		}
		c.Invalid = invalid
	}
	return c
}

// Rows come several times, older ones after newer ones, and in parts that are merged at any time; the sheets must be
// what a plain count of the clicks says, and every sheet must add up.
func TestSheetsAreThePlainCount(t *testing.T) {
	conn := open(t)
	r := report.New(conn)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &model{rows: map[string]*schema.TotalRow{}, sheets: map[uint64]*report.Sheet{}, links: map[uint64]map[uint64]report.Clicks{}}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var versions []schema.TotalRow
	for v := range uint64(400) {
		partnership, partition := 1+rnd.Uint64N(3), uint16(rnd.IntN(4))
		at := start.Add(time.Duration(rnd.Int64N(int64(5 * 24 * time.Hour))))
		touched := []*schema.TotalRow{}
		if rnd.IntN(8) > 0 {
			verdict := schema.Verdict(1 + rnd.IntN(schema.NumVerdicts-1))
			link := 10*partnership + rnd.Uint64N(4)
			s := m.sheet(partnership)
			s.Clicks, m.links[partnership][link] = count(s.Clicks, verdict), count(m.links[partnership][link], verdict)
			for _, row := range []*schema.TotalRow{m.row(partnership, schema.TotalAll, "", at, clicksLog, partition), m.row(partnership, schema.TotalLink, strconv.FormatUint(link, 10), at, clicksLog, partition),
				m.row(partnership, schema.TotalCountry, "DE", at, clicksLog, partition)} {
				row.Clicks[verdict]++
				touched = append(touched, row)
			}
		} else {
			s := m.sheet(partnership)
			s.Referred++
			referred := m.row(partnership, schema.TotalReferred, "", at, ledgerLog, 0)
			referred.Referred++
			amount, currency := rnd.Int64N(1000)-200, []string{"EUR", "USD"}[rnd.IntN(2)]
			sold := m.row(partnership, schema.TotalSold, currency, at, ledgerLog, 0)
			sold.Amount += amount
			s.Sold = addMoney(s.Sold, currency, amount)
			touched = append(touched, referred, sold)
		}
		for _, row := range touched {
			row.V = v + 1
			copied := *row
			copied.Clicks = slices.Clone(row.Clicks)
			versions = append(versions, copied)
		}
	}
	// A foreign partnership, and repeated rows in any order.
	versions = append(versions, schema.TotalRow{PartnershipID: 99, Kind: uint8(schema.TotalAll), Quarter: start, Log: clicksLog, V: 1, Clicks: []uint64{0, 7}})
	versions = append(versions, versions[:len(versions)/3]...)
	rnd.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
	for len(versions) > 0 {
		n := min(len(versions), 1+rnd.IntN(200))
		insert(t, conn, "totals", versions[:n]...)
		versions = versions[n:]
	}
	got, err := r.Sheets(t.Context(), []uint64{1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	m.sheet(4)
	if diff := cmp.Diff(m.sheets, got); diff != "" {
		t.Errorf("seed %d: sheets differ (-want +got):\n%s", seed, diff)
	}
	for id, s := range got {
		gotLinks, err := r.Links(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m.links[id], gotLinks); diff != "" {
			t.Errorf("seed %d: links of partnership %d differ (-want +got):\n%s", seed, id, diff)
		}
		var links, parts uint64
		for _, c := range gotLinks {
			links += c.Gross
		}
		parts = s.Clicks.Unique + s.Clicks.Repeat
		for _, n := range s.Clicks.Invalid {
			parts += n
		}
		if links != s.Clicks.Gross || parts != s.Clicks.Gross {
			t.Errorf("seed %d: partnership %d: gross %d, its parts %d, its links' gross %d", seed, id, s.Clicks.Gross, parts, links)
		}
	}
	if none, err := r.Sheets(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("Sheets of nothing = %v, %v", none, err)
	}
}

func addMoney(all []report.Money, currency string, amount int64) []report.Money {
	for i := range all {
		if all[i].Currency == currency {
			all[i].Amount += amount
			return all
		}
	}
	all = append(all, report.Money{Currency: currency, Amount: amount})
	slices.SortFunc(all, func(a, b report.Money) int { return int(a.Currency[0]) - int(b.Currency[0]) })
	return all
}

// Verdicts of a newer schema are counted under a name of their own, never dropped.
func TestNewerVerdictsAreCounted(t *testing.T) {
	conn := open(t)
	counts := make([]uint64, schema.NumVerdicts+2)
	counts[schema.Verdict_VERDICT_UNIQUE], counts[schema.NumVerdicts+1] = 2, 3
	insert(t, conn, "totals", schema.TotalRow{PartnershipID: 1, Kind: uint8(schema.TotalAll), Quarter: time.Unix(0, 0).UTC(), Log: clicksLog, V: 1, Clicks: counts})
	got, err := report.New(conn).Sheets(t.Context(), []uint64{1})
	if err != nil {
		t.Fatal(err)
	}
	want := report.Clicks{Unique: 2, Invalid: map[string]uint64{"other": 3}, Gross: 5}
	if diff := cmp.Diff(want, got[1].Clicks); diff != "" {
		t.Errorf("clicks differ (-want +got):\n%s", diff)
	}
}

func TestDailyFollowsTheTimeZone(t *testing.T) {
	conn := open(t)
	r := report.New(conn)
	at := func(text string, unique uint64) schema.TotalRow {
		q, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return schema.TotalRow{PartnershipID: 1, Kind: uint8(schema.TotalAll), Quarter: q.UTC(), Log: clicksLog, V: 1, Clicks: []uint64{0, unique, 1}}
	}
	insert(t, conn, "totals",
		at("2026-03-27T22:45:00Z", 1),  // 27 March 23:45 in Berlin
		at("2026-03-27T23:00:00Z", 2),  // 28 March 00:00
		at("2026-03-28T22:59:59Z", 4),  // 28 March
		at("2026-03-29T21:45:00Z", 8),  // 29 March 23:45, after the clocks went forward
		at("2026-03-29T22:00:00Z", 16), // 30 March 00:00
		at("2026-03-30T22:00:00Z", 32)) // 31 March: beyond
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	days, err := r.Daily(t.Context(), 1, time.Date(2026, 3, 30, 9, 0, 0, 0, berlin), 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range days {
		got = append(got, fmt.Sprintf("%s %d %d", d.Date.Format(time.RFC3339), d.Unique, d.Gross))
	}
	want := []string{"2026-03-28T00:00:00+01:00 6 8", "2026-03-29T00:00:00+01:00 8 9", "2026-03-30T00:00:00+02:00 16 17"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("days differ (-want +got):\n%s", diff)
	}
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	if days, err = r.Daily(t.Context(), 1, time.Date(2026, 3, 28, 9, 0, 0, 0, kathmandu), 1); err != nil || days[0].Unique != 3 {
		t.Errorf("28 March in Kathmandu (+5:45) = %v, %v; want 3 unique", days, err)
	}
}

func TestRecentIsTheNewestOnce(t *testing.T) {
	conn := open(t)
	base := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var rows []schema.ClickRow
	for i := range 30 {
		rows = append(rows, schema.ClickRow{Log: clicksLog, Partition: uint16(i % 3), Offset: uint64(i / 3), PartnershipID: uint64(1 + i%2), LinkID: uint64(i), OccurredAt: base.Add(time.Duration(i) * time.Second),
			ReceivedAt: base.Add(time.Duration(i) * time.Second), Verdict: uint8(schema.Verdict_VERDICT_UNIQUE), Country: "DE", Device: uint8(schema.DeviceClass_DEVICE_PHONE), ReferrerHost: "x.example",
			ClickID: "123456789012345678901234567890123456789", Visitor: "1234567890123456", SubIDs: []string{}})
	}
	insert(t, conn, "clicks", rows...)
	insert(t, conn, "clicks", rows[10:]...)
	got, err := report.New(conn).Recent(t.Context(), 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	var links []uint64
	for _, c := range got {
		links = append(links, c.LinkID)
	}
	if diff := cmp.Diff([]uint64{28, 26, 24, 22}, links); diff != "" {
		t.Errorf("the latest links differ (-want +got):\n%s", diff)
	}
	want := report.Click{OccurredAt: base.Add(28 * time.Second), LinkID: 28, Verdict: schema.Verdict_VERDICT_UNIQUE, Country: "DE", Device: schema.DeviceClass_DEVICE_PHONE, ReferrerHost: "x.example"}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("the latest click differs (-want +got):\n%s", diff)
	}
}

func TestProgressIsTheLeastTick(t *testing.T) {
	conn := open(t)
	r := report.New(conn)
	asOf := func(what string, want report.Tick) {
		t.Helper()
		p, err := r.Progress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, p.Least); diff != "" {
			t.Errorf("%s: the least tick differs (-want +got):\n%s", what, diff)
		}
	}
	asOf("nothing yet", report.Tick{})
	insert(t, conn, "logs", logRow{Log: clicksLog, Partitions: 2}, logRow{Log: ledgerLog, Partitions: 1}, logRow{Log: "waymark.catalog.1", Partitions: 1})
	row := func(log string, partition uint16, v uint64, ticks ...int64) schema.ProgressRow {
		p := schema.ProgressRow{Log: log, Partition: partition, V: v}
		for i, ms := range ticks {
			p.TickEdges, p.TickMillis = append(p.TickEdges, uint64(i+1)), append(p.TickMillis, ms)
		}
		return p
	}
	tick := func(log string, partition uint16, edge uint64, ms int64) report.Tick {
		return report.Tick{Part: report.Part{Log: log, Partition: partition}, Edge: schema.EdgeID(edge), Time: time.UnixMilli(ms).UTC()}
	}
	insert(t, conn, "progress", row(clicksLog, 0, 5, 1000))
	p, err := r.Progress(t.Context())
	if err != nil || !p.AsOf().IsZero() {
		t.Errorf("a partition is missing: as of %v, %v; want unknown", p.AsOf(), err)
	}
	insert(t, conn, "progress", row(clicksLog, 1, 5, 2000), row(ledgerLog, 0, 1, 3000))
	asOf("all there", tick(clicksLog, 0, 1, 1000))
	insert(t, conn, "progress", row(clicksLog, 0, 9, 5000))
	insert(t, conn, "progress", row(clicksLog, 0, 7, 1500))
	asOf("the newest v counts, whenever it is written", tick(clicksLog, 1, 1, 2000))
	insert(t, conn, "progress", row(clicksLog, 1, 6, 6000))
	asOf("the ledger stands still", tick(ledgerLog, 0, 1, 3000))
	insert(t, conn, "progress", row(ledgerLog, 0, 2, 9000), row("waymark.conversions.1", 0, 1, 1))
	asOf("conversions count by the ledger", tick(clicksLog, 0, 1, 5000))
	insert(t, conn, "progress", row(clicksLog, 0, 10, 7000, 4000))
	if p, err = r.Progress(t.Context()); err != nil || !p.AsOf().IsZero() || p.Least.Edge != 2 || p.Least.Partition != 1 {
		t.Errorf("an edge is silent in one partition: %+v, %v; want edge 2 in partition 1, unknown", p.Least, err)
	}
	insert(t, conn, "progress", row(clicksLog, 1, 11, 7000, 8000))
	asOf("two edges", tick(clicksLog, 0, 2, 4000))
	if want := map[report.Part]uint64{{Log: clicksLog, Partition: 0}: 10, {Log: clicksLog, Partition: 1}: 11, {Log: ledgerLog, Partition: 0}: 2}; !cmp.Equal(want, mustProgress(t, r).V) {
		t.Errorf("V = %v, want %v", mustProgress(t, r).V, want)
	}
}

func mustProgress(t *testing.T, r *report.Reader) *report.Progress {
	t.Helper()
	p, err := r.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type logRow struct {
	Log          string    `ch:"log"`
	ClusterID    string    `ch:"cluster_id"`
	Partitions   uint16    `ch:"partitions"`
	RegisteredAt time.Time `ch:"registered_at"`
}

func TestChangedFindsNewFactsAlone(t *testing.T) {
	conn := open(t)
	r := report.New(conn)
	click := func(partition uint16, offset, partnership uint64) schema.ClickRow {
		return schema.ClickRow{Log: clicksLog, Partition: partition, Offset: offset, PartnershipID: partnership, OccurredAt: time.Now(), ReceivedAt: time.Now(),
			ClickID: "123456789012345678901234567890123456789", Visitor: "1234567890123456", SubIDs: []string{}}
	}
	insert(t, conn, "clicks", click(0, 0, 1), click(0, 1, 2), click(1, 0, 3))
	insert(t, conn, "totals", schema.TotalRow{PartnershipID: 4, Kind: uint8(schema.TotalReferred), Quarter: time.Unix(0, 0).UTC(), Log: ledgerLog, V: 3, Referred: 1})
	part := func(v0, v1, ledger uint64) *report.Progress {
		return &report.Progress{V: map[report.Part]uint64{{Log: clicksLog, Partition: 0}: v0, {Log: clicksLog, Partition: 1}: v1, {Log: ledgerLog}: ledger}}
	}
	f := func(before, after *report.Progress, watched, want []uint64) {
		t.Helper()
		got, err := r.Changed(t.Context(), watched, before, after)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Changed(%v, %v -> %v) = %v, %v; want %v", watched, before.V, after.V, got, err, want)
		}
	}
	all := []uint64{1, 2, 3, 4, 5}
	f(part(2, 1, 3), part(2, 1, 3), all, nil)
	f(part(1, 1, 3), part(2, 1, 3), all, []uint64{2})
	f(part(0, 0, 0), part(2, 1, 3), all, []uint64{1, 2, 3, 4})
	f(part(0, 0, 0), part(2, 1, 3), []uint64{3}, []uint64{3})
	f(part(2, 1, 2), part(2, 1, 3), all, []uint64{4})
	f(part(2, 1, 3), part(2, 1, 9), all, nil)
	f(part(0, 0, 0), part(2, 1, 3), nil, nil)
	f(&report.Progress{}, part(2, 1, 3), all, []uint64{1, 2, 3, 4})
}

func TestErrorsAreWrapped(t *testing.T) {
	r := report.New(open(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Sheets(ctx, []uint64{1}); err == nil {
		t.Error("Sheets with an ended context: want an error")
	}
	if _, err := r.Links(ctx, 1); err == nil {
		t.Error("Links with an ended context: want an error")
	}
	if _, err := r.Progress(ctx); err == nil {
		t.Error("Progress with an ended context: want an error")
	}
	if _, err := r.Recent(ctx, 1, 10); err == nil {
		t.Error("Recent with an ended context: want an error")
	}
	if _, err := r.Daily(ctx, 1, time.Now(), 90); err == nil {
		t.Error("Daily with an ended context: want an error")
	}
}

// What one page reads: 90 days in which every quarter of every partition has clicks on two links.
func BenchmarkReads(b *testing.B) {
	conn := open(b)
	var rows []schema.TotalRow
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for q := range 90 * 96 {
		for p := range uint16(4) {
			for link := range 3 {
				rows = append(rows, schema.TotalRow{PartnershipID: 1, Kind: uint8(schema.TotalAll) + uint8(min(link, 1)), Value: strconv.Itoa(link),
					Quarter: start.Add(time.Duration(q) * schema.QuarterMillis * time.Millisecond), Log: clicksLog, Partition: p, V: uint64(q), Clicks: make([]uint64, schema.NumVerdicts)})
			}
		}
	}
	insert(b, conn, "totals", rows...)
	var clicks []schema.ClickRow
	for i := range 100000 {
		clicks = append(clicks, schema.ClickRow{Log: clicksLog, Offset: uint64(i), PartnershipID: uint64(1 + i%3), OccurredAt: start.Add(time.Duration(i) * time.Minute), ReceivedAt: start.Add(time.Duration(i) * time.Minute),
			ClickID: "123456789012345678901234567890123456789", Visitor: "1234567890123456", SubIDs: []string{}})
	}
	insert(b, conn, "clicks", clicks...)
	insert(b, conn, "logs", logRow{Log: clicksLog, Partitions: 1})
	insert(b, conn, "progress", schema.ProgressRow{Log: clicksLog, V: 100000, TickEdges: []uint64{1}, TickMillis: []int64{1}})
	r := report.New(conn)
	run := func(name string, read func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("Sheets", func() error { _, err := r.Sheets(b.Context(), []uint64{1}); return err })
	run("Links", func() error { _, err := r.Links(b.Context(), 1); return err })
	run("Recent", func() error { _, err := r.Recent(b.Context(), 1, 10); return err })
	run("Daily", func() error { _, err := r.Daily(b.Context(), 1, start.AddDate(0, 0, 90), 90); return err })
	run("Progress", func() error { _, err := r.Progress(b.Context()); return err })
	before := &report.Progress{V: map[report.Part]uint64{{Log: clicksLog}: 99990}}
	after, err := r.Progress(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	run("Changed", func() error { _, err := r.Changed(b.Context(), []uint64{1, 2}, before, after); return err })
}
