package fold_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
	"waymark/schema"
	"waymark/tracker/dedupe"
)

var update = flag.Bool("update", false, "write the golden files anew; only a new fold.Version may change them")

func visitors(t testing.TB) *dedupe.Set {
	t.Helper()
	set, err := dedupe.Open(dedupe.Config{FS: vfs.NewMem(), Dir: "visitors", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// foldAll folds a log in batches whose sizes next gives, and returns every table.
func foldAll(t testing.TB, l schema.Log, log []fold.Record, capped int, next func() (size int, emit bool)) *tables {
	t.Helper()
	cfg := fold.Config{Log: l, CachedTotals: 50}
	if l.Topic == schema.TopicClicks {
		cfg.Visitors = visitors(t)
	}
	if capped > 0 {
		cfg = cfg.CapValues(capped)
	}
	p, err := fold.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := newTables()
	var b fold.Batch
	for rest := log; len(rest) > 0; {
		n, emit := next()
		n = min(max(n, 1), len(rest))
		if err := p.Stage(rest[:n]); err != nil {
			t.Fatal(err)
		}
		ids := p.MissingValues()
		if err := p.LoadValues(ids, out.values(ids)); err != nil {
			t.Fatal(err)
		}
		cells := p.MissingCells()
		if err := p.LoadCells(cells, out.cells(cells)); err != nil {
			t.Fatal(err)
		}
		p.Apply(&b)
		if rest = rest[n:]; !emit && len(rest) > 0 {
			continue
		}
		p.Emit(&b)
		out.putClicks(b.Clicks)
		out.putVisitors(b.Visitors)
		out.putTotals(b.Totals)
		out.putDead(b.DeadLetters)
		out.putProgress(b.Progress[0])
		b.Reset()
	}
	return out
}

// facts returns the tables as text in one order, without the totals' own v, which says when they were written.
func (t *tables) facts() string {
	var lines []string
	add := func(table string, row any) {
		line, err := json.Marshal(row)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		lines = append(lines, table+" "+string(line))
	}
	for _, row := range t.clicks {
		row.ClickID, row.Visitor = fmt.Sprintf("%x", row.ClickID), fmt.Sprintf("%x", row.Visitor)
		add("clicks", row)
	}
	for _, row := range t.visitors {
		row.Visitor = fmt.Sprintf("%x", row.Visitor)
		add("visitors", row)
	}
	for _, row := range t.totals {
		row.V = 0
		add("totals", row)
	}
	for offset, reason := range t.dead {
		add("dead", fmt.Sprintf("%d %s", offset, reason))
	}
	add("progress", t.progress)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func one() (int, bool) { return 1, true }

func sizes(r *rand.Rand, most int) func() (int, bool) {
	return func() (int, bool) { return 1 + r.IntN(most), r.IntN(2) == 0 }
}

// TestBatchSizes folds every log one record at a time, and again in batches of every size: the facts must not differ.
func TestBatchSizes(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		log := foldtest.Log(r, foldtest.Small)
		want := foldAll(t, clickLog, log, capValues, one)
		got := foldAll(t, clickLog, log, capValues, sizes(r, 40))
		if diff := cmp.Diff(want.facts(), got.facts()); diff != "" {
			t.Fatalf("seed %d: the facts depend on the batches (-one by one +batches):\n%s", seed, diff)
		}
		ref := foldtest.NewReference(capValues)
		for _, rec := range log {
			ref.Fold(rec)
		}
		if e := got.check(ref, uint64(len(log))); e != "" {
			t.Fatalf("seed %d: %s", seed, e)
		}
	}
}

// FuzzBatches folds one log in two ways.
func FuzzBatches(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(12))
	f.Add(uint64(2263), uint64(3), uint8(40))
	f.Fuzz(func(t *testing.T, seed, cut uint64, most uint8) {
		log := foldtest.Log(rand.New(rand.NewPCG(seed, 7)), foldtest.Small)
		want := foldAll(t, clickLog, log, capValues, one)
		got := foldAll(t, clickLog, log, capValues, sizes(rand.New(rand.NewPCG(cut, 0)), int(most)+1))
		if diff := cmp.Diff(want.facts(), got.facts()); diff != "" {
			t.Fatalf("seed %d, cut %d, most %d: the facts depend on the batches:\n%s", seed, cut, most, diff)
		}
	})
}

// FuzzRecord folds any bytes as a record, between two that are right: it may become a dead letter, but the others count.
func FuzzRecord(f *testing.F) {
	for _, rec := range foldtest.Log(rand.New(rand.NewPCG(1, 0)), foldtest.Small)[:20] {
		f.Add(rec.Header, rec.Value)
	}
	f.Add([]byte(nil), []byte(nil))
	good := foldtest.Log(rand.New(rand.NewPCG(5, 0)), foldtest.Small)
	f.Fuzz(func(t *testing.T, header, value []byte) {
		if h, err := schema.ParseHeader(header); err == nil {
			h.Edge |= 1 << 63 // else it would speak for an edge of the log
			header = h.Append(nil)
		}
		log := slices.Clone(good)
		log = slices.Insert(log, len(log)/2, fold.Record{Header: header, Value: value})
		for i := range log {
			log[i].Offset = uint64(i)
		}
		got := foldAll(t, clickLog, log, 0, one)
		want := foldAll(t, clickLog, good, 0, one)
		if extra := len(got.clicks) - len(want.clicks); extra < 0 || extra > 1 || got.progress.V != uint64(len(log)) {
			t.Fatalf("header %x, value %x: got %d clicks up to %d, want %d or one more up to %d", header, value, len(got.clicks), got.progress.V, len(want.clicks), len(log))
		}
	})
}

// goldenRecord is a record as the golden log holds it.
type goldenRecord struct{ Header, Value []byte }

// TestGolden folds a log that is kept as a file into facts that are kept as a file. It fails when the rules change: then
// fold.Version has to change, and a new pair of files is added.
func TestGolden(t *testing.T) {
	logFile, factsFile := filepath.Join("testdata", "log.1.json"), filepath.Join("testdata", "facts.1.txt")
	if *update {
		var lines bytes.Buffer
		for seed := range uint64(4) {
			for _, rec := range foldtest.Log(rand.New(rand.NewPCG(seed, 99)), foldtest.Small) {
				b, err := json.Marshal(goldenRecord{rec.Header, rec.Value})
				if err != nil {
					t.Fatal(err)
				}
				lines.Write(append(b, '\n'))
			}
		}
		if err := os.WriteFile(logFile, lines.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	var log []fold.Record
	for line := range bytes.Lines(b) {
		var g goldenRecord
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatal(err)
		}
		log = append(log, fold.Record{Offset: uint64(len(log)), Header: g.Header, Value: g.Value})
	}
	got := foldAll(t, clickLog, log, capValues, sizes(rand.New(rand.NewPCG(1, 1)), 30)).facts()
	if *update {
		if err := os.WriteFile(factsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(factsFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the facts of the golden log changed under fold version %d (-want +got):\n%s", fold.Version, diff)
	}
}

func message(t testing.TB, m interface{ MarshalVT() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func header(h schema.Header) []byte {
	if h.Version == 0 {
		h.Version = schema.Version
	}
	return h.Append(nil)
}

func goodClick() *schema.Click {
	return &schema.Click{ProgramId: 1, PartnerId: 1, PartnershipId: 1, LinkId: 1, OccurredMs: 1_700_000_000_000, ReceivedMs: 1_700_000_000_000,
		ClickId: make([]byte, 39), Visitor: make([]byte, 16), EdgeVerdict: schema.Verdict_VERDICT_UNIQUE}
}

// TestDeadLetters shows what cannot be folded: each advances the watermark if its header can be read, and holds nothing up.
func TestDeadLetters(t *testing.T) {
	click := func(change func(*schema.Click)) []byte {
		c := goodClick()
		change(c)
		return message(t, c)
	}
	is := func(typ schema.RecordType) schema.Header {
		return schema.Header{Type: typ, Edge: 1, Epoch: 1, Number: 1}
	}
	f := func(name string, h schema.Header, value []byte, want fold.Reason, wantLast uint64) {
		t.Helper()
		log := []fold.Record{{Offset: 0, Header: header(h), Value: value}}
		if name == "no header" {
			log[0].Header = nil
		}
		got := foldAll(t, clickLog, log, 0, one)
		var last uint64
		if len(got.progress.Lasts) > 0 {
			last = got.progress.Lasts[0]
		}
		if got.dead[0] != want || last != wantLast || got.progress.V != 1 || len(got.clicks) > 0 && want != "" {
			t.Errorf("%s: got dead letter %q, watermark %d, progress %d, %d clicks; want %q, %d, 1, 0", name, got.dead[0], last, got.progress.V, len(got.clicks), want, wantLast)
		}
	}
	f("good", is(schema.RecordClick), message(t, goodClick()), "", 1)
	f("no header", is(schema.RecordClick), nil, fold.ReasonHeader, 0)
	f("newer version", schema.Header{Version: 2, Type: schema.RecordClick, Edge: 1, Epoch: 1, Number: 1}, message(t, goodClick()), fold.ReasonVersion, 1)
	f("tick of a newer version", schema.Header{Version: 2, Type: schema.RecordTick, Edge: 1, Epoch: 1, Number: 7}, nil, fold.ReasonVersion, 0)
	f("unknown type", is(200), nil, fold.ReasonType, 1)
	f("conversion among clicks", is(schema.RecordConversion), nil, fold.ReasonType, 1)
	f("ledger entry among clicks", is(schema.RecordLedgerEntry), nil, fold.ReasonType, 1)
	f("number 0", schema.Header{Type: schema.RecordClick, Edge: 1, Epoch: 1}, message(t, goodClick()), fold.ReasonNumber, 0)
	f("garbage", is(schema.RecordClick), []byte("\xff\xff garbage"), fold.ReasonPayload, 1)
	f("a megabyte of garbage", is(schema.RecordClick), bytes.Repeat([]byte{0xff}, 1<<20), fold.ReasonPayload, 1)
	f("empty", is(schema.RecordClick), nil, fold.ReasonValue, 1)
	f("before 1970", is(schema.RecordClick), click(func(c *schema.Click) { c.OccurredMs = -1 }), fold.ReasonValue, 1)
	f("after 2105", is(schema.RecordClick), click(func(c *schema.Click) { c.ReceivedMs = 1 << 60 }), fold.ReasonValue, 1)
	f("short visitor", is(schema.RecordClick), click(func(c *schema.Click) { c.Visitor = c.Visitor[:15] }), fold.ReasonValue, 1)
	f("long click id", is(schema.RecordClick), click(func(c *schema.Click) { c.ClickId = make([]byte, 40) }), fold.ReasonValue, 1)
	f("verdict of the future", is(schema.RecordClick), click(func(c *schema.Click) { c.EdgeVerdict = 99 }), fold.ReasonValue, 1)
	f("no verdict", is(schema.RecordClick), click(func(c *schema.Click) { c.EdgeVerdict = 0 }), fold.ReasonValue, 1)
	f("negative window", is(schema.RecordClick), click(func(c *schema.Click) { c.WindowMs = -5 }), fold.ReasonValue, 1)
	f("no partnership", is(schema.RecordClick), click(func(c *schema.Click) { c.PartnershipId = 0 }), fold.ReasonValue, 1)
	f("hole from 0", is(schema.RecordHole), message(t, &schema.Hole{Epoch: 1, Last: 5}), fold.ReasonValue, 1)
	f("hole backwards", is(schema.RecordHole), message(t, &schema.Hole{Epoch: 1, First: 5, Last: 4}), fold.ReasonValue, 1)
	f("tick in the far future", schema.Header{Type: schema.RecordTick, Edge: 1, Epoch: 1}, message(t, &schema.Tick{TimeMs: 1 << 60}), fold.ReasonValue, 0)
}

// TestLedger folds entries of the ledger, one of them twice, into the four totals.
func TestLedger(t *testing.T) {
	var log []fold.Record
	add := func(n uint64, e *schema.LedgerEntry) {
		e.PartnershipId, e.OccurredMs = 7, 1_700_000_000_000
		log = append(log, fold.Record{Offset: uint64(len(log)), Header: header(schema.Header{Type: schema.RecordLedgerEntry, Edge: 5, Epoch: 1, Number: n}), Value: message(t, e)})
	}
	add(1, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_REFERRED, Count: 1})
	add(2, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Amount: 4900, Currency: "USD"})
	add(2, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Amount: 4900, Currency: "USD"})
	add(3, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Amount: -900, Currency: "USD"})
	add(4, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Amount: 100, Currency: "EUR"})
	add(5, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_EARNED, Amount: 7, Currency: "EUR"})
	add(6, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_PENDING, Amount: 8, Currency: "EUR"})
	add(7, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_REFERRED, Count: -3})
	add(8, &schema.LedgerEntry{Kind: 99})
	add(9, &schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Currency: "dollars"})
	out := foldAll(t, schema.Log{Topic: schema.TopicLedger, Generation: 1}, log, 0, sizes(rand.New(rand.NewPCG(1, 1)), 4))
	got := map[string]int64{}
	for k, row := range out.totals {
		got[fmt.Sprint(k.Kind, " ", k.Value)] = row.Referred + row.Amount
	}
	want := map[string]int64{"12 ": -2, "13 USD": 4000, "13 EUR": 100, "14 EUR": 7, "15 EUR": 8}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("totals by kind and value (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint64]fold.Reason{8: fold.ReasonValue, 9: fold.ReasonValue}, out.dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

// TestForks names edges whose past is not what it was.
func TestForks(t *testing.T) {
	open := func(epoch schema.Epoch, previous, last uint64) fold.Record {
		return fold.Record{Header: header(schema.Header{Type: schema.RecordOpen, Edge: 1, Epoch: epoch, Number: 1}), Value: message(t, &schema.Open{PreviousEpoch: previous, PreviousLast: last})}
	}
	f := func(name string, want []fold.NoticeKind, wantMissing uint64, log ...fold.Record) {
		t.Helper()
		p, err := fold.New(fold.Config{Log: clickLog}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range log {
			log[i].Offset = uint64(i)
		}
		if err := p.Stage(log); err != nil {
			t.Fatal(err)
		}
		var b fold.Batch
		p.Apply(&b)
		var got []fold.NoticeKind
		for _, n := range b.Notices {
			got = append(got, n.Kind)
		}
		if !slices.Equal(got, want) || p.Missing() != wantMissing {
			t.Errorf("%s: got notices %v and %d missing, want %v and %d", name, got, p.Missing(), want, wantMissing)
		}
	}
	f("first", nil, 0, open(10, 0, 0))
	f("next", nil, 0, open(10, 0, 0), open(11, 10, 1))
	f("lost tail", []fold.NoticeKind{fold.NoticeGap}, 4, open(10, 0, 0), open(11, 10, 5))
	f("never seen", []fold.NoticeKind{fold.NoticeGap}, 5, open(11, 10, 5))
	f("rolled back", []fold.NoticeKind{fold.NoticeFork}, 0, open(10, 0, 0), open(11, 10, 0))
	f("begins anew", []fold.NoticeKind{fold.NoticeFork}, 0, open(10, 0, 0), open(11, 0, 0))
}

// TestNewerProgress refuses what a newer version wrote, by one line.
func TestNewerProgress(t *testing.T) {
	_, err := fold.New(fold.Config{Log: clickLog}, &schema.ProgressRow{V: 3, FoldVersion: fold.Version + 1})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v, want one line that says newer", err)
	}
}
