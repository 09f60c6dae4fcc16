package fold_test

import (
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
	"waymark/schema"
	"waymark/tracker/dedupe"
)

var (
	seeds = flag.Int("seeds", 200, "how many random schedules are run")
	from  = flag.Uint64("seed", 1, "the first seed")
)

const capValues = 3

var (
	clickLog = schema.Log{Topic: schema.TopicClicks, Generation: 1}
	logName  = clickLog.String()
	quiet    = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// fault is a rule that a schedule breaks on purpose.
type fault string

const (
	none        fault = ""
	readEarly   fault = "verdicts read before visitors"
	forget      fault = "stored verdicts not kept"
	countTwice  fault = "a total's own v not heeded"
	visitorLead fault = "visitors written before clicks"
)

// world is what several owners of one partition share.
type world struct {
	r     *rand.Rand
	log   []fold.Record
	t     *tables
	fault fault
	fail  string
}

// disk holds one local visitor set. One owner at a time uses it.
type disk struct {
	fs    *vfs.MemFS
	inUse bool
}

// owner is one aggregator that believes it owns the partition. It runs from one step that others can see to the next.
type owner struct {
	w    *world
	disk *disk
	set  *dedupe.Set
	step func() (struct{}, bool)
	stop func()
}

func (w *world) newOwner(d *disk) *owner {
	o := &owner{w: w, disk: d}
	d.inUse = true
	set, err := dedupe.Open(dedupe.Config{FS: d.fs, Dir: "visitors", Logger: quiet, CacheBytes: 1 << 16})
	if err != nil {
		w.fail = err.Error()
	}
	o.set = set
	o.step, o.stop = iter.Pull(func(yield func(struct{}) bool) { o.run(func() bool { return yield(struct{}{}) }) })
	return o
}

// die is kill -9: what the set holds in memory is gone.
func (o *owner) die() {
	o.stop()
	if err := o.set.Close(); err != nil {
		o.w.fail = err.Error()
	}
	o.disk.inUse = false
}

func (o *owner) recover(step func() bool) *fold.Partition {
	w := o.w
	progress := w.t.progress
	cfg := fold.Config{Log: clickLog, Visitors: o.set, CachedTotals: 1 + w.r.IntN(60)}
	p, err := fold.New(cfg.CapValues(capValues), progress)
	if err != nil {
		w.fail = err.Error()
		return nil
	}
	if !step() {
		return nil
	}
	keep := func() {
		for offset, row := range w.t.clicks {
			p.Keep(offset, fold.Kept{Verdict: schema.Verdict(row.Verdict), LinkUnique: row.LinkUnique, FoldVersion: row.FoldVersion})
		}
	}
	if w.fault == readEarly {
		keep()
		if !step() {
			return nil
		}
	}
	if o.set.Position(0) > schema.Position(p.Next()) {
		w.fail = "the local set is ahead of progress"
	}
	if err := p.Restore(w.t.visitorsFrom(uint64(o.set.Position(0)))); err != nil {
		w.fail = err.Error()
	}
	if !step() {
		return nil
	}
	if w.fault == none || w.fault == countTwice || w.fault == visitorLead {
		keep()
	}
	return p
}

func (o *owner) run(step func() bool) {
	w := o.w
	p := o.recover(step)
	if p == nil || !step() {
		return
	}
	for p.Next() < uint64(len(w.log)) {
		var b fold.Batch
		for range 1 + w.r.IntN(2) {
			end := min(uint64(len(w.log)), p.Next()+1+w.r.Uint64N(12))
			// A broker answers in whole batches, which may begin before the offset that was asked for.
			if !o.fold(p, w.log[p.Next()-min(p.Next(), w.r.Uint64N(3)):end], &b, step) {
				return
			}
		}
		p.Emit(&b)
		if !o.flush(p, &b, step) {
			return
		}
	}
}

func (o *owner) fold(p *fold.Partition, records []fold.Record, b *fold.Batch, step func() bool) bool {
	w := o.w
	if err := p.Stage(records); err != nil {
		w.fail = err.Error()
		return false
	}
	if ids := p.MissingValues(); len(ids) > 0 {
		if err := p.LoadValues(ids, w.t.values(ids)); err != nil {
			w.fail = err.Error()
		}
		if !step() {
			return false
		}
	}
	if cells := p.MissingCells(); len(cells) > 0 {
		rows := w.t.cells(cells)
		if w.fault == countTwice {
			for i := range rows {
				rows[i].V = 0
			}
		}
		if err := p.LoadCells(cells, rows); err != nil {
			w.fail = err.Error()
		}
		if !step() {
			return false
		}
	}
	p.Apply(b)
	return step()
}

// flush writes in the order of the design, with writes that fail in part, are made twice, or come late.
func (o *owner) flush(p *fold.Partition, b *fold.Batch, step func() bool) bool {
	w := o.w
	if w.fault == visitorLead {
		if w.t.putVisitors(b.Visitors); !step() {
			return false
		}
	}
	for w.r.IntN(5) == 0 {
		if w.t.putClicks(some(w.r, b.Clicks)); !step() {
			return false
		}
	}
	writes := []func(){
		func() { w.t.putVisitors(b.Visitors) },
		func() { w.t.putTotals(b.Totals) },
		func() { w.t.putDead(b.DeadLetters) },
	}
	w.r.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
	partly := func() { w.t.putTotals(some(w.r, b.Totals)); w.t.putVisitors(some(w.r, b.Visitors)) }
	writes = append([]func(){func() { w.t.putClicks(b.Clicks) }, partly}, writes...)
	writes = append(writes, func() { w.t.putProgress(b.Progress[0]) }, func() {
		if err := o.set.Flush(0, schema.Position(p.Next())); err != nil {
			w.fail = err.Error()
		}
	})
	for _, write := range writes {
		if write(); !step() {
			return false
		}
	}
	return true
}

// schedule runs one random schedule and returns what went wrong, or "".
func schedule(seed uint64, planted fault) string {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{r: r, log: foldtest.Log(r, foldtest.Small), t: newTables(), fault: planted}
	disks := make([]*disk, 4)
	for i := range disks {
		disks[i] = &disk{fs: vfs.NewMem()}
	}
	var owners []*owner
	remove := func(i int) {
		owners[i].die()
		owners = slices.Delete(owners, i, i+1)
	}
	defer func() {
		for len(owners) > 0 {
			remove(0)
		}
	}()
	refs := map[uint64]*foldtest.Reference{}
	for steps := 1; ; steps++ {
		if len(owners) == 0 || len(owners) < 3 && r.IntN(20) == 0 {
			i := r.IntN(len(disks))
			for disks[i].inUse {
				i = (i + 1) % len(disks)
			}
			owners = append(owners, w.newOwner(disks[i]))
		}
		i := 0
		if r.IntN(2) == 0 {
			i = r.IntN(len(owners))
		}
		if _, more := owners[i].step(); !more {
			remove(i)
			if w.t.progress != nil && w.t.progress.V == uint64(len(w.log)) && len(owners) == 0 {
				break
			}
		}
		if len(owners) > 0 && r.IntN(16) == 0 {
			remove(r.IntN(len(owners)))
		}
		if d := disks[r.IntN(len(disks))]; !d.inUse && r.IntN(50) == 0 {
			d.fs = vfs.NewMem() // a disk is lost
		}
		if steps%7 == 0 && w.fail == "" {
			w.fail = w.checkTotals(refs)
		}
		if w.fail != "" {
			return w.fail
		}
		if steps > 20_000 {
			return "no progress"
		}
	}
	return w.t.check(w.reference(refs, uint64(len(w.log))), uint64(len(w.log)))
}

// reference returns the reference after the first v records.
func (w *world) reference(refs map[uint64]*foldtest.Reference, v uint64) *foldtest.Reference {
	if refs[v] == nil {
		refs[v] = foldtest.NewReference(capValues)
		for _, rec := range w.log[:v] {
			refs[v].Fold(rec)
		}
	}
	return refs[v]
}

// checkTotals proves that every total is true of its own prefix, also in the middle of everything.
func (w *world) checkTotals(refs map[uint64]*foldtest.Reference) string {
	for k, row := range w.t.totals {
		if got, want := foldtest.CountsOf(&row), w.reference(refs, row.V).Totals[k]; got != want {
			return fmt.Sprintf("false fact %v at %d: got %v, want %v", k, row.V, got, want)
		}
	}
	return ""
}

// TestSchedules runs random schedules of several owners, kills, lost disks, and writes that are partial, repeated or late;
// what stands in the tables in the end must be what a fold from scratch says.
func TestSchedules(t *testing.T) {
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		if e := schedule(seed, none); e != "" {
			t.Fatalf("seed %d: %s", seed, e)
		}
	}
}

// TestSchedulesFindFaults proves that the schedules can fail: each rule of recovery, when broken, is found out.
func TestSchedulesFindFaults(t *testing.T) {
	for _, f := range []fault{readEarly, forget, countTwice, visitorLead} {
		t.Run(string(f), func(t *testing.T) {
			for seed := uint64(1); seed <= 3000; seed++ {
				if e := schedule(seed, f); e != "" {
					t.Logf("seed %d: %s", seed, e)
					return
				}
			}
			t.Errorf("no schedule out of 3000 found the fault")
		})
	}
}
