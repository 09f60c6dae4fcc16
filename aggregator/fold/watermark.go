package fold

import (
	"cmp"
	"math"
	"slices"

	"waymark/schema"
)

// span is a run of numbers, both ends included.
type span struct{ first, last uint64 }

// watermark is what has been seen of one epoch of one edge: every number up to last, except those in gaps.
type watermark struct {
	last uint64
	// Sorted, with numbers between them, and none above last.
	gaps []span
}

// accept records number n, which is at least 1. It reports whether n was new, and whether it lies beyond the next one, so
// that a gap has opened.
func (w *watermark) accept(n uint64) (fresh, gap bool) {
	if n > w.last {
		if n > w.last+1 {
			w.open(n - 1)
			gap = true
		}
		w.last = n
		return true, gap
	}
	return w.close(span{n, n}), false
}

// open makes a gap of what lies above last, up to and including to.
func (w *watermark) open(to uint64) {
	if n := len(w.gaps); n > 0 && w.gaps[n-1].last == w.last {
		w.gaps[n-1].last = to
		return
	}
	w.gaps = append(w.gaps, span{w.last + 1, to})
}

// close takes a span out of the open gaps and reports whether any of it was in one.
func (w *watermark) close(s span) bool {
	i, found := slices.BinarySearchFunc(w.gaps, s.first, func(g span, n uint64) int { return cmp.Compare(g.last, n) })
	if !found && (i == len(w.gaps) || w.gaps[i].first > s.last) {
		return false
	}
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
	w.gaps = slices.Replace(w.gaps, i, end, left...)
	return true
}

// expect says that numbers up to last exist. It reports whether some of them have not been seen.
func (w *watermark) expect(last uint64) bool {
	if last <= w.last {
		return false
	}
	w.open(last)
	w.last = last
	return true
}

// lose says that the numbers of a span will never come.
func (w *watermark) lose(s span) {
	if s.last > w.last {
		if s.first > w.last+1 {
			w.open(s.first - 1)
		}
		w.last = s.last
	}
	w.close(s)
}

type edgeEpoch struct {
	edge  schema.EdgeID
	epoch schema.Epoch
}

func (a edgeEpoch) compare(b edgeEpoch) int {
	return cmp.Or(cmp.Compare(a.edge, b.edge), cmp.Compare(a.epoch, b.epoch))
}

// streams is what has been seen of all edges in one partition.
type streams struct {
	marks map[edgeEpoch]*watermark
	// The epochs of each edge that have open gaps: while there is one the edge's tick stands still.
	gappy map[schema.EdgeID]int
	ticks map[schema.EdgeID]int64
}

func newStreams() *streams {
	return &streams{marks: map[edgeEpoch]*watermark{}, gappy: map[schema.EdgeID]int{}, ticks: map[schema.EdgeID]int64{}}
}

// change applies f to the watermark of an epoch, which is made if it is the first of it.
func (s *streams) change(k edgeEpoch, f func(*watermark)) {
	w := s.marks[k]
	if w == nil {
		w = &watermark{}
		s.marks[k] = w
	}
	before := len(w.gaps) > 0
	f(w)
	if after := len(w.gaps) > 0; after != before {
		if after {
			s.gappy[k.edge]++
		} else if s.gappy[k.edge]--; s.gappy[k.edge] == 0 {
			delete(s.gappy, k.edge)
		}
	}
}

func (s *streams) accept(k edgeEpoch, n uint64) (fresh, gap bool) {
	if w := s.marks[k]; w != nil && n == w.last+1 {
		w.last = n
		return true, false
	}
	s.change(k, func(w *watermark) { fresh, gap = w.accept(n) })
	return fresh, gap
}

// tick moves the edge's tick to t if everything up to the epoch's number n has been seen, and nothing of the edge is
// missing. A tick never goes back.
func (s *streams) tick(k edgeEpoch, n uint64, t int64) {
	var last uint64
	if w := s.marks[k]; w != nil {
		last = w.last
	}
	if last < n || s.gappy[k.edge] > 0 {
		return
	}
	if old, ok := s.ticks[k.edge]; !ok || t > old {
		s.ticks[k.edge] = t
	}
}

// openGaps returns how many numbers are missing.
func (s *streams) openGaps() (missing uint64) {
	for k := range s.gappy {
		for ee, w := range s.marks {
			if ee.edge != k {
				continue
			}
			for _, g := range w.gaps {
				n := g.last - g.first + 1
				if missing > math.MaxUint64-n {
					return math.MaxUint64
				}
				missing += n
			}
		}
	}
	return missing
}

func (s *streams) appendTo(row *schema.ProgressRow) {
	keys := make([]edgeEpoch, 0, len(s.marks))
	for k := range s.marks {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, edgeEpoch.compare)
	for _, k := range keys {
		w := s.marks[k]
		row.Edges = append(row.Edges, uint64(k.edge))
		row.Epochs = append(row.Epochs, uint64(k.epoch))
		row.Lasts = append(row.Lasts, w.last)
		for _, g := range w.gaps {
			row.GapEdges = append(row.GapEdges, uint64(k.edge))
			row.GapEpochs = append(row.GapEpochs, uint64(k.epoch))
			row.GapFirsts = append(row.GapFirsts, g.first)
			row.GapLasts = append(row.GapLasts, g.last)
		}
	}
	edges := make([]schema.EdgeID, 0, len(s.ticks))
	for e := range s.ticks {
		edges = append(edges, e)
	}
	slices.Sort(edges)
	for _, e := range edges {
		row.TickEdges = append(row.TickEdges, uint64(e))
		row.TickMillis = append(row.TickMillis, s.ticks[e])
	}
}

// readStreams is the reverse of appendTo. It reports false for arrays that do not run in parallel.
func readStreams(row *schema.ProgressRow) (*streams, bool) {
	s := newStreams()
	if len(row.Epochs) != len(row.Edges) || len(row.Lasts) != len(row.Edges) || len(row.TickMillis) != len(row.TickEdges) ||
		len(row.GapEpochs) != len(row.GapEdges) || len(row.GapFirsts) != len(row.GapEdges) || len(row.GapLasts) != len(row.GapEdges) {
		return nil, false
	}
	for i := range row.Edges {
		k := edgeEpoch{schema.EdgeID(row.Edges[i]), schema.Epoch(row.Epochs[i])}
		s.marks[k] = &watermark{last: row.Lasts[i]}
	}
	for i := range row.GapEdges {
		k := edgeEpoch{schema.EdgeID(row.GapEdges[i]), schema.Epoch(row.GapEpochs[i])}
		g := span{row.GapFirsts[i], row.GapLasts[i]}
		w := s.marks[k]
		if w == nil || g.first == 0 || g.first > g.last || g.last > w.last || len(w.gaps) > 0 && w.gaps[len(w.gaps)-1].last >= g.first {
			return nil, false
		}
		s.change(k, func(w *watermark) { w.gaps = append(w.gaps, g) })
	}
	for i, e := range row.TickEdges {
		s.ticks[schema.EdgeID(e)] = row.TickMillis[i]
	}
	return s, true
}
