package dedupe

import (
	"encoding/binary"
	"flag"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"waymark/schema"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 = a new one")
	opsFlag  = flag.Int("ops", 30_000, "operations of the random tests")
)

func testRand(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func open(t testing.TB, fs vfs.FS) *Set {
	t.Helper()
	s, err := Open(Config{FS: fs, Dir: "set", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(n uint64) Key {
	var visitor [16]byte
	binary.BigEndian.PutUint64(visitor[:], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(visitor[8:], n*0xc2b2ae3d27d4eb4f)
	return MakeKey(n%3, &visitor)
}

// decide begins a claim, commits it at the position and returns the decision.
func decide(s *Set, c Claim, at schema.Position) Decision {
	txn := s.Begin(&c)
	d := txn.Decision()
	txn.Commit(at)
	return d
}

// model is the set as a plain map, with a history of marks so that it can be cut at a position.
type model map[modelKey][]mark

type modelKey struct {
	laneKey
	link uint64
}

func (m model) first(k modelKey, c Claim) bool {
	marks := m[k]
	if len(marks) == 0 {
		return true
	}
	last := marks[len(marks)-1]
	return c.WindowMillis != 0 && c.TimeMillis-last.timeMillis >= c.WindowMillis
}

func (m model) decide(c Claim, at schema.Position) Decision {
	k := modelKey{laneKey{c.Lane, c.Key}, 0}
	l := modelKey{k.laneKey, c.Link}
	d := Decision{m.first(k, c), m.first(l, c)}
	if d.Unique {
		m[k] = append(m[k], mark{0, c.TimeMillis, c.WindowMillis, at})
	}
	if d.LinkUnique {
		m[l] = append(m[l], mark{c.Link, c.TimeMillis, c.WindowMillis, at})
	}
	return d
}

// cut forgets the lane's marks behind a position, as a crash does.
func (m model) cut(lane uint16, position schema.Position) {
	for k, marks := range m {
		if k.lane != lane {
			continue
		}
		for len(marks) > 0 && marks[len(marks)-1].position > position {
			marks = marks[:len(marks)-1]
		}
		m[k] = marks
	}
}

// TestAgainstModel runs random claims, aborts, flushes, reopens and crashes against a plain map.
func TestAgainstModel(t *testing.T) {
	r := testRand(t)
	fs := vfs.NewCrashableMem()
	s := open(t, fs)
	defer func() { s.Close() }()
	want := model{}
	next := [2]schema.Position{1, 1}
	flushed := [2]schema.Position{}
	now := int64(1_700_000_000_000)
	for op := range *opsFlag {
		lane := uint16(r.IntN(2))
		switch n := r.IntN(1000); {
		case n < 960:
			now += r.Int64N(40)
			c := Claim{Lane: lane, Key: key(r.Uint64N(400)), Link: 1 + r.Uint64N(4), TimeMillis: now - []int64{0, 0, 0, 700}[r.IntN(4)]}
			if r.IntN(2) == 0 {
				c.WindowMillis = 5000
			}
			if r.IntN(20) == 0 {
				txn := s.Begin(&c)
				txn.Abort()
				continue
			}
			at := next[lane]
			next[lane]++
			if got, want := decide(s, c, at), want.decide(c, at); got != want {
				t.Fatalf("op %d: claim %+v at %d = %+v, want %+v", op, c, at, got, want)
			}
			if r.IntN(30) == 0 { // the same record again, now that its position is known
				c.Position = at
				txn := s.Begin(&c)
				if got := txn.Decision(); want.last(c, at) != got {
					t.Fatalf("op %d: claim %+v again = %+v, want %+v", op, c, got, want.last(c, at))
				}
				txn.Commit(at)
			}
		case n < 990:
			flushed[lane] += schema.Position(r.Uint64N(uint64(next[lane]-flushed[lane])) + 0)
			if err := s.Flush(lane, flushed[lane]); err != nil {
				t.Fatal(err)
			}
		case n < 995:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, fs, want, &next, flushed)
		default:
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
			s.Close()
			fs = clone
			s = reopen(t, fs, want, &next, flushed)
		}
	}
}

func (m model) last(c Claim, at schema.Position) Decision {
	is := func(link uint64) bool {
		marks := m[modelKey{laneKey{c.Lane, c.Key}, link}]
		return len(marks) > 0 && marks[len(marks)-1].position == at || m.first(modelKey{laneKey{c.Lane, c.Key}, link}, c)
	}
	return Decision{is(0), is(c.Link)}
}

func reopen(t *testing.T, fs vfs.FS, want model, next *[2]schema.Position, flushed [2]schema.Position) *Set {
	t.Helper()
	s := open(t, fs)
	for lane := range next {
		if got := s.Position(uint16(lane)); got != flushed[lane] {
			t.Fatalf("after a reopen lane %d is at %d, want %d", lane, got, flushed[lane])
		}
		want.cut(uint16(lane), flushed[lane])
		next[lane] = flushed[lane] + 1
	}
	return s
}

func TestOneNewVisitorFromManyGoroutines(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer s.Close()
	const rounds, goroutines = 500, 64
	var position atomic.Uint64
	for round := range uint64(rounds) {
		var uniques, links atomic.Int64
		var all sync.WaitGroup
		for range goroutines {
			all.Go(func() {
				c := Claim{Key: key(round), Link: 1, TimeMillis: 1}
				txn := s.Begin(&c)
				if txn.Decision().Unique {
					uniques.Add(1)
				}
				if txn.Decision().LinkUnique {
					links.Add(1)
				}
				txn.Commit(schema.Position(position.Add(1)))
			})
		}
		all.Wait()
		if uniques.Load() != 1 || links.Load() != 1 {
			t.Fatalf("round %d: %d uniques and %d for the link, want 1 and 1", round, uniques.Load(), links.Load())
		}
	}
}

func TestPutUndoDiscard(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer s.Close()
	c := Claim{Lane: 3, Key: key(1), Link: 9, TimeMillis: 100}
	if d := decide(s, c, 5); d != (Decision{true, true}) {
		t.Fatalf("first = %+v", d)
	}
	s.Undo(3, c.Key, 5)
	if d := decide(s, c, 6); d != (Decision{true, true}) {
		t.Fatalf("after Undo = %+v, want new again", d)
	}
	s.Put(3, key(2), 0, 100, 0, 7)
	c.Key = key(2)
	if d := decide(s, c, 8); d != (Decision{false, true}) {
		t.Errorf("after Put in the partnership's scope = %+v, want new for the link alone", d)
	}
	if err := s.Flush(3, 8); err != nil {
		t.Fatal(err)
	}
	s.Put(3, key(2), 0, 1, 0, 2)
	c.Position = 7
	txn := s.Begin(&c)
	if !txn.Decision().Unique {
		t.Error("a Put at a lower position replaced the mark")
	}
	txn.Abort()
	c.Position = 0
	if err := s.Discard(3); err != nil {
		t.Fatal(err)
	}
	if p := s.Position(3); p != 0 {
		t.Errorf("after Discard the position is %d, want 0", p)
	}
	if d := decide(s, c, 1); d != (Decision{true, true}) {
		t.Errorf("after Discard = %+v, want new", d)
	}
}

// TestFilterRebuild opens a set of many visitors and makes more of them while the filter is rebuilt.
func TestFilterRebuild(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	const n = 20_000
	for i := range uint64(n) {
		decide(s, Claim{Key: key(i), Link: 1}, schema.Position(i+1))
	}
	if err := s.Flush(0, n); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, fs)
	defer s.Close()
	for i := range uint64(2000) {
		decide(s, Claim{Key: key(n + i), Link: 1}, schema.Position(n+i+1))
	}
	for begin := time.Now(); !s.FilterReady(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("the filter is not ready after 20 s")
		}
	}
	for i := range uint64(n + 2000) {
		if d := decide(s, Claim{Key: key(i), Link: 1}, 1<<40); d != (Decision{}) {
			t.Fatalf("visitor %d = %+v after the rebuild, want a repeat", i, d)
		}
	}
}

func FuzzParseMarks(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{entryVersion})
	f.Add(appendMarks(nil, []mark{{0, 1, 2, 3}, {9, -1, 86_400_000, 1 << 60}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		marks, err := parseMarks(b)
		if err != nil {
			return
		}
		again, err := parseMarks(appendMarks(nil, marks))
		if err != nil {
			t.Fatalf("cannot read what was written for %v: %v", marks, err)
		}
		if diff := cmp.Diff(marks, again, cmp.AllowUnexported(mark{})); diff != "" {
			t.Errorf("decode(encode(x)) != x:\n%s", diff)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	s := open(b, vfs.NewMem())
	defer s.Close()
	for !s.FilterReady() {
		time.Sleep(time.Millisecond)
	}
	var n atomic.Uint64
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i := n.Add(1)
				c := Claim{Key: key(i), Link: 1, TimeMillis: 1}
				txn := s.Begin(&c)
				txn.Commit(schema.Position(i))
				if i%10_000 == 0 {
					if err := s.Flush(0, schema.Position(i-5000)); err != nil {
						b.Error(err)
					}
				}
			}
		})
	})
	if err := s.Flush(0, schema.Position(n.Load())); err != nil {
		b.Fatal(err)
	}
	b.Run("seen", func(b *testing.B) {
		b.ReportAllocs()
		seen := n.Load()
		b.RunParallel(func(pb *testing.PB) {
			for i := uint64(1); pb.Next(); i++ {
				c := Claim{Key: key(1 + i%seen), Link: 1, TimeMillis: 1}
				txn := s.Begin(&c)
				txn.Abort()
			}
		})
	})
}
