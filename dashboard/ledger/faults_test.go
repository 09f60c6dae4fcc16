package ledger

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"waymark/schema"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
)

// seed returns WAYMARK_SEED, or a new one.
func seed(t *testing.T) uint64 {
	n := rand.Uint64()
	if text := os.Getenv("WAYMARK_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WAYMARK_SEED=%d", n)
	return n
}

// history returns random conversions of few customers, so that they meet.
func history(w *world, r *rand.Rand, n int) []*schema.Conversion {
	var all []*schema.Conversion
	links := []uint64{w.linkA, w.linkA, w.linkB, w.linkB, w.linkOther, 12345}
	for i := range n {
		typ := schema.ConversionType(1 + r.IntN(4))
		var click []byte
		if r.IntN(2) == 0 {
			click = w.click(links[r.IntN(len(links))], time.Duration(r.IntN(120*24))*time.Hour)
		}
		customer := fmt.Sprint("c", r.IntN(n/6+1))
		if click != nil && r.IntN(8) == 0 {
			customer = ""
		}
		var amount int64
		if typ == sale || typ == refund {
			amount = 1 + r.Int64N(10_000)
		}
		c := w.conversion(typ, fmt.Sprint("k", i), customer, click, amount, time.Duration(r.IntN(40*24))*time.Hour)
		if amount != 0 && r.IntN(3) == 0 {
			c.Currency = "EUR"
		}
		all = append(all, c)
	}
	return all
}

// model says what a set of conversions is worth, in no order in particular.
func model(w *world, all []*schema.Conversion) map[uint64]sums {
	owners := map[uint64]uint64{w.linkA: w.a.ID, w.linkB: w.b.ID}
	credited := func(c *schema.Conversion) (partnership uint64, clicked int64) {
		if len(c.ClickId) == 0 {
			return 0, 0
		}
		id := schema.RawClickID(c.ClickId)
		age := time.Duration(c.OccurredMs-id.TimeMillis()) * time.Millisecond
		if age > 90*day || age < -day {
			return 0, 0
		}
		return owners[id.Link()], id.TimeMillis()
	}
	byCustomer := map[string][]*schema.Conversion{}
	for _, c := range all {
		key := c.CustomerKey
		if key == "" {
			key = "nobody " + c.IdempotencyKey
		}
		byCustomer[key] = append(byCustomer[key], c)
	}
	result := map[uint64]sums{}
	for key, list := range byCustomer {
		slices.SortFunc(list, func(a, b *schema.Conversion) int {
			return cmp.Or(cmp.Compare(a.OccurredMs, b.OccurredMs), slices.Compare(a.Id, b.Id))
		})
		var first, touch *schema.Conversion
		for _, c := range list {
			p, _ := credited(c)
			if c.Type == signup && first == nil {
				first = c
			}
			if c.Type != signup && (c.Type != refund || c.CustomerKey == "") && touch == nil && p != 0 {
				touch = c
			}
		}
		var owner uint64
		var clicked int64
		referred := false
		if first != nil {
			owner, clicked = credited(first)
			referred = owner != 0
		}
		if owner == 0 && touch != nil {
			owner, clicked = credited(touch)
			referred = first != nil && touch.OccurredMs <= first.OccurredMs
		}
		if owner == 0 {
			continue
		}
		s := result[owner]
		if referred {
			s.Referred++
		}
		for _, c := range list {
			amount := c.Amount
			if c.Type == refund {
				amount = -amount
			}
			if amount != 0 && c.OccurredMs >= clicked-day.Milliseconds() {
				s.add(&schema.LedgerEntry{Kind: schema.EntryKind_ENTRY_SOLD, Currency: c.Currency, Amount: amount})
			}
		}
		result[owner] = s
		_ = key
	}
	return result
}

// T28, T12, T22 of a ledger: random histories from three edges, in random order, with duplicates, while transactions and
// requests fail before and after they took effect and the ledger is stopped and started.
func TestFaults(t *testing.T) {
	s := seed(t)
	rounds := 4
	if testing.Short() || onPostgres != nil {
		rounds = 1
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(s, uint64(round)))
		w := newWorld(t)
		f := &faults{random: rand.New(rand.NewPCG(s, 1000+uint64(round))), every: 4}
		db := &faultyDatabase{w.store, f}
		k := &kafka.Client{Addr: w.kafka.Addr, Transport: &faultyKafka{w.kafka.Transport, f}}
		_, stop := w.run(db, k)
		edges := []*edge{w.edge(1), w.edge(2), w.edge(3)}
		all := history(w, r, 120)
		for i, c := range all {
			for range 1 + r.IntN(2) {
				edges[r.IntN(3)].send(c)
			}
			time.Sleep(time.Duration(r.IntN(12)) * time.Millisecond)
			if i%40 == 39 {
				stop()
				_, stop = w.run(db, k)
			}
		}
		got := w.settled(edges...)
		stop()
		if diff := gocmp.Diff(model(w, all), got.sums); diff != "" {
			t.Errorf("round %d: model and topic differ (-model +topic):\n%s", round, diff)
		}
		if diff := gocmp.Diff(w.booked(), got.sums); diff != "" {
			t.Errorf("round %d: SQL and topic differ (-SQL +topic):\n%s", round, diff)
		}
		if n := w.count(`SELECT count(*) FROM conversions`); n != len(all) {
			t.Errorf("round %d: %d conversions, want %d", round, n, len(all))
		}
		if n := w.count(`SELECT count(*) FROM ledger_entries`); n != got.entries {
			t.Errorf("round %d: %d entries in the topic, %d in SQL", round, got.entries, n)
		}
		if f.hits < 6 {
			t.Errorf("round %d: %d faults were injected, want more: the test tests little", round, f.hits)
		}
	}
}

func TestOneLedgerAtATime(t *testing.T) {
	w := newWorld(t)
	_, stopFirst := w.run(w.store, w.kafka)
	e := w.edge(1)
	w.settled(e)
	second, _ := w.run(w.store, w.kafka)
	click := w.click(w.linkA, day)
	for i := range 10 {
		e.send(w.conversion(signup, fmt.Sprint(i), fmt.Sprint(i), click, 0, 0))
	}
	w.settled(e)
	if n := len(second.Offsets()); n != 0 {
		t.Errorf("the second ledger reads %d partitions beside the first", n)
	}
	stopFirst()
	e.send(w.conversion(signup, "after", "after", click, 0, 0))
	if got := w.settled(e).sums[w.a.ID].Referred; got != 11 {
		t.Errorf("%d referred, want 11", got)
	}
	if len(second.Offsets()) == 0 {
		t.Error("the second ledger did not take over")
	}
}

// The log that the ledger has read lies in another cluster: it says so and writes nothing.
func TestAnotherLog(t *testing.T) {
	w := newWorld(t)
	_, stop := w.run(w.store, w.kafka)
	e := w.edge(1)
	e.send(w.conversion(signup, "1", "1", w.click(w.linkA, day), 0, 0))
	w.settled(e)
	stop()
	other := newWorld(t)
	l, _ := w.run(w.store, other.kafka)
	wait(t, "the refusal", func() bool { return l.Ready() != nil })
}

func FuzzRecord(f *testing.F) {
	w := newWorld(f)
	for _, c := range history(w, rand.New(rand.NewPCG(1, 2)), 8) {
		value, err := c.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(schema.Header{Version: 1, Type: schema.RecordConversion, Edge: 1, Epoch: 1, Number: 1}.Append(nil), value)
	}
	f.Add([]byte("x"), []byte("y"))
	l, err := New(Config{Database: w.store, Kafka: w.kafka, ClickIDs: w.clicks, ConversionPartitions: partitions})
	if err != nil {
		f.Fatal(err)
	}
	if taken, err := w.store.TakeLease(f.Context(), leaseName, l.holder, time.Hour); err != nil || !taken {
		f.Fatal(taken, err)
	}
	b := &book{l: l, owners: map[uint64]owner{}}
	if err := b.open(f.Context()); err != nil {
		f.Fatal(err)
	}
	out := newSender(l, b.epochStart)
	f.Fuzz(func(t *testing.T, header, value []byte) {
		next := b.partitions[0].next
		if err := b.take(t.Context(), []chunk{{0, []record{{next, header, value}}}}, out); err != nil {
			t.Errorf("a record with header %x and value %x stopped the ledger: %v", header, value, err)
		}
	})
}
