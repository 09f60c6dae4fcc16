package journal

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"waymark/schema"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random tests; 0 = a new one")
	seedsFlag = flag.Int("seeds", 100, "rounds of the random tests")
)

func testSeed(t *testing.T) uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return rand.Uint64()
}

func testConfig(fs vfs.FS) Config {
	return Config{FS: fs, Dir: "journal", Clicks: 2, Conversions: 1, SegmentBytes: 1 << 12, Logger: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func payload(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, n%90)...)
}

func appendClick(j *Journal, n uint64) (schema.Position, error) {
	return j.Append(schema.TopicClicks, uint16(n%2), schema.RecordClick, []byte("visitor-of-16-b."), payload(n))
}

func mustAppend(t testing.TB, j *Journal, n uint64) schema.Position {
	t.Helper()
	p, err := appendClick(j, n)
	if err == nil {
		err = j.Wait(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readAll reads everything behind a position in pieces of random size.
func readAll(t testing.TB, j *Journal, from schema.Position) []schema.Record {
	t.Helper()
	var all []schema.Record
	for {
		records, next, err := j.Read(from, 64+rand.IntN(5000))
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			if r.Position <= from {
				t.Fatalf("Read(%d) returned position %d", from, r.Position)
			}
			from = r.Position
		}
		if next < from {
			t.Fatalf("Read says to go on at %d, its last record is at %d", next, from)
		}
		from = next
		all = append(all, records...)
	}
}

// checkNumbers checks that every slot's numbers are 1, 2, 3... in every epoch, with holes only where the epoch declares
// them, and returns the clicks' payload numbers.
func checkNumbers(t testing.TB, records []schema.Record) map[uint64]int {
	t.Helper()
	type key struct {
		slot
		epoch schema.Epoch
	}
	lasts := map[key]uint64{}
	clicks := map[uint64]int{}
	for _, r := range records {
		k := key{slot{r.Topic, r.Partition}, r.Header.Epoch}
		if r.Header.Number != lasts[k]+1 {
			t.Fatalf("%+v: number %d follows %d", k, r.Header.Number, lasts[k])
		}
		lasts[k] = r.Header.Number
		if r.Header.Type == schema.RecordClick {
			clicks[binary.BigEndian.Uint64(r.Value)]++
		}
	}
	return clicks
}

func TestAppendReadReopen(t *testing.T) {
	for _, durability := range []Durability{Sync, Write} {
		fs := vfs.NewMem()
		cfg := testConfig(fs)
		cfg.Durability = durability
		var edge schema.EdgeID
		var epochs []schema.Epoch
		n := uint64(0)
		for range 3 {
			j := open(t, cfg)
			if edge != 0 && j.Edge() != edge {
				t.Fatalf("edge %s became %s", edge, j.Edge())
			}
			edge = j.Edge()
			epochs = append(epochs, j.Epoch())
			for range 200 {
				n++
				mustAppend(t, j, n)
			}
			p, err := j.Append(schema.TopicConversions, 0, schema.RecordConversion, []byte("k"), []byte("v"))
			if err == nil {
				err = j.WaitSynced(p)
			}
			if err != nil || j.Synced() < p {
				t.Fatalf("WaitSynced(%d) = %v with %d synced", p, err, j.Synced())
			}
			clicks := checkNumbers(t, readAll(t, j, 0))
			if len(clicks) != int(n) {
				t.Fatalf("%d clicks are there, want %d", len(clicks), n)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := appendClick(j, 1); !errors.Is(err, ErrClosed) {
				t.Errorf("Append after Close = %v, want ErrClosed", err)
			}
		}
		j := open(t, cfg)
		for _, r := range readAll(t, j, 0) {
			if r.Header.Type != schema.RecordOpen {
				continue
			}
			var o schema.Open
			if err := o.UnmarshalVT(r.Value); err != nil {
				t.Fatal(err)
			}
			for i, e := range append(epochs, j.Epoch()) {
				want := schema.Epoch(0)
				if i > 0 {
					want = epochs[i-1]
				}
				if r.Header.Epoch == e && (o.PreviousEpoch != uint64(want) || i > 0 && r.Topic == schema.TopicClicks && o.PreviousLast != 101) {
					t.Errorf("epoch %d of %s/%d names %x/%d as the one before, want %x/101", i, r.Topic, r.Partition, o.PreviousEpoch, o.PreviousLast, want)
				}
			}
		}
		j.Close()
	}
}

func TestTrimAndBounds(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.MaxBytes = 40 << 10
	j := open(t, cfg)
	defer j.Close()
	var last schema.Position
	for n := uint64(1); ; n++ {
		p, err := appendClick(j, n)
		if errors.Is(err, ErrFull) {
			break
		}
		if err == nil {
			err = j.Wait(p)
		}
		if err != nil || n > 1000 {
			t.Fatalf("append %d: %v, want ErrFull before the 1000th", n, err)
		}
		last = p
	}
	before := j.Bytes()
	if err := j.Trim(last / 2); err != nil {
		t.Fatal(err)
	}
	records := readAll(t, j, last/2)
	if len(records) != int(last-last/2) || j.Bytes() >= before {
		t.Errorf("after Trim(%d) %d records are behind it and %d bytes of %d are left; want %d records", last/2, len(records), j.Bytes(), before, last-last/2)
	}
	if _, err := appendClick(j, 1); err != nil {
		t.Errorf("Append after Trim = %v, want room", err)
	}
	if _, err := j.Append(schema.TopicClicks, 9, schema.RecordClick, nil, nil); err == nil {
		t.Error("Append to a partition that is not there: want an error")
	}
	if _, err := Open(cfg); err == nil {
		t.Error("a second Open of the folder: want an error")
	}
}

// TestPowerCut cuts the power at a random moment, several times over. Every record that was synced must be there, nothing
// is read that breaks the numbering, and no number stands for two records.
func TestPowerCut(t *testing.T) {
	seed := testSeed(t)
	for round := range *seedsFlag {
		seed := seed + uint64(round)
		r := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewCrashableMem()
		cfg := testConfig(mem)
		cfg.Durability = Durability(r.IntN(2))
		synced := map[uint64]bool{}
		n := uint64(0)
		sent := map[string]string{} // what a forwarder may have sent, by coordinates
		for range 3 {
			cfg.FS = mem
			j := open(t, cfg)
			clicks := checkNumbers(t, readAll(t, j, 0))
			for click := range synced {
				if clicks[click] != 1 {
					t.Fatalf("-seed %d: synced click %d is there %d times", seed, click, clicks[click])
				}
			}
			for range r.IntN(200) {
				n++
				p, err := appendClick(j, n)
				if err == nil && r.IntN(3) > 0 {
					err = j.Wait(p)
				}
				if err == nil && (cfg.Durability == Sync && r.IntN(5) == 0 || r.IntN(30) == 0) {
					if err = j.WaitSynced(p); err == nil {
						synced[n] = true
					}
				}
				if err != nil {
					t.Fatalf("-seed %d: %v", seed, err)
				}
			}
			for _, rec := range readAll(t, j, 0) {
				key := fmt.Sprint(rec.Topic, rec.Partition, rec.Header.Epoch, rec.Header.Number)
				if was, ok := sent[key]; ok && was != string(rec.Value) {
					t.Fatalf("-seed %d: the coordinates %s stand for two records", seed, key)
				}
				sent[key] = string(rec.Value)
				if rec.Header.Type == schema.RecordClick {
					synced[binary.BigEndian.Uint64(rec.Value)] = true // what can be read must stay
				}
			}
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[r.IntN(3)], RNG: r})
			j.Close()
			mem = clone
		}
	}
}

// TestDiskFails makes the n-th write or sync fail. Whoever was answered without error keeps the record, whoever was not
// has left no trace in the numbers, and the journal recovers by itself.
func TestDiskFails(t *testing.T) {
	seed := testSeed(t)
	for round := range *seedsFlag / 2 {
		seed := seed + uint64(round)
		r := rand.New(rand.NewPCG(seed, 2))
		var failing atomic.Bool
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			write := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpCreate
			if failing.Load() && write {
				return errors.New("injected: no space left on device")
			}
			return nil
		})
		mem := vfs.NewMem()
		cfg := testConfig(errorfs.Wrap(mem, inject))
		cfg.Durability = Durability(r.IntN(2))
		j := open(t, cfg)
		kept, lost := map[uint64]bool{}, map[uint64]bool{}
		for n := uint64(1); n <= 300; n++ {
			if n == 100 {
				failing.Store(true)
			}
			if n == 200 {
				failing.Store(false)
				for begin := time.Now(); j.Err() != nil; time.Sleep(time.Millisecond) {
					if time.Since(begin) > 10*time.Second {
						t.Fatalf("-seed %d: no recovery: %v", seed, j.Err())
					}
				}
			}
			p, err := appendClick(j, n)
			if err == nil {
				err = j.Wait(p)
			}
			if err == nil {
				kept[n] = true
			} else {
				lost[n] = true
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		cfg.FS = mem
		j = open(t, cfg)
		clicks := checkNumbers(t, readAll(t, j, 0))
		for n := range kept {
			if clicks[n] != 1 {
				t.Fatalf("-seed %d: click %d was answered and is there %d times", seed, n, clicks[n])
			}
		}
		for n := range lost {
			if clicks[n] != 0 {
				t.Fatalf("-seed %d: click %d was given up and is there", seed, n)
			}
		}
		if len(lost) < 90 {
			t.Fatalf("-seed %d: %d clicks were given up, want most of those while the disk failed", seed, len(lost))
		}
		j.Close()
	}
}

// TestBitFlips flips a bit of a closed journal. The flip is detected, at most the touched block is lost, and what is lost
// is declared.
func TestBitFlips(t *testing.T) {
	seed := testSeed(t)
	for round := range *seedsFlag {
		seed := seed + uint64(round)
		r := rand.New(rand.NewPCG(seed, 3))
		mem := vfs.NewMem()
		cfg := testConfig(mem)
		j := open(t, cfg)
		const n = 150
		for i := range uint64(n) {
			mustAppend(t, j, i)
		}
		victim := j.segments[r.IntN(len(j.segments))].name
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		flip(t, mem, "journal/"+victim, r)
		j = open(t, cfg)
		records := readAll(t, j, 0)
		clicks, missing, declared := map[uint64]bool{}, 0, uint64(0)
		for _, rec := range records {
			switch rec.Header.Type {
			case schema.RecordClick:
				i := binary.BigEndian.Uint64(rec.Value)
				if clicks[i] || i >= n {
					t.Fatalf("-seed %d: click %d is there twice or was never written", seed, i)
				}
				clicks[i] = true
			case schema.RecordHole:
				var h schema.Hole
				if err := h.UnmarshalVT(rec.Value); err != nil {
					t.Fatal(err)
				}
				declared += h.Last - h.First + 1
			}
		}
		missing = n - len(clicks)
		// A block here holds one click, or the open records of the epoch: three.
		if missing > 1 || missing > 0 && declared == 0 || declared > 3 {
			t.Fatalf("-seed %d: %d clicks are missing, %d numbers declared as holes", seed, missing, declared)
		}
		j.Close()
	}
}

func flip(t *testing.T, fs vfs.FS, name string, r *rand.Rand) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	at := r.Int64N(info.Size())
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << r.IntN(8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	for _, durability := range []Durability{Sync, Write} {
		cfg := testConfig(vfs.NewMem())
		cfg.Durability = durability
		cfg.SegmentBytes = 1 << 16
		j := open(t, cfg)
		var all sync.WaitGroup
		const writers, each = 32, 100
		for w := range uint64(writers) {
			all.Go(func() {
				for i := range uint64(each) {
					p, err := appendClick(j, w*each+i)
					if err == nil && i%10 == 0 {
						err = j.WaitSynced(p)
					} else if err == nil {
						err = j.Wait(p)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, cfg)
		if clicks := checkNumbers(t, readAll(t, j, 0)); len(clicks) != writers*each {
			t.Errorf("%d clicks are there, want %d", len(clicks), writers*each)
		}
		j.Close()
	}
}

func FuzzParseBlock(f *testing.F) {
	b := startBlock(nil)
	b = appendRecord(b, slot{schema.TopicClicks, 1}, schema.Header{Version: 1, Type: schema.RecordClick, Number: 1}, []byte("key"), []byte("value"))
	sealBlock(b, 7, 1)
	f.Add(b)
	f.Add(b[:len(b)-1])
	h := segmentHeader{edge: 1, epoch: 2, base: 3, lasts: map[slot]last{}}
	f.Add(h.encode([]slot{{schema.TopicClicks, 0}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, n, err := parseSegmentHeader(b); err == nil && n > len(b) {
			t.Errorf("a header of %d bytes in %d", n, len(b))
		}
		parsed, err := parseBlock(b)
		if err != nil {
			return
		}
		again := startBlock(nil)
		for rest := parsed.body; len(rest) > 0; {
			r, size, err := parseRecord(rest)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, rest[:size]...)
			_ = r
			rest = rest[size:]
		}
		sealBlock(again, parsed.first, parsed.count)
		if string(again) != string(b[:parsed.size]) {
			t.Errorf("decode(encode(x)) != x:\n%x\n%x", again, b[:parsed.size])
		}
		parseBlocks(b, 0, len(b))
		parseBlocks(b, 0, len(b)+100)
	})
}

func BenchmarkJournal(b *testing.B) {
	for name, durability := range map[string]Durability{"sync": Sync, "write": Write} {
		b.Run(name, func(b *testing.B) {
			cfg := Config{Dir: b.TempDir(), Clicks: 4, Conversions: 2, Durability: durability, Logger: slog.New(slog.DiscardHandler)}
			j := open(b, cfg)
			defer j.Close()
			value := make([]byte, 200)
			b.SetParallelism(128)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, err := j.Append(schema.TopicClicks, 1, schema.RecordClick, value[:16], value)
					if err == nil {
						err = j.Wait(p)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
