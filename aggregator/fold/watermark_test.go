package fold

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"waymark/schema"
)

// numbers is a watermark as a plain set.
type numbers struct {
	last    uint64
	missing map[uint64]bool
}

func (s *numbers) expect(n uint64) {
	for i := s.last + 1; i <= n; i++ {
		s.missing[i] = true
	}
	s.last = max(s.last, n)
}

func (s *numbers) gaps() (gaps []span) {
	for n := uint64(1); n <= s.last; n++ {
		if !s.missing[n] {
			continue
		}
		first := n
		for s.missing[n+1] {
			n++
		}
		gaps = append(gaps, span{first, n})
	}
	return gaps
}

// step does one operation on both, and returns a difference or "".
func step(w *watermark, s *numbers, op, a, b uint64) string {
	switch op % 3 {
	case 0:
		fresh, gap := w.accept(a)
		wantGap := a > s.last+1
		s.expect(a)
		wantFresh := s.missing[a]
		delete(s.missing, a)
		if fresh != wantFresh || gap != wantGap {
			return fmt.Sprintf("accept(%d): got %t %t, want %t %t", a, fresh, gap, wantFresh, wantGap)
		}
	case 1:
		first, last := min(a, b), max(a, b)
		w.lose(span{first, last})
		s.expect(last)
		for n := first; n <= last; n++ {
			delete(s.missing, n)
		}
	case 2:
		want := a > s.last
		s.expect(a)
		if got := w.expect(a); got != want {
			return fmt.Sprintf("expect(%d): got %t, want %t", a, got, want)
		}
	}
	if want := s.gaps(); w.last != s.last || fmt.Sprint(w.gaps) != fmt.Sprint(want) {
		return fmt.Sprintf("op %d(%d, %d): got last %d gaps %v, want %d %v", op%3, a, b, w.last, w.gaps, s.last, want)
	}
	return ""
}

func TestWatermark(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		w, s := &watermark{}, &numbers{missing: map[uint64]bool{}}
		for i := range 60 {
			reach := 1 + s.last + r.Uint64N(4)
			if e := step(w, s, r.Uint64N(6)/2*r.Uint64N(2), 1+r.Uint64N(reach), 1+r.Uint64N(reach)); e != "" {
				t.Fatalf("seed %d, step %d: %s", seed, i, e)
			}
		}
	}
}

func FuzzWatermark(f *testing.F) {
	f.Add([]byte{0, 9, 9, 1, 3, 5, 2, 20, 20, 0, 4, 4})
	f.Fuzz(func(t *testing.T, ops []byte) {
		w, s := &watermark{}, &numbers{missing: map[uint64]bool{}}
		for ; len(ops) >= 3; ops = ops[3:] {
			if e := step(w, s, uint64(ops[0]), 1+uint64(ops[1]), 1+uint64(ops[2])); e != "" {
				t.Fatal(e)
			}
		}
	})
}

func TestWatermarkExtremes(t *testing.T) {
	const most = ^uint64(0)
	w := &watermark{}
	for _, n := range []uint64{most, 1, most - 1} {
		if fresh, _ := w.accept(n); !fresh {
			t.Errorf("accept(%d): got a duplicate, want fresh", n)
		}
		if fresh, _ := w.accept(n); fresh {
			t.Errorf("accept(%d) again: got fresh, want a duplicate", n)
		}
	}
	if want := (span{2, most - 2}); len(w.gaps) != 1 || w.gaps[0] != want {
		t.Errorf("gaps: got %v, want [%v]", w.gaps, want)
	}
}

func TestTicks(t *testing.T) {
	a, b := edgeEpoch{1, 10}, edgeEpoch{1, 11}
	s := newStreams()
	f := func(name string, do func(), want int64) {
		t.Helper()
		do()
		if got := s.ticks[1]; got != want {
			t.Errorf("%s: the tick is at %d, want %d", name, got, want)
		}
	}
	f("nothing seen, nothing sent", func() { s.tick(a, 0, 5) }, 5)
	f("a number that has not come", func() { s.tick(a, 1, 6) }, 5)
	f("it has come", func() { s.accept(a, 1); s.tick(a, 1, 7) }, 7)
	f("never back", func() { s.tick(a, 1, 6) }, 7)
	f("a gap below", func() { s.accept(a, 4); s.tick(a, 4, 8) }, 7)
	f("a gap of another epoch", func() { s.accept(b, 1); s.tick(b, 1, 9) }, 7)
	f("half closed", func() { s.accept(a, 2); s.tick(b, 1, 9) }, 7)
	f("closed", func() { s.accept(a, 3); s.tick(b, 1, 9) }, 9)
	f("declared lost", func() {
		s.accept(b, 5)
		s.change(b, func(w *watermark) { w.lose(span{2, 4}) })
		s.tick(b, 5, 10)
	}, 10)
}

// TestReadStreams reads back what appendTo writes, and refuses rows that are damaged.
func TestReadStreams(t *testing.T) {
	s := newStreams()
	for _, n := range []uint64{1, 5, 9, 7} {
		s.accept(edgeEpoch{3, 1}, n)
	}
	s.accept(edgeEpoch{2, 7}, 1)
	s.tick(edgeEpoch{2, 7}, 1, 77)
	var row schema.ProgressRow
	s.appendTo(&row)
	back, ok := readStreams(&row)
	if !ok {
		t.Fatalf("%+v: refused", row)
	}
	var again schema.ProgressRow
	back.appendTo(&again)
	if fmt.Sprint(row) != fmt.Sprint(again) || back.openGaps() != 5 || len(back.gappy) != 1 {
		t.Errorf("got %+v with %d missing, want %+v with 5", again, back.openGaps(), row)
	}
	for name, damage := range map[string]func(*schema.ProgressRow){
		"short lasts":    func(r *schema.ProgressRow) { r.Lasts = r.Lasts[:1] },
		"short ticks":    func(r *schema.ProgressRow) { r.TickMillis = nil },
		"short gaps":     func(r *schema.ProgressRow) { r.GapLasts = r.GapLasts[:1] },
		"unknown stream": func(r *schema.ProgressRow) { r.GapEpochs[0]++ },
		"gap of nothing": func(r *schema.ProgressRow) { r.GapFirsts[0] = r.GapLasts[0] + 1 },
		"gap beyond":     func(r *schema.ProgressRow) { r.GapLasts[2] = 10 },
		"gaps overlap":   func(r *schema.ProgressRow) { r.GapLasts[0] = r.GapFirsts[1] },
		"gap from 0":     func(r *schema.ProgressRow) { r.GapFirsts[0] = 0 },
	} {
		var bad schema.ProgressRow
		s.appendTo(&bad)
		damage(&bad)
		if _, ok := readStreams(&bad); ok {
			t.Errorf("%s: %+v was taken", name, bad)
		}
	}
}
