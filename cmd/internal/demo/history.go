package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The size of the history.
const (
	Days    = 90
	Clicks  = 60_000
	Signups = 900
	Sales   = 400
)

// Event is one event of the history: a visit of a link or a conversion that follows one.
type Event struct {
	Time       time.Time
	Visit      *Visit
	Conversion *Conversion
}

// Visit is a request that a link gets.
type Visit struct {
	// Index counts the visits of the history, in the order of time.
	Index          int
	Slug           string
	Method         string
	Address        string
	UserAgent      string
	AcceptLanguage string
	Referrer       string
	Query          string
}

// Conversion is what the shop reports about the customer that the visit with index Visit brought.
type Conversion struct {
	Visit       int
	Sale        bool
	CustomerKey string
	Key         string
	Amount      int64
	Currency    string
}

type source struct {
	slug     string
	weight   int
	referrer string
	query    string
}

var sources = []source{
	{"trailhead", 18, "https://trailhead.example/", ""},
	{"spring-guide", 20, "https://trailhead.example/spring", "?sid=guide"},
	{"pricing-video", 9, "https://video.example/", "?sid=video"},
	{"podcast-42", 3, "", "?utm_source=podcast"},
	{"daily-stack", 11, "https://dailystack.example/", ""},
	{"weekly", 14, "https://mail.example/", "?utm_source=letter&utm_medium=email"},
	{"comparison", 9, "https://search.example/", "?sid=compare"},
	{"quiet-ledger", 7, "https://quietledger.example/", ""},
	{"toolbox", 9, "https://forum.example/", "?sid=forum"},
}

// hours weighs the hours of a day of UTC: the audience lives in Europe and America.
var hours = []int{5, 4, 3, 2, 2, 3, 4, 6, 9, 11, 12, 12, 11, 12, 14, 15, 16, 16, 15, 14, 13, 11, 9, 7}

var languages = []string{"en-US,en;q=0.9", "en-GB,en;q=0.8", "de-DE,de;q=0.9,en;q=0.6", "fr-FR,fr;q=0.9", "es-ES,es;q=0.9,en;q=0.5"}

type person struct{ address, agent, language string }

// History returns the demo's history in the order of time, the same for the same end and seed: Clicks visits over the
// Days before end, and Signups and Sales that follow some of them.
func History(end time.Time, seed uint64) []Event {
	r := rand.New(rand.NewPCG(seed, 0x77617972))
	times := visitTimes(r, end)
	events := make([]Event, 0, Clicks+Signups+Sales)
	var people []person
	var customers []int
	for i, t := range times {
		v := &Visit{Index: i, Method: "GET"}
		s := sources[weighted(r, len(sources), func(i int) int { return sources[i].weight })]
		v.Slug, v.Referrer, v.Query = s.slug, s.referrer, s.query
		switch n := r.IntN(1000); {
		case n < 75:
			v.Address, v.UserAgent = address(r), pick(r, robots)
		case n < 95:
			v.Address, v.UserAgent = address(r), pick(r, previews)
		case n < 105:
			v.Address, v.UserAgent, v.Method = address(r), pick(r, agents), "HEAD"
		default:
			if len(people) == 0 || r.IntN(100) < 68 {
				people = append(people, person{address(r), pick(r, agents), pick(r, languages)})
			}
			p := people[len(people)-1-r.IntN(min(len(people), 250))]
			v.Address, v.UserAgent, v.AcceptLanguage = p.address, p.agent, p.language
			if end.Sub(t) > 36*time.Hour {
				customers = append(customers, i)
			}
		}
		events = append(events, Event{Time: t, Visit: v})
	}
	events = append(events, conversions(r, end, times, customers)...)
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events
}

func visitTimes(r *rand.Rand, end time.Time) []time.Time {
	start := end.Add(-Days * 24 * time.Hour)
	times := make([]time.Time, 0, Clicks)
	for len(times) < Clicks {
		day := weighted(r, Days, func(d int) int {
			w := 60 + d*60/Days
			if wd := start.AddDate(0, 0, d).Weekday(); wd == time.Saturday || wd == time.Sunday {
				w = w * 6 / 10
			}
			return w
		})
		t := start.AddDate(0, 0, day).Truncate(24 * time.Hour)
		t = t.Add(time.Duration(weighted(r, 24, func(h int) int { return hours[h] })) * time.Hour)
		t = t.Add(time.Duration(r.Int64N(int64(time.Hour/time.Millisecond))) * time.Millisecond)
		if t.After(start) && t.Before(end) {
			times = append(times, t)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// conversions picks the visits that led to a signup, and the signups that led to a sale; all lie before end.
func conversions(r *rand.Rand, end time.Time, times []time.Time, visits []int) []Event {
	r.Shuffle(len(visits), func(i, j int) { visits[i], visits[j] = visits[j], visits[i] })
	events := make([]Event, 0, Signups+Sales)
	for i, visit := range visits[:Signups] {
		customer := fmt.Sprintf("demo-customer-%04d", i)
		at := times[visit].Add(time.Duration(1+r.IntN(36*60)) * time.Minute)
		events = append(events, Event{Time: at, Conversion: &Conversion{Visit: visit, CustomerKey: customer, Key: customer + "-signup"}})
	}
	buyers := r.Perm(Signups)[:Sales]
	slices.Sort(buyers)
	for _, i := range buyers {
		signup := events[i]
		within := min(12*24*time.Hour, end.Sub(signup.Time)-time.Minute)
		at := signup.Time.Add(time.Second + time.Duration(r.Int64N(int64(within))).Truncate(time.Millisecond))
		c := *signup.Conversion
		c.Sale, c.Key = true, c.CustomerKey+"-sale"
		c.Amount, c.Currency = []int64{1900, 4900, 4900, 9900, 24900}[r.IntN(5)], "USD"
		if r.IntN(6) == 0 {
			c.Currency = "EUR"
		}
		events = append(events, Event{Time: at, Conversion: &c})
	}
	return events
}

// weighted returns an index below n, by integer weights.
func weighted(r *rand.Rand, n int, weight func(int) int) int {
	sum := 0
	for i := range n {
		sum += weight(i)
	}
	x := r.IntN(sum)
	for i := range n {
		if x -= weight(i); x < 0 {
			return i
		}
	}
	return n - 1
}

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

// address returns an address of the networks that are set aside for documentation and benchmarks (RFC 5737, RFC 2544),
// so that the demo never speaks of anybody's real one.
func address(r *rand.Rand) string {
	return fmt.Sprintf("198.%d.%d.%d", 18+r.IntN(2), r.IntN(256), 1+r.IntN(254))
}
