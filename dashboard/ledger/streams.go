package ledger

import (
	"cmp"
	"math"
	"slices"

	"waymark/schema"
)

// span is a run of numbers, both ends included.
type span struct{ first, last uint64 }

// watermark is what has been read of one epoch of an edge in a partition: every number up to last, except the gaps,
// which are sorted, apart from each other, and end below last.
type watermark struct {
	last uint64
	gaps []span
	// dirty: SQL does not hold it as it is here. holed: nor its gaps.
	dirty, holed bool
}

// accept takes number n, at least 1, and reports whether it is new.
func (w *watermark) accept(n uint64) bool {
	switch {
	case n == w.last+1:
		w.last, w.dirty = n, true
		return true
	case n > w.last:
		w.expect(n - 1)
		w.last = n
		return true
	}
	return w.fill(span{n, n})
}

// expect says that numbers up to last exist.
func (w *watermark) expect(last uint64) {
	if last > w.last {
		w.gaps = append(w.gaps, span{w.last + 1, last})
		w.last, w.dirty, w.holed = last, true, true
	}
}

// lose says that the numbers of a span will never come.
func (w *watermark) lose(s span) {
	w.expect(s.last)
	w.fill(s)
}

// fill takes a span out of the gaps and reports whether any of it was in one.
func (w *watermark) fill(s span) bool {
	i, _ := slices.BinarySearchFunc(w.gaps, s.first, func(g span, n uint64) int { return cmp.Compare(g.last, n) })
	var left []span
	end := i
	for ; end < len(w.gaps) && w.gaps[end].first <= s.last; end++ {
		g := w.gaps[end]
		if g.first < s.first {
			left = append(left, span{g.first, s.first - 1})
		}
		if g.last > s.last {
			left = append(left, span{s.last + 1, g.last})
		}
	}
	if end == i {
		return false
	}
	w.gaps = slices.Replace(w.gaps, i, end, left...)
	w.dirty, w.holed = true, true
	return true
}

type source struct {
	edge  schema.EdgeID
	epoch schema.Epoch
}

// partition is what has been read of one partition of the conversions log.
type partition struct {
	number int
	next   int64
	marks  map[source]*watermark
	ticks  map[schema.EdgeID]int64
	// dirty: SQL does not hold the offset or a tick as they are here.
	dirty bool
}

func newPartition(number int) *partition {
	return &partition{number: number, marks: map[source]*watermark{}, ticks: map[schema.EdgeID]int64{}}
}

func (p *partition) mark(s source) *watermark {
	w := p.marks[s]
	if w == nil {
		w = &watermark{}
		p.marks[s] = w
	}
	return w
}

// missing reports whether an edge has open gaps.
func (p *partition) missing(edge schema.EdgeID) bool {
	for s, w := range p.marks {
		if s.edge == edge && len(w.gaps) > 0 {
			return true
		}
	}
	return false
}

// tick moves an edge's tick on, when everything up to the epoch's number n has been read and nothing of the edge misses.
func (p *partition) tick(s source, n uint64, millis int64) {
	if p.mark(s).last < n || p.missing(s.edge) {
		return
	}
	if old, ok := p.ticks[s.edge]; !ok || millis > old {
		p.ticks[s.edge], p.dirty = millis, true
	}
}

// leastTick returns the time up to which the ledger has everything of every edge: 0 while an edge has not ticked in every
// partition, or none has.
func leastTick(partitions []*partition) int64 {
	least := int64(math.MaxInt64)
	edges := map[schema.EdgeID]int{}
	for _, p := range partitions {
		for edge, millis := range p.ticks {
			edges[edge]++
			least = min(least, millis)
		}
	}
	for _, n := range edges {
		if n < len(partitions) {
			return 0
		}
	}
	if len(edges) == 0 {
		return 0
	}
	return least
}

func openGaps(partitions []*partition) (n int) {
	for _, p := range partitions {
		for _, w := range p.marks {
			n += len(w.gaps)
		}
	}
	return n
}
