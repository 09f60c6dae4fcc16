package journal

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/schema"
)

// active is the segment that is being written. It belongs to the committer.
type active struct {
	file    vfs.File
	segment *segment
	// size is what was written, durable what of it is synced.
	size, durable int64
	// unsynced holds the blocks that were answered and are not synced yet, under Write.
	unsynced      []byte
	unsyncedLast  schema.Position
	unsyncedSince time.Time
	// numbers are the next numbers of the slots behind the last synced record.
	numbers []uint64
}

func (a *active) close() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}

// commit runs until the journal is closed.
func (j *Journal) commit() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	retry := firstRetry
	for {
		if j.Err() != nil {
			select {
			case <-j.closing:
				j.shut()
				return
			case <-time.After(retry):
				retry = min(2*retry, maxRetry)
			}
			j.recover()
			continue
		}
		retry = firstRetry
		if due := j.active.due(); due > 0 {
			timer.Reset(due)
		}
		select {
		case <-j.wake:
			j.step(false)
		case <-timer.C:
			j.step(j.active.due() < 0)
		case <-j.closing:
			j.step(true)
			j.seal()
			j.shut()
			return
		}
	}
}

// due returns how long the unsynced blocks may still wait: less than 0 when they are overdue, 0 when there are none.
func (a *active) due() time.Duration {
	if len(a.unsynced) == 0 {
		return 0
	}
	if d := syncDelay - time.Since(a.unsyncedSince); d > 0 {
		return d
	}
	return -1
}

// step commits the pending group, and syncs when that is wanted.
func (j *Journal) step(syncNow bool) {
	j.mu.Lock()
	g := j.pending
	j.pending, j.inFlight = nil, g
	numbers := j.scratch[:0]
	numbers = append(numbers, j.numbers...)
	j.scratch = numbers
	syncNow = syncNow || j.syncWanted
	j.syncWanted = false
	j.mu.Unlock()
	if g != nil {
		sealBlock(g.buf, g.first, g.count)
		if j.cfg.Durability == Write {
			j.keepUnsynced(g) // before the write: vfs may change the buffer that it is given
		}
		if err := j.write(g.buf); err != nil {
			j.fail(err)
			return
		}
	}
	last := j.active.unsyncedLast
	if g != nil {
		last = g.first + schema.Position(g.count) - 1
	}
	if j.cfg.Durability == Sync && g != nil || j.cfg.Durability == Write && len(j.active.unsynced) > 0 && (syncNow || j.active.due() < 0) {
		if err := j.sync(last); err != nil {
			j.fail(err)
			return
		}
		j.active.numbers = append(j.active.numbers[:0], numbers...)
	}
	j.finish(g)
	if j.active.size >= j.cfg.SegmentBytes {
		if err := j.roll(); err != nil {
			j.fail(err)
		}
	}
}

func (j *Journal) keepUnsynced(g *group) {
	a := &j.active
	if len(a.unsynced) == 0 {
		a.unsyncedSince = time.Now()
	}
	a.unsynced = append(a.unsynced, g.buf...)
	a.unsyncedLast = g.first + schema.Position(g.count) - 1
}

func (j *Journal) write(b []byte) error {
	n, err := j.active.file.Write(b)
	if err == nil && n < len(b) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(b))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", j.active.segment.name, err)
	}
	j.active.size += int64(n)
	return nil
}

// sync syncs the active segment and publishes it up to a position.
func (j *Journal) sync(last schema.Position) error {
	begin := time.Now()
	if err := j.active.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync %s: %w", j.active.segment.name, err)
	}
	j.metrics.syncSeconds.Observe(time.Since(begin).Seconds())
	a := &j.active
	j.mu.Lock()
	a.durable = a.size
	j.bytes += a.durable - a.segment.size
	a.segment.size, a.segment.last = a.durable, last
	j.synced.Store(uint64(last))
	j.mu.Unlock()
	a.unsynced = a.unsynced[:0]
	j.published()
	return nil
}

// published tells everybody that Synced has grown.
func (j *Journal) published() {
	j.releaseSyncs()
	select {
	case j.notify <- struct{}{}:
	default:
	}
}

// finish lets those go who wait for the group.
func (j *Journal) finish(g *group) {
	if g == nil {
		return
	}
	j.metrics.groupRecords.Observe(float64(g.count))
	done := g.done
	j.mu.Lock()
	j.written.Store(uint64(g.first) + uint64(g.count) - 1)
	j.inFlight = nil
	if j.spare == nil && cap(g.buf) <= 4<<20 {
		j.spare = g
	}
	j.metrics.bytes.Set(float64(j.bytes))
	j.mu.Unlock()
	close(done)
}

// fail gives up the groups that are in flight and pending, after the active segment could not be written.
func (j *Journal) fail(err error) {
	j.log.Error("the journal cannot be written, clicks are redirected without it", "error", err)
	j.metrics.failures.Inc()
	j.mu.Lock()
	groups := []*group{j.inFlight, j.pending}
	j.inFlight, j.pending = nil, nil
	j.failed = ErrFailed
	for i := len(groups) - 1; i >= 0; i-- {
		g := groups[i]
		if g == nil || g.count == 0 {
			continue
		}
		copy(j.numbers, g.numbers)
		j.givenUp = append(j.givenUp, span{g.first, g.first + schema.Position(g.count) - 1})
	}
	if n := len(j.givenUp); n > maxGivenUp {
		j.givenUp = append(j.givenUp[:0], j.givenUp[n-maxGivenUp:]...)
	}
	// Under Write, the group in flight is given up as well, whether its write failed or its sync.
	if a := &j.active; groups[0] != nil && len(a.unsynced) > 0 && a.unsyncedLast >= groups[0].first {
		a.unsynced = a.unsynced[:len(a.unsynced)-len(groups[0].buf)]
		a.unsyncedLast = groups[0].first - 1
	}
	j.mu.Unlock()
	for _, g := range groups {
		if g != nil {
			close(g.done)
		}
	}
	j.releaseSyncs()
}

// releaseSyncs makes everybody look again who waits for a sync.
func (j *Journal) releaseSyncs() {
	j.mu.Lock()
	syncs := j.syncs
	j.syncs = nil
	j.mu.Unlock()
	if syncs != nil {
		close(syncs.done)
	}
}

// maxGivenUp bounds how many spans of given-up records are remembered, for those who ask late.
const maxGivenUp = 1024

// recover begins a new segment after a failure and opens the journal for appends again.
func (j *Journal) recover() {
	if err := j.roll(); err != nil {
		j.log.Debug("the journal still cannot be written", "error", err)
		return
	}
	j.mu.Lock()
	j.failed = nil
	j.mu.Unlock()
	j.log.Info("the journal can be written again")
}

// roll begins a new segment. What the old one holds behind its last synced byte does not count any more; blocks that
// were answered and not synced are written to the new one.
func (j *Journal) roll() error {
	a := &j.active
	if len(a.unsynced) > 0 && j.Err() == nil {
		if err := j.sync(a.unsyncedLast); err != nil {
			return err
		}
		a.numbers = append(a.numbers[:0], j.scratch...)
	}
	j.mu.Lock()
	base := schema.Position(j.synced.Load())
	header := segmentHeader{edge: j.edge, epoch: j.epoch, base: base, lasts: j.lasts(a.numbers)}
	if a.segment != nil {
		header.previousBase, header.previousLength = a.segment.base, a.durable
	}
	// A segment that holds nothing yet has the name of the new one: it is written anew, under a name of its own.
	for a.segment != nil && header.base <= a.segment.base {
		header.base = a.segment.base + 1
	}
	if header.base > j.next {
		j.next = header.base
	}
	j.mu.Unlock()
	next, file, err := j.create(&header, a.unsynced)
	if err != nil {
		return err
	}
	if err := a.close(); err != nil {
		j.log.Debug("cannot close a journal segment that is done", "error", err)
	}
	rescued := len(a.unsynced) > 0
	j.mu.Lock()
	next.last = max(header.base, a.unsyncedLast)
	j.segments = append(j.segments, next)
	j.bytes += next.size
	if rescued {
		j.synced.Store(uint64(a.unsyncedLast))
		a.numbers = append(a.numbers[:0], j.numbers...)
	}
	*a = active{file: file, segment: next, size: next.size, durable: next.size, unsynced: a.unsynced[:0], unsyncedLast: a.unsyncedLast, numbers: a.numbers}
	j.mu.Unlock()
	if rescued {
		j.published()
	}
	return nil
}

// lasts returns the last number of every slot before the next ones.
func (j *Journal) lasts(next []uint64) map[slot]last {
	lasts := map[slot]last{}
	for i, s := range j.slots {
		if lasts[s] = (last{j.epoch, next[i] - 1}); next[i] == 1 {
			lasts[s] = j.before[s]
		}
	}
	return lasts
}

// create writes a new segment with its header and first blocks, synced, with its name in the folder.
func (j *Journal) create(h *segmentHeader, blocks []byte) (*segment, vfs.File, error) {
	s := &segment{base: h.base, last: h.base, name: segmentName(h.base)}
	file, err := j.fs.Create(j.path(s.name), "waymark-journal")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot begin journal segment %s: %w", s.name, err)
	}
	content := h.encode(j.slots)
	s.header = int64(len(content))
	content = append(content, blocks...)
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = syncDir(j.fs, j.cfg.Dir)
	}
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("cannot begin journal segment %s: %w", s.name, err)
	}
	s.size = int64(len(content))
	return s, file, nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}

// seal ends a journal that is closed in good order with an empty segment, whose header says what the last numbers were: a
// block that a disk destroys later, at the very end, is missed then and not taken for a torn tail.
func (j *Journal) seal() {
	if j.Err() != nil {
		return
	}
	if err := j.roll(); err != nil {
		j.log.Warn("cannot seal the journal", "error", err)
	}
}

// shut refuses all further appends and lets everybody go.
func (j *Journal) shut() {
	j.mu.Lock()
	groups := []*group{j.inFlight, j.pending, j.syncs}
	for _, g := range groups[:2] {
		if g != nil {
			j.givenUp = append(j.givenUp, span{g.first, g.first + schema.Position(g.count) - 1})
		}
	}
	j.inFlight, j.pending, j.syncs = nil, nil, nil
	j.failed = ErrClosed
	j.mu.Unlock()
	for _, g := range groups {
		if g != nil {
			close(g.done)
		}
	}
}
