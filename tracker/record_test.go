package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"waymark/schema"
)

func TestRecord(t *testing.T) {
	e := startEdge(t, nil)
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	f := func(after time.Duration, v Visit, want schema.Verdict) *schema.Click {
		t.Helper()
		v.Time, v.Host, v.Slug = start.Add(after), testHost, "Spring"
		v.Address = netip.MustParseAddr("::ffff:198.51.100.7")
		if v.UserAgent == "" {
			v.UserAgent = person
		}
		text, err := e.Record(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		id, err := e.clickIDs.Parse([]byte(text))
		if err != nil {
			t.Fatalf("Record = %q: %v", text, err)
		}
		clicks := e.clicks()
		c := clicks[len(clicks)-1]
		if c.EdgeVerdict != want || string(c.ClickId) != string(id[:]) || c.OccurredMs != v.Time.UnixMilli() || id.TimeMillis() != c.OccurredMs || time.Since(time.UnixMilli(c.ReceivedMs)) > time.Minute {
			t.Errorf("a visit after %v is %s at %d, received %d; want %s", after, c.EdgeVerdict.Label(), c.OccurredMs, c.ReceivedMs, want.Label())
		}
		return c
	}
	c := f(0, Visit{Query: "?sid=a&utm_source=s", Referrer: "https://blog.example/", AcceptLanguage: "de"}, unique)
	if string(c.SubIds[0]) != "a" || string(c.UtmSource) != "s" || string(c.ReferrerHost) != "blog.example" {
		t.Errorf("journaled %v", c)
	}
	// The windows follow the time of the visits, not of the clock.
	f(23*time.Hour, Visit{AcceptLanguage: "de"}, repeat)
	f(24*time.Hour, Visit{AcceptLanguage: "de"}, unique)
	f(23*time.Hour, Visit{AcceptLanguage: "de"}, repeat)
	f(47*time.Hour, Visit{AcceptLanguage: "de"}, repeat)
	f(48*time.Hour, Visit{AcceptLanguage: "de"}, unique)
	f(48*time.Hour, Visit{Method: "HEAD"}, headOnly)
	f(48*time.Hour, Visit{UserAgent: "curl/8.9.1"}, bot)
	// A visit by Record and one by HTTP are the same visitor.
	e.get("GET", testHost, "/spring", "X-Forwarded-For: 198.51.100.7", "Accept-Language: de")
	clicks := e.clicks()
	if a, b := clicks[0], clicks[len(clicks)-1]; string(a.Visitor) != string(b.Visitor) || b.EdgeVerdict != unique {
		t.Errorf("by HTTP the visitor is %x (%s), by Record %x", b.Visitor, b.EdgeVerdict.Label(), a.Visitor)
	}
	for _, bad := range []Visit{{Host: testHost, Slug: "nothing"}, {Host: "elsewhere.example", Slug: "spring"}, {Host: "a b", Slug: "spring"}, {Host: testHost, Slug: "a/b"}} {
		if _, err := e.Record(t.Context(), bad); !errors.Is(err, ErrUnknownLink) {
			t.Errorf("Record(%+v) = %v, want %v", bad, err, ErrUnknownLink)
		}
	}
	if _, err := e.Record(t.Context(), Visit{Host: testHost, Slug: "spring", Method: "POST"}); err == nil {
		t.Error("Record of a POST: want an error")
	}
}

func TestRecordConversion(t *testing.T) {
	e := startEdge(t, nil)
	in := &schema.Conversion{Type: schema.ConversionType_CONVERSION_SALE, CustomerKey: "c", Amount: 5, Currency: "USD", OccurredMs: 1_700_000_000_000, IdempotencyKey: "k"}
	if err := e.RecordConversion(t.Context(), 1, in); err != nil {
		t.Fatal(err)
	}
	e.post(testKey, `{"type":"sale","customer_key":"c","amount":5,"currency":"USD","idempotency_key":"k"}`)
	all := e.conversions()
	if len(all) != 2 || string(all[0].Id) != string(all[1].Id) || all[0].OccurredMs != in.OccurredMs || all[0].ReceivedMs == 0 || all[0].ProgramId != 1 {
		t.Errorf("journaled %v, want the id that the API gives", all)
	}
	if err := e.RecordConversion(t.Context(), 1, &schema.Conversion{IdempotencyKey: "k"}); err == nil {
		t.Error("a conversion without type: want an error")
	}
}

// TestOneNewVisitorFromManyGoroutines: one visitor, many clicks at once, one unique, and the same in the journal's order.
func TestOneNewVisitorFromManyGoroutines(t *testing.T) {
	e := startEdge(t, nil)
	const rounds, goroutines = 50, 16
	for round := range rounds {
		var group sync.WaitGroup
		for i := range goroutines {
			group.Go(func() {
				_, err := e.Record(t.Context(), Visit{Time: time.Now(), Host: testHost, Slug: []string{"spring", "summer"}[i%2], UserAgent: person, Address: netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", round))})
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	type seen struct{ unique, spring, summer int }
	visitors := map[string]*seen{}
	for i, c := range e.clicks() {
		s := visitors[string(c.Visitor)]
		if first := s == nil; first != (c.EdgeVerdict == unique) {
			t.Errorf("click %d is %s, and the first of its visitor: %v", i, c.EdgeVerdict.Label(), first)
		}
		if s == nil {
			s = &seen{}
			visitors[string(c.Visitor)] = s
		}
		if c.EdgeVerdict == unique {
			s.unique++
		}
		if c.EdgeLinkUnique && c.LinkId == linkSpring {
			s.spring++
		}
		if c.EdgeLinkUnique && c.LinkId == linkSummer {
			s.summer++
		}
	}
	if len(visitors) != rounds {
		t.Errorf("%d visitors, want %d", len(visitors), rounds)
	}
	for id, s := range visitors {
		if *s != (seen{1, 1, 1}) {
			t.Errorf("visitor %x: %+v, want one of each", id, *s)
		}
	}
}
