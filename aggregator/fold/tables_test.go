package fold_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
	"waymark/schema"
)

// tables is a ClickHouse of one partition, as far as facts need one: rows replace rows of the same key by version.
type tables struct {
	clicks   map[uint64]schema.ClickRow
	visitors map[foldtest.VisitorKey]schema.VisitorRow
	totals   map[foldtest.TotalKey]schema.TotalRow
	progress *schema.ProgressRow
	dead     map[uint64]fold.Reason
}

func newTables() *tables {
	return &tables{map[uint64]schema.ClickRow{}, map[foldtest.VisitorKey]schema.VisitorRow{}, map[foldtest.TotalKey]schema.TotalRow{}, nil, map[uint64]fold.Reason{}}
}

// some returns a random part of the rows when r is not nil, and all of them otherwise.
func some[T any](r *rand.Rand, rows []T) []T {
	if r == nil {
		return rows
	}
	rows = slices.Clone(rows)
	r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows[:r.IntN(len(rows)+1)]
}

func (t *tables) putClicks(rows []schema.ClickRow) {
	for _, row := range rows {
		t.clicks[row.Offset] = row
	}
}

func (t *tables) putVisitors(rows []schema.VisitorRow) {
	for _, row := range rows {
		k := foldtest.VisitorKey{Partnership: row.PartnershipID, Visitor: row.Visitor, Link: row.LinkID}
		if old, ok := t.visitors[k]; !ok || old.Position <= row.Position {
			t.visitors[k] = row
		}
	}
}

func (t *tables) putTotals(rows []schema.TotalRow) {
	for _, row := range rows {
		if old, ok := t.totals[foldtest.KeyOf(&row)]; !ok || old.V <= row.V {
			t.totals[foldtest.KeyOf(&row)] = row
		}
	}
}

func (t *tables) putProgress(row schema.ProgressRow) {
	if t.progress == nil || t.progress.V <= row.V {
		t.progress = &row
	}
}

func (t *tables) putDead(letters []fold.DeadLetter) {
	for _, d := range letters {
		t.dead[d.Record.Offset] = d.Reason
	}
}

// visitorsFrom returns the rows at or beyond an offset.
func (t *tables) visitorsFrom(offset uint64) (rows []schema.VisitorRow) {
	for _, row := range t.visitors {
		if row.Position >= offset {
			rows = append(rows, row)
		}
	}
	return rows
}

// values returns what LoadValues wants to know.
func (t *tables) values(ids []uint64) (rows []schema.TotalRow) {
	newest := map[foldtest.TotalKey]schema.TotalRow{}
	for k, row := range t.totals {
		k.Quarter = 0
		if old, ok := newest[k]; slices.Contains(ids, row.PartnershipID) && (!ok || old.Quarter.Before(row.Quarter)) {
			newest[k] = schema.TotalRow{PartnershipID: row.PartnershipID, Kind: row.Kind, Value: row.Value, Quarter: row.Quarter}
		}
	}
	for _, row := range newest {
		rows = append(rows, row)
	}
	return rows
}

// cells returns what LoadCells wants to know.
func (t *tables) cells(asked []fold.Cell) (rows []schema.TotalRow) {
	for _, row := range t.totals {
		if slices.Contains(asked, fold.Cell{Partnership: row.PartnershipID, Quarter: uint32(row.Quarter.Unix())}) {
			rows = append(rows, row)
		}
	}
	return rows
}

// check compares the tables with the reference after the same number of records. It returns "" or what differs.
func (t *tables) check(ref *foldtest.Reference, v uint64) string {
	for o, want := range ref.Clicks {
		row, ok := t.clicks[o]
		if got := (foldtest.Verdict{Verdict: schema.Verdict(row.Verdict), LinkUnique: row.LinkUnique}); !ok || got != want {
			return fmt.Sprintf("click %d: got %v (stored: %t), want %v", o, got, ok, want)
		}
	}
	if len(t.clicks) != len(ref.Clicks) {
		return fmt.Sprintf("got %d clicks, want %d", len(t.clicks), len(ref.Clicks))
	}
	for k, want := range ref.Totals {
		row := t.totals[k]
		if got := foldtest.CountsOf(&row); got != want {
			return fmt.Sprintf("total %v: got %v at %d, want %v", k, got, row.V, want)
		}
	}
	if len(t.totals) != len(ref.Totals) {
		return fmt.Sprintf("got %d totals, want %d", len(t.totals), len(ref.Totals))
	}
	for k, want := range ref.Visitors {
		row := t.visitors[k]
		if got := (foldtest.Counted{Millis: row.CountedAt.UnixMilli(), Offset: row.Position}); got != want {
			return fmt.Sprintf("visitor %v: got %v, want %v", k, got, want)
		}
	}
	if len(t.visitors) != len(ref.Visitors) {
		return fmt.Sprintf("got %d visitors, want %d", len(t.visitors), len(ref.Visitors))
	}
	want := ref.Progress(logName, v)
	if t.progress == nil || fmt.Sprint(*t.progress) != fmt.Sprint(want) {
		return fmt.Sprintf("progress: got %v, want %v", t.progress, want)
	}
	if fmt.Sprint(t.dead) != fmt.Sprint(ref.Dead) {
		return fmt.Sprintf("dead letters: got %v, want %v", t.dead, ref.Dead)
	}
	return ""
}
