package ledger

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"waymark/schema"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
)

const (
	lead   = schema.ConversionType_CONVERSION_LEAD
	signup = schema.ConversionType_CONVERSION_SIGNUP
	sale   = schema.ConversionType_CONVERSION_SALE
	refund = schema.ConversionType_CONVERSION_REFUND
)

const day = 24 * time.Hour

func TestCredit(t *testing.T) {
	w := newWorld(t)
	e := w.edge(1)
	_, _ = w.run(w.store, w.kafka)
	a, b := w.click(w.linkA, 10*day), w.click(w.linkB, 9*day)
	forged := append([]byte(nil), a...)
	forged[20] ^= 1
	// Each case has its own customers; {n} makes keys unique.
	for n, c := range []struct {
		name string
		send []*schema.Conversion
		a, b sums
	}{
		{"signup", []*schema.Conversion{w.conversion(signup, "0-1", "0", a, 0, 0)}, sums{Referred: 1}, sums{}},
		{"signup without customer", []*schema.Conversion{w.conversion(signup, "1-1", "", a, 0, 0)}, sums{Referred: 1}, sums{}},
		{"signup without click", []*schema.Conversion{w.conversion(signup, "2-1", "2", nil, 0, 0), w.conversion(sale, "2-2", "2", nil, 500, 0)}, sums{}, sums{}},
		{"signup and sales", []*schema.Conversion{w.conversion(signup, "3-1", "3", a, 0, 2*day), w.conversion(sale, "3-2", "3", nil, 500, day),
			w.conversion(sale, "3-3", "3", nil, 700, 0)}, sums{Referred: 1, Sold: map[string]int64{"USD": 1200}}, sums{}},
		{"refund", []*schema.Conversion{w.conversion(signup, "4-1", "4", a, 0, 2*day), w.conversion(sale, "4-2", "4", nil, 500, day),
			w.conversion(refund, "4-3", "4", nil, 200, 0)}, sums{Referred: 1, Sold: map[string]int64{"USD": 300}}, sums{}},
		{"refund before sale before signup", []*schema.Conversion{w.conversion(refund, "5-1", "5", nil, 200, 0), w.conversion(sale, "5-2", "5", nil, 500, day),
			w.conversion(signup, "5-3", "5", a, 0, 2*day)}, sums{Referred: 1, Sold: map[string]int64{"USD": 300}}, sums{}},
		{"second signup of another partner", []*schema.Conversion{w.conversion(signup, "6-1", "6", a, 0, day), w.conversion(signup, "6-2", "6", b, 0, 0)}, sums{Referred: 1}, sums{}},
		{"first signup arrives second", []*schema.Conversion{w.conversion(signup, "7-1", "7", b, 0, 0), w.conversion(sale, "7-2", "7", nil, 500, 0),
			w.conversion(signup, "7-3", "7", a, 0, day)}, sums{Referred: 1, Sold: map[string]int64{"USD": 500}}, sums{}},
		{"sale with a click, no signup", []*schema.Conversion{w.conversion(sale, "8-1", "8", b, 500, 0)}, sums{}, sums{Sold: map[string]int64{"USD": 500}}},
		{"sale with a click, then a signup without", []*schema.Conversion{w.conversion(sale, "9-1", "9", b, 500, day), w.conversion(signup, "9-2", "9", nil, 0, 0)},
			sums{}, sums{Referred: 1, Sold: map[string]int64{"USD": 500}}},
		{"sale with a click, then another's signup", []*schema.Conversion{w.conversion(sale, "10-1", "10", b, 500, day), w.conversion(signup, "10-2", "10", a, 0, 0)},
			sums{Referred: 1, Sold: map[string]int64{"USD": 500}}, sums{}},
		{"lead, then a signup without a click", []*schema.Conversion{w.conversion(lead, "11-1", "11", a, 0, day), w.conversion(signup, "11-2", "11", nil, 0, 0)}, sums{Referred: 1}, sums{}},
		{"organic signup, then a sale with a click", []*schema.Conversion{w.conversion(signup, "12-1", "12", nil, 0, 2*day), w.conversion(sale, "12-2", "12", nil, 900, 20*day),
			w.conversion(sale, "12-3", "12", a, 500, 0)}, sums{Sold: map[string]int64{"USD": 500}}, sums{}},
		{"click 91 days before", []*schema.Conversion{w.conversion(signup, "13-1", "13", w.click(w.linkA, 91*day), 0, 0)}, sums{}, sums{}},
		{"click 89 days before", []*schema.Conversion{w.conversion(signup, "14-1", "14", w.click(w.linkA, 89*day), 0, 0)}, sums{Referred: 1}, sums{}},
		{"click 23 hours after", []*schema.Conversion{w.conversion(signup, "15-1", "15", w.click(w.linkA, -23*time.Hour), 0, 0)}, sums{Referred: 1}, sums{}},
		{"click 25 hours after", []*schema.Conversion{w.conversion(signup, "16-1", "16", w.click(w.linkA, -25*time.Hour), 0, 0)}, sums{}, sums{}},
		{"click of another program", []*schema.Conversion{w.conversion(signup, "17-1", "17", w.click(w.linkOther, 0), 0, 0)}, sums{}, sums{}},
		{"forged click", []*schema.Conversion{w.conversion(signup, "18-1", "18", forged, 0, 0)}, sums{}, sums{}},
		{"link that does not exist", []*schema.Conversion{w.conversion(signup, "19-1", "19", w.click(99999, 0), 0, 0)}, sums{}, sums{}},
		{"sale and refund of nobody in particular", []*schema.Conversion{w.conversion(sale, "20-1", "", a, 500, 0), w.conversion(refund, "20-2", "", a, 100, 0)},
			sums{Sold: map[string]int64{"USD": 400}}, sums{}},
		{"sale for nothing", []*schema.Conversion{w.conversion(signup, "21-1", "21", a, 0, 0), w.conversion(sale, "21-2", "21", nil, 0, 0)}, sums{Referred: 1}, sums{}},
	} {
		before := w.settled(e)
		for _, conversion := range c.send {
			if conversion.Type == sale && conversion.Currency == "" {
				conversion.Currency = "USD"
			}
			e.send(conversion)
		}
		after := w.settled(e)
		for _, p := range []struct {
			id   uint64
			want sums
		}{{w.a.ID, c.a}, {w.b.ID, c.b}} {
			if diff := cmp.Diff(p.want, minus(after.sums[p.id], before.sums[p.id])); diff != "" {
				t.Errorf("%d %s: partnership %d (-want +got):\n%s", n, c.name, p.id, diff)
			}
		}
		if other := after.sums[w.aHarbor.ID]; other.Referred != 0 || other.Sold != nil {
			t.Errorf("%s: the other program got %+v", c.name, other)
		}
	}
	if diff := cmp.Diff(w.read().sums, w.booked()); diff != "" {
		t.Errorf("topic and SQL differ (-topic +SQL):\n%s", diff)
	}
}

func minus(a, b sums) sums {
	d := sums{Referred: a.Referred - b.Referred}
	for currency := range a.Sold {
		d.add(&schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Currency: currency, Amount: a.Sold[currency] - b.Sold[currency]})
	}
	if len(d.Sold) == 0 {
		d.Sold = nil
	}
	return d
}

// T28: one idempotency key, 64 times at once, from three edges.
func TestOneKeyManyTimes(t *testing.T) {
	w := newWorld(t)
	_, _ = w.run(w.store, w.kafka)
	edges := []*edge{w.edge(1), w.edge(2), w.edge(3)}
	click := w.click(w.linkA, day)
	var wg sync.WaitGroup
	for i, e := range edges {
		wg.Go(func() {
			for range 64 {
				e.send(w.conversion(signup, "once", "c", click, 0, 0), w.conversion(sale, "bought", "c", nil, 1000, 0))
			}
			// The edge that filled in the time itself, at another moment.
			c := w.conversion(signup, "untimed", "u", click, 0, 0)
			c.OccurredMs += int64(i)
			c.ReceivedMs = c.OccurredMs
			e.send(c)
		})
	}
	wg.Wait()
	got := w.settled(edges...)
	want := map[uint64]sums{w.a.ID: {Referred: 2, Sold: map[string]int64{"USD": 1000}}}
	if diff := cmp.Diff(want, got.sums); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := w.count(`SELECT count(*) FROM conversion_conflicts`); n != 0 {
		t.Errorf("%d conflicts, want 0", n)
	}
	e := edges[0]
	e.send(w.conversion(sale, "bought", "c", nil, 9999, 0), w.conversion(sale, "bought", "c", nil, 9999, 0))
	if diff := cmp.Diff(want, w.settled(edges...).sums); diff != "" {
		t.Errorf("after a conflict (-want +got):\n%s", diff)
	}
	if n := w.count(`SELECT count(*) FROM conversion_conflicts`); n != 1 {
		t.Errorf("%d conflicts, want 1", n)
	}
}

// Records that come again, and later than the ones behind them, as after "timed out after append".
func TestDuplicateAndLateRecords(t *testing.T) {
	w := newWorld(t)
	l, _ := w.run(w.store, w.kafka)
	e := w.edge(1)
	click := w.click(w.linkA, day)
	record := func(key string) func() kafka.Record {
		c := w.conversion(signup, key, key, click, 0, 0)
		e.numbers[0]++
		number := e.numbers[0]
		return func() kafka.Record {
			saved := e.numbers[0]
			e.numbers[0] = number - 1
			defer func() { e.numbers[0] = saved }()
			return e.record(0, schema.RecordConversion, c)
		}
	}
	one, two, three, four := record("1"), record("2"), record("3"), record("4")
	e.put(0, one(), four(), one())
	e.tick(now.UnixMilli() + 1_000_000)
	wait(t, "a gap", func() bool { return w.read().sums[w.a.ID].Referred == 2 })
	time.Sleep(200 * time.Millisecond)
	if tick := w.read().tick; tick != 0 {
		t.Errorf("the tick moved to %d over a gap", tick)
	}
	e.put(0, three(), four(), three(), two(), two())
	if got := w.settled(e).sums[w.a.ID].Referred; got != 4 {
		t.Errorf("%d referred, want 4", got)
	}
	if n := w.count(`SELECT count(*) FROM ledger_gaps`); n != 0 {
		t.Errorf("%d gaps are left, want 0", n)
	}
	if l.Offsets()[0] < 10 {
		t.Errorf("Offsets = %v, want 10 or more in partition 0", l.Offsets())
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about in 20 s", what)
		}
	}
}

// T13: records that nobody can read are kept, and the partition moves on.
func TestPoison(t *testing.T) {
	w := newWorld(t)
	_, _ = w.run(w.store, w.kafka)
	e := w.edge(1)
	click := w.click(w.linkA, day)
	bad := func(change func(*schema.Conversion)) kafka.Record {
		c := w.conversion(sale, "bad", "bad", click, 100, 0)
		change(c)
		return e.record(0, schema.RecordConversion, c)
	}
	header := func(typ schema.RecordType, version uint8, number uint64) []kafka.Header {
		return []kafka.Header{{Key: schema.HeaderKey, Value: schema.Header{Version: version, Type: typ, Edge: e.id, Epoch: e.epoch, Number: number}.Append(nil)}}
	}
	next := func() uint64 { e.numbers[0]++; return e.numbers[0] }
	records := []kafka.Record{
		{Value: kafka.NewBytes([]byte("no header"))},
		{Value: kafka.NewBytes([]byte("short")), Headers: []kafka.Header{{Key: schema.HeaderKey, Value: []byte("short")}}},
		{Headers: header(schema.RecordConversion, 1, 0)},
		{Value: kafka.NewBytes([]byte{0xff}), Headers: header(schema.RecordConversion, 1, next())},
		{Value: kafka.NewBytes([]byte("from the future")), Headers: header(schema.RecordConversion, 9, next())},
		{Value: kafka.NewBytes([]byte("what")), Headers: header(77, 1, next())},
		{Headers: header(schema.RecordHole, 1, next())},
		{Value: kafka.NewBytes(make([]byte, 900_000)), Headers: header(schema.RecordConversion, 1, next())},
		bad(func(c *schema.Conversion) { c.Id = nil }),
		bad(func(c *schema.Conversion) { c.Amount = -1 }),
		bad(func(c *schema.Conversion) { c.Amount = 1 << 60 }),
		bad(func(c *schema.Conversion) { c.Currency = "" }),
		bad(func(c *schema.Conversion) { c.Type = 9 }),
		bad(func(c *schema.Conversion) { c.OccurredMs = -1 }),
		bad(func(c *schema.Conversion) { c.CustomerKey = "a\xff" }),
		bad(func(c *schema.Conversion) { c.IdempotencyKey = "a\x00" }),
	}
	for _, r := range records {
		e.put(0, r)
	}
	good := w.conversion(signup, "good", "good", click, 0, 0)
	e.put(0, e.record(0, schema.RecordConversion, good))
	if got := w.settled(e).sums[w.a.ID]; got.Referred != 1 || got.Sold != nil {
		t.Errorf("sums = %+v, want the one good signup", got)
	}
	if n := w.count(`SELECT count(*) FROM ledger_poison`); n != len(records) {
		t.Errorf("%d records were kept, want %d", n, len(records))
	}
	if n := w.count(`SELECT max(length(payload)) FROM ledger_poison`); n > maxPayload {
		t.Errorf("%d bytes of a payload were kept, want %d at most", n, maxPayload)
	}
}

func TestHoleAndNewEpoch(t *testing.T) {
	w := newWorld(t)
	_, stop := w.run(w.store, w.kafka)
	e := w.edge(1)
	click := w.click(w.linkA, day)
	e.send(w.conversion(signup, "1", "1", click, 0, 0))
	w.settled(e)
	for p := range partitions {
		lost := schema.Open{PreviousEpoch: uint64(e.epoch), PreviousLast: e.numbers[p] + 3}
		hole := schema.Hole{Epoch: uint64(e.epoch), First: e.numbers[p] + 1, Last: e.numbers[p] + 3}
		next := *e
		next.epoch, next.numbers[p] = e.epoch+1, 0
		next.put(p, next.record(p, schema.RecordOpen, &lost))
		if p == 0 {
			wait(t, "a gap", func() bool { return w.count(`SELECT count(*) FROM ledger_gaps`) == 1 })
		}
		next.put(p, next.record(p, schema.RecordHole, &hole))
		e.numbers[p] = 2
	}
	e.epoch++
	w.settled(e)
	stop()
	_, _ = w.run(w.store, w.kafka)
	e.send(w.conversion(signup, "2", "2", click, 0, 0))
	if got := w.settled(e).sums[w.a.ID].Referred; got != 2 {
		t.Errorf("%d referred, want 2", got)
	}
}

// A tick stands still while one edge is silent in one partition.
func TestTickWaitsForAllEdges(t *testing.T) {
	w := newWorld(t)
	_, _ = w.run(w.store, w.kafka)
	one, two := w.edge(1), w.edge(2)
	one.tick(1000)
	two.tick(500)
	wait(t, "the tick of the slower edge", func() bool { return w.read().tick == 500 })
	one.tick(2000)
	two.put(0, two.record(0, schema.RecordTick, &schema.Tick{TimeMs: 2000}))
	time.Sleep(300 * time.Millisecond)
	if tick := w.read().tick; tick != 500 {
		t.Errorf("the tick stands at %d, want 500: an edge is silent in a partition", tick)
	}
	two.put(1, two.record(1, schema.RecordTick, &schema.Tick{TimeMs: 1900}))
	wait(t, "the tick to follow", func() bool { return w.read().tick == 1900 })
}

func TestLatencyAndLatest(t *testing.T) {
	w := newWorld(t)
	l, _ := w.run(w.store, w.kafka)
	e := w.edge(1)
	w.settled(e)
	click := w.click(w.linkA, day)
	var slowest time.Duration
	for i := range 20 {
		began := time.Now()
		e.send(w.conversion(signup, fmt.Sprint("s", i), fmt.Sprint("c", i), click, 0, time.Duration(100-i)*time.Minute))
		wait(t, "the entry", func() bool { return w.read().sums[w.a.ID].Referred == int64(i+1) })
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("slowest of 20 signups, conversions log to ledger log: %v", slowest)
	if slowest > 300*time.Millisecond {
		t.Errorf("a signup took %v from log to log, want less than 300 ms", slowest)
	}
	e.send(w.conversion(sale, "b1", "c1", nil, 500, 10*time.Minute), w.conversion(refund, "b2", "c1", nil, 200, 5*time.Minute),
		w.conversion(signup, "r1", "r", w.click(w.linkA, day), 0, time.Minute), w.conversion(signup, "r2", "r", w.click(w.linkB, day), 0, 2*time.Minute))
	w.settled(e)
	got, err := l.Latest(t.Context(), w.a.ID, 3)
	if err != nil {
		t.Fatal(err)
	}
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	want := []Booked{
		{Type: refund, Amount: -200, Currency: "USD", LinkID: w.linkA, Occurred: at(5 * time.Minute)},
		{Type: sale, Amount: 500, Currency: "USD", LinkID: w.linkA, Occurred: at(10 * time.Minute)},
		{Type: signup, LinkID: w.linkA, Occurred: at(81 * time.Minute)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Latest (-want +got):\n%s", diff)
	}
}
