package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/schema"
)

// Durability says what Wait waits for.
type Durability int

const (
	// Sync waits for the fsync: the record survives power loss.
	Sync Durability = iota
	// Write waits for the write: the record survives the process. The fsync follows within syncDelay.
	Write
)

// The defaults of Config, and the bounds of what is kept in memory.
const (
	defaultSegment = 64 << 20
	defaultMax     = 8 << 30
	maxPending     = 16 << 20
	syncDelay      = 100 * time.Millisecond
	firstRetry     = 50 * time.Millisecond
	maxRetry       = 2 * time.Second
)

// Errors of Append and Wait. A caller goes on without the journal; the record is not in it.
var (
	// ErrFull: the journal has reached its bound, because Kafka has not taken its records for long.
	ErrFull = errors.New("the journal is full")
	// ErrBusy: more is being appended than the disk takes.
	ErrBusy = errors.New("the journal's buffer is full")
	// ErrFailed: the disk does not take writes. The journal tries again by itself.
	ErrFailed = errors.New("the journal cannot be written")
	// ErrClosed: the journal has been closed.
	ErrClosed = errors.New("the journal is closed")
)

// Config says where a journal lives and what it promises.
type Config struct {
	// FS is the file system, the operating system's if nil.
	FS vfs.FS
	// Dir is the journal's folder. The edge's identity is minted with it.
	Dir        string
	Durability Durability
	// SegmentBytes is the size at which a new segment is begun; 64 MiB if 0. MaxBytes bounds all of them; 8 GiB if 0.
	SegmentBytes, MaxBytes int64
	// Clicks and Conversions are the numbers of partitions of the two topics.
	Clicks, Conversions int
	Logger              *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	cfg     Config
	fs      vfs.FS
	log     *slog.Logger
	metrics *Metrics
	lock    io.Closer
	edge    schema.EdgeID
	epoch   schema.Epoch
	slots   []slot
	before  map[slot]last // what the epoch before this one gave out last
	scratch []uint64      // the committer's

	written atomic.Uint64 // every record up to here is written, or was given up
	synced  atomic.Uint64 // every record up to here is synced, or was given up
	notify  chan struct{} // holds one token when synced has grown

	wake      chan struct{} // holds one token when the committer has something to do
	closing   chan struct{}
	committer sync.WaitGroup

	mu           sync.Mutex
	numbers      []uint64 // next number by slot, clicks first
	next         schema.Position
	pending      *group
	inFlight     *group
	spare        *group
	syncs        *group // whoever waits for the next sync
	syncWanted   bool
	failed       error // why appends are refused
	givenUp      []span
	segments     []*segment
	bytes        int64
	cursors      [cursorCount]cursor
	cursorsTaken int
	active       active // the committer's own, but for Close
}

// group is what one block will hold.
type group struct {
	first   schema.Position
	count   int
	buf     []byte
	done    chan struct{}
	err     error
	numbers []uint64 // next numbers before the group
}

// span is a range of positions, both inclusive.
type span struct{ first, last schema.Position }

// segment is a file of the journal. size is how much of it counts, header included; it grows for the active one.
type segment struct {
	base schema.Position
	last schema.Position
	name string
	// header is the length of the segment's header, behind which its blocks begin.
	header, size int64
}

// Edge returns the id that was minted with the journal's folder.
func (j *Journal) Edge() schema.EdgeID { return j.edge }

// Epoch returns the epoch of this opening.
func (j *Journal) Epoch() schema.Epoch { return j.epoch }

// Synced returns the position up to which every record is on disk.
func (j *Journal) Synced() schema.Position { return schema.Position(j.synced.Load()) }

// SyncedChanged returns a channel that gets a token when Synced has grown. It is for one receiver.
func (j *Journal) SyncedChanged() <-chan struct{} { return j.notify }

// Err returns why appends are refused at the moment, nil if they are not.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// Bytes returns how much disk the segments take.
func (j *Journal) Bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes
}

// slotIndex returns the index of a partition in numbers and slots.
func (j *Journal) slotIndex(topic schema.Topic, partition uint16) (int, bool) {
	switch {
	case topic == schema.TopicClicks && int(partition) < j.cfg.Clicks:
		return int(partition), true
	case topic == schema.TopicConversions && int(partition) < j.cfg.Conversions:
		return j.cfg.Clicks + int(partition), true
	}
	return 0, false
}

// Append gives a record the next number of its partition and hands it to the committer. It copies key and value, and
// does not wait: see Wait. It returns ErrFull, ErrBusy, ErrFailed or ErrClosed, and then takes no number.
func (j *Journal) Append(topic schema.Topic, partition uint16, typ schema.RecordType, key, value []byte) (schema.Position, error) {
	i, ok := j.slotIndex(topic, partition)
	if !ok {
		return 0, fmt.Errorf("cannot journal a record: %s has no partition %d", topic, partition)
	}
	if len(key) > 1<<16-1 || len(value) > maxBlock/2 {
		return 0, fmt.Errorf("cannot journal a record of %d bytes", len(key)+len(value))
	}
	j.mu.Lock()
	if err := j.refusal(recordHead + len(key) + len(value)); err != nil {
		j.mu.Unlock()
		return 0, err
	}
	g := j.pending
	if g == nil {
		g = j.startGroupLocked()
	}
	j.next++
	position := j.next
	number := j.numbers[i]
	j.numbers[i]++
	h := schema.Header{Version: schema.Version, Type: typ, Edge: j.edge, Epoch: j.epoch, Number: number}
	g.buf = appendRecord(g.buf, j.slots[i], h, key, value)
	g.count++
	first := g.count == 1
	j.mu.Unlock()
	if first {
		j.signal()
	}
	return position, nil
}

// refusal says why nothing may be appended. The mutex must be held.
func (j *Journal) refusal(size int) error {
	pending := 0
	if j.pending != nil {
		pending = len(j.pending.buf)
	}
	switch {
	case j.failed != nil:
		return j.failed
	case j.bytes+int64(pending+size) > j.cfg.MaxBytes:
		j.metrics.refused[refusedFull].Inc()
		return ErrFull
	case pending+size > maxPending:
		j.metrics.refused[refusedBusy].Inc()
		return ErrBusy
	}
	return nil
}

func (j *Journal) startGroupLocked() *group {
	g := j.spare
	j.spare = nil
	if g == nil {
		g = &group{}
	}
	g.buf = startBlock(g.buf[:0])
	g.first, g.count, g.err = j.next+1, 0, nil
	g.done = make(chan struct{})
	g.numbers = append(g.numbers[:0], j.numbers...)
	j.pending = g
	return g
}

func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Wait blocks until the record at a position of Append is as durable as the journal promises. It returns ErrFailed if
// the record was given up: it is not in the journal.
func (j *Journal) Wait(position schema.Position) error {
	if j.cfg.Durability == Sync {
		return j.WaitSynced(position)
	}
	return j.wait(position, &j.written)
}

// WaitSynced blocks until the record is on disk. It returns ErrFailed if the record was given up.
func (j *Journal) WaitSynced(position schema.Position) error {
	if j.cfg.Durability == Sync {
		return j.wait(position, &j.synced)
	}
	if err := j.wait(position, &j.written); err != nil {
		return err
	}
	for {
		j.mu.Lock()
		if err := j.givenUpLocked(position); err != nil || position <= schema.Position(j.synced.Load()) {
			j.mu.Unlock()
			return err
		}
		if j.failed == ErrClosed {
			j.mu.Unlock()
			return ErrClosed
		}
		if j.syncs == nil {
			j.syncs = &group{done: make(chan struct{})}
		}
		done := j.syncs.done
		j.syncWanted = true
		j.mu.Unlock()
		j.signal()
		<-done
	}
}

// wait blocks until the record's group has been dealt with.
func (j *Journal) wait(position schema.Position, reached *atomic.Uint64) error {
	j.mu.Lock()
	g := j.inFlight
	if p := j.pending; p != nil && position >= p.first {
		g = p
	}
	if position <= schema.Position(reached.Load()) || g == nil || position < g.first {
		err := j.givenUpLocked(position)
		j.mu.Unlock()
		return err
	}
	done := g.done
	j.mu.Unlock()
	<-done
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.givenUpLocked(position)
}

// givenUpLocked returns ErrFailed for a record that was given up.
func (j *Journal) givenUpLocked(position schema.Position) error {
	for i := len(j.givenUp) - 1; i >= 0; i-- {
		if s := j.givenUp[i]; position >= s.first && position <= s.last {
			return ErrFailed
		}
	}
	return nil
}

// Trim removes the segments whose records all lie at or before a position. The active one stays.
func (j *Journal) Trim(position schema.Position) error {
	j.mu.Lock()
	var old []*segment
	for len(j.segments) > 1 && j.segments[0].last <= position {
		old = append(old, j.segments[0])
		j.bytes -= j.segments[0].size
		j.segments = j.segments[1:]
	}
	j.metrics.bytes.Set(float64(j.bytes))
	j.mu.Unlock()
	for _, s := range old {
		if err := j.fs.Remove(j.path(s.name)); err != nil {
			return fmt.Errorf("cannot trim the journal: %w", err)
		}
	}
	return nil
}

// Close commits what was appended and closes the journal. Later appends return ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.failed == ErrClosed {
		j.mu.Unlock()
		return nil
	}
	j.mu.Unlock()
	close(j.closing)
	j.committer.Wait()
	return errors.Join(j.active.close(), j.lock.Close())
}

func (j *Journal) path(name string) string { return j.fs.PathJoin(j.cfg.Dir, name) }
