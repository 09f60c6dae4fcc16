package foldtest

import (
	"fmt"
	"slices"
	"strconv"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// Reference is the fold once more, written for nothing but being plainly right: one record after the other, sets of
// numbers in place of intervals, one map of everything.
type Reference struct {
	// Clicks holds the verdict of every accepted click by offset; Totals and Visitors are keyed as the tables are; Dead
	// holds the reason of every dead letter by offset.
	Clicks   map[uint64]Verdict
	Totals   map[TotalKey]Counts
	Visitors map[VisitorKey]Counted
	Dead     map[uint64]fold.Reason

	maxValues int
	last      map[stream]uint64
	missing   map[stream]map[uint64]bool
	ticks     map[uint64]int64
	values    map[string]map[string]bool
}

type stream struct{ edge, epoch uint64 }

// VisitorKey is the key of the table of visitors within a partition.
type VisitorKey struct {
	Partnership uint64
	Visitor     string
	Link        uint64
}

// Counted is when and at which offset a visitor was last counted.
type Counted struct {
	Millis int64
	Offset uint64
}

// Verdict is what a click counted as, in both scopes.
type Verdict struct {
	Verdict    schema.Verdict
	LinkUnique bool
}

// TotalKey is the key of the table of totals within a partition; the quarter is in seconds.
type TotalKey struct {
	Partnership uint64
	Kind        schema.TotalKind
	Value       string
	Quarter     int64
}

// Counts is what a total holds.
type Counts struct {
	Clicks           [schema.NumVerdicts]uint64
	Referred, Amount int64
}

// KeyOf returns the key of a row of totals.
func KeyOf(row *schema.TotalRow) TotalKey {
	return TotalKey{row.PartnershipID, schema.TotalKind(row.Kind), row.Value, row.Quarter.Unix()}
}

// CountsOf returns what a row of totals holds.
func CountsOf(row *schema.TotalRow) (c Counts) {
	copy(c.Clicks[:], row.Clicks)
	c.Referred, c.Amount = row.Referred, row.Amount
	return c
}

// NewReference returns the fold of no records, under a cap of distinct values.
func NewReference(maxValues int) *Reference {
	return &Reference{
		Clicks: map[uint64]Verdict{}, Totals: map[TotalKey]Counts{}, Visitors: map[VisitorKey]Counted{}, Dead: map[uint64]fold.Reason{},
		maxValues: maxValues, last: map[stream]uint64{}, missing: map[stream]map[uint64]bool{}, ticks: map[uint64]int64{}, values: map[string]map[string]bool{},
	}
}

// expect says that the stream's numbers up to n exist.
func (r *Reference) expect(s stream, n uint64) {
	if r.missing[s] == nil {
		r.missing[s] = map[uint64]bool{}
	}
	for i := r.last[s] + 1; i <= n; i++ {
		r.missing[s][i] = true
	}
	r.last[s] = max(r.last[s], n)
}

func (r *Reference) accept(s stream, n uint64) bool {
	r.expect(s, n)
	fresh := r.missing[s][n]
	delete(r.missing[s], n)
	return fresh
}

// Fold folds the record that comes next.
func (r *Reference) Fold(rec fold.Record) {
	h, err := schema.ParseHeader(rec.Header)
	if err != nil {
		r.Dead[rec.Offset] = fold.ReasonHeader
		return
	}
	s := stream{uint64(h.Edge), uint64(h.Epoch)}
	if h.Type != schema.RecordTick && !r.accept(s, h.Number) {
		return
	}
	switch {
	case h.Version != schema.Version:
		r.Dead[rec.Offset] = fold.ReasonVersion
	case h.Type == schema.RecordTick:
		r.tick(s, h.Number, rec.Value)
	case h.Type == schema.RecordOpen:
		m := &schema.Open{}
		if m.UnmarshalVT(rec.Value) == nil && m.PreviousEpoch != 0 && m.PreviousLast > 0 {
			r.expect(stream{s.edge, m.PreviousEpoch}, m.PreviousLast)
		}
	case h.Type == schema.RecordHole:
		m := &schema.Hole{}
		if m.UnmarshalVT(rec.Value) == nil {
			of := stream{s.edge, m.Epoch}
			r.expect(of, m.Last)
			for n := m.First; n <= m.Last; n++ {
				delete(r.missing[of], n)
			}
		}
	case h.Type == schema.RecordClick:
		m := &schema.Click{}
		if m.UnmarshalVT(rec.Value) == nil {
			r.click(m, rec.Offset)
		}
	}
}

func (r *Reference) tick(s stream, n uint64, value []byte) {
	m := &schema.Tick{}
	if m.UnmarshalVT(value) != nil || r.last[s] < n {
		return
	}
	for other, missing := range r.missing {
		if other.edge == s.edge && len(missing) > 0 {
			return
		}
	}
	if t, ok := r.ticks[s.edge]; !ok || m.TimeMs > t {
		r.ticks[s.edge] = m.TimeMs
	}
}

func (r *Reference) first(k VisitorKey, m *schema.Click, offset uint64) bool {
	c, ok := r.Visitors[k]
	if ok && (m.WindowMs == 0 || m.OccurredMs < c.Millis || m.OccurredMs-c.Millis < m.WindowMs) {
		return false
	}
	r.Visitors[k] = Counted{m.OccurredMs, offset}
	return true
}

func (r *Reference) click(m *schema.Click, offset uint64) {
	v := Verdict{Verdict: m.EdgeVerdict}
	if m.EdgeVerdict.Valid() {
		v.Verdict = schema.Verdict_VERDICT_REPEAT
		if r.first(VisitorKey{m.PartnershipId, string(m.Visitor), 0}, m, offset) {
			v.Verdict = schema.Verdict_VERDICT_UNIQUE
		}
		v.LinkUnique = r.first(VisitorKey{m.PartnershipId, string(m.Visitor), m.LinkId}, m, offset)
	}
	r.Clicks[offset] = v
	add := func(kind schema.TotalKind, value string, v schema.Verdict) {
		k := TotalKey{m.PartnershipId, kind, value, m.OccurredMs / 900_000 * 900}
		c := r.Totals[k]
		c.Clicks[v]++
		r.Totals[k] = c
	}
	onLink := v.Verdict
	if v.Verdict.Valid() {
		onLink = schema.Verdict_VERDICT_REPEAT
		if v.LinkUnique {
			onLink = schema.Verdict_VERDICT_UNIQUE
		}
	}
	add(schema.TotalAll, "", v.Verdict)
	add(schema.TotalLink, strconv.FormatUint(m.LinkId, 10), onLink)
	for kind, n := range map[schema.TotalKind]int{schema.TotalDevice: int(m.Device), schema.TotalBrowser: int(m.Browser), schema.TotalOS: int(m.Os)} {
		if n != 0 {
			add(kind, strconv.Itoa(n), v.Verdict)
		}
	}
	if len(m.SubIds) > 0 {
		add(schema.TotalSubID, r.capped(m.PartnershipId, schema.TotalSubID, string(m.SubIds[0])), v.Verdict)
	}
	if len(m.ReferrerHost) > 0 {
		add(schema.TotalReferrer, r.capped(m.PartnershipId, schema.TotalReferrer, string(m.ReferrerHost)), v.Verdict)
	}
}

func (r *Reference) capped(partnership uint64, kind schema.TotalKind, value string) string {
	name := fmt.Sprint(partnership, kind)
	if r.values[name] == nil {
		r.values[name] = map[string]bool{}
	}
	if !r.values[name][value] {
		if len(r.values[name]) >= r.maxValues {
			return schema.OtherValue
		}
		r.values[name][value] = true
	}
	return value
}

// Progress returns the row that must stand after the records folded so far, without its time.
func (r *Reference) Progress(log string, v uint64) schema.ProgressRow {
	row := schema.ProgressRow{Log: log, V: v, FoldVersion: fold.Version}
	var streams []stream
	for s := range r.last {
		streams = append(streams, s)
	}
	slices.SortFunc(streams, func(a, b stream) int { return slices.Compare([]uint64{a.edge, a.epoch}, []uint64{b.edge, b.epoch}) })
	for _, s := range streams {
		row.Edges, row.Epochs, row.Lasts = append(row.Edges, s.edge), append(row.Epochs, s.epoch), append(row.Lasts, r.last[s])
		for n := uint64(1); n <= r.last[s]; n++ {
			if !r.missing[s][n] {
				continue
			}
			first := n
			for r.missing[s][n+1] {
				n++
			}
			row.GapEdges, row.GapEpochs = append(row.GapEdges, s.edge), append(row.GapEpochs, s.epoch)
			row.GapFirsts, row.GapLasts = append(row.GapFirsts, first), append(row.GapLasts, n)
		}
	}
	var edges []uint64
	for e := range r.ticks {
		edges = append(edges, e)
	}
	slices.Sort(edges)
	for _, e := range edges {
		row.TickEdges, row.TickMillis = append(row.TickEdges, e), append(row.TickMillis, r.ticks[e])
	}
	return row
}
