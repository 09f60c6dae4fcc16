package fold_test

import (
	"fmt"
	"slices"
	"strconv"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// reference is the fold once more, written for nothing but being plainly right: one record after the other, sets of
// numbers in place of intervals, one map of everything.
type reference struct {
	maxValues int

	last    map[stream]uint64
	missing map[stream]map[uint64]bool
	ticks   map[uint64]int64
	seen    map[visitorKey]counted
	values  map[string]map[string]bool
	clicks  map[uint64]verdict
	totals  map[totalKey]counts
	dead    map[uint64]fold.Reason
}

type (
	stream     struct{ edge, epoch uint64 }
	visitorKey struct {
		partnership uint64
		visitor     string
		link        uint64
	}
	counted struct {
		millis int64
		offset uint64
	}
	verdict struct {
		verdict    schema.Verdict
		linkUnique bool
	}
	totalKey struct {
		partnership uint64
		kind        schema.TotalKind
		value       string
		quarter     int64
	}
	counts struct {
		clicks           [schema.NumVerdicts]uint64
		referred, amount int64
	}
)

func newReference(maxValues int) *reference {
	return &reference{
		maxValues: maxValues, last: map[stream]uint64{}, missing: map[stream]map[uint64]bool{}, ticks: map[uint64]int64{},
		seen: map[visitorKey]counted{}, values: map[string]map[string]bool{}, clicks: map[uint64]verdict{}, totals: map[totalKey]counts{}, dead: map[uint64]fold.Reason{},
	}
}

// expect says that the stream's numbers up to n exist.
func (r *reference) expect(s stream, n uint64) {
	if r.missing[s] == nil {
		r.missing[s] = map[uint64]bool{}
	}
	for i := r.last[s] + 1; i <= n; i++ {
		r.missing[s][i] = true
	}
	r.last[s] = max(r.last[s], n)
}

func (r *reference) accept(s stream, n uint64) bool {
	r.expect(s, n)
	fresh := r.missing[s][n]
	delete(r.missing[s], n)
	return fresh
}

func (r *reference) fold(rec fold.Record) {
	h, err := schema.ParseHeader(rec.Header)
	if err != nil {
		r.dead[rec.Offset] = fold.ReasonHeader
		return
	}
	s := stream{uint64(h.Edge), uint64(h.Epoch)}
	if h.Type != schema.RecordTick && !r.accept(s, h.Number) {
		return
	}
	switch {
	case h.Version != schema.Version:
		r.dead[rec.Offset] = fold.ReasonVersion
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

func (r *reference) tick(s stream, n uint64, value []byte) {
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

func (r *reference) first(k visitorKey, m *schema.Click, offset uint64) bool {
	c, ok := r.seen[k]
	if ok && (m.WindowMs == 0 || m.OccurredMs < c.millis || m.OccurredMs-c.millis < m.WindowMs) {
		return false
	}
	r.seen[k] = counted{m.OccurredMs, offset}
	return true
}

func (r *reference) click(m *schema.Click, offset uint64) {
	v := verdict{verdict: m.EdgeVerdict}
	if m.EdgeVerdict.Valid() {
		v.verdict = schema.Verdict_VERDICT_REPEAT
		if r.first(visitorKey{m.PartnershipId, string(m.Visitor), 0}, m, offset) {
			v.verdict = schema.Verdict_VERDICT_UNIQUE
		}
		v.linkUnique = r.first(visitorKey{m.PartnershipId, string(m.Visitor), m.LinkId}, m, offset)
	}
	r.clicks[offset] = v
	add := func(kind schema.TotalKind, value string, v schema.Verdict) {
		k := totalKey{m.PartnershipId, kind, value, m.OccurredMs / 900_000 * 900}
		c := r.totals[k]
		c.clicks[v]++
		r.totals[k] = c
	}
	onLink := v.verdict
	if v.verdict.Valid() {
		onLink = schema.Verdict_VERDICT_REPEAT
		if v.linkUnique {
			onLink = schema.Verdict_VERDICT_UNIQUE
		}
	}
	add(schema.TotalAll, "", v.verdict)
	add(schema.TotalLink, strconv.FormatUint(m.LinkId, 10), onLink)
	for kind, n := range map[schema.TotalKind]int{schema.TotalDevice: int(m.Device), schema.TotalBrowser: int(m.Browser), schema.TotalOS: int(m.Os)} {
		if n != 0 {
			add(kind, strconv.Itoa(n), v.verdict)
		}
	}
	if len(m.SubIds) > 0 {
		add(schema.TotalSubID, r.capped(m.PartnershipId, schema.TotalSubID, string(m.SubIds[0])), v.verdict)
	}
	if len(m.ReferrerHost) > 0 {
		add(schema.TotalReferrer, r.capped(m.PartnershipId, schema.TotalReferrer, string(m.ReferrerHost)), v.verdict)
	}
}

func (r *reference) capped(partnership uint64, kind schema.TotalKind, value string) string {
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

// progress returns the row that must stand after the records folded so far, without its time.
func (r *reference) progress(log string, v uint64) schema.ProgressRow {
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
