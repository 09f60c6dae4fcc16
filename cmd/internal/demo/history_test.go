package demo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistory(t *testing.T) {
	end := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	events := History(end, 1)
	if diff := cmp.Diff(events, History(end, 1)); diff != "" {
		t.Fatalf("two histories of one seed differ:\n%s", diff)
	}
	var visits, signups, sales int
	visited, signedUp := map[int]bool{}, map[string]bool{}
	last := end.Add(-Days * 24 * time.Hour)
	for i, e := range events {
		if e.Time.Before(last) || !e.Time.Before(end) {
			t.Fatalf("event %d at %v, want it in order and before %v", i, e.Time, end)
		}
		last = e.Time
		switch c := e.Conversion; {
		case c == nil:
			if e.Visit.Index != visits {
				t.Fatalf("visit %d has index %d", visits, e.Visit.Index)
			}
			visits++
			visited[e.Visit.Index] = true
		case !visited[c.Visit]:
			t.Fatalf("conversion %s comes before its visit", c.Key)
		case c.Sale:
			sales++
			if !signedUp[c.CustomerKey] || c.Amount <= 0 {
				t.Fatalf("sale %s of %d comes before its signup or is nothing", c.Key, c.Amount)
			}
		default:
			signups++
			signedUp[c.CustomerKey] = true
		}
	}
	if visits != Clicks || signups != Signups || sales != Sales {
		t.Errorf("got %d visits, %d signups, %d sales; want %d, %d, %d", visits, signups, sales, Clicks, Signups, Sales)
	}
}
