package journal

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/schema"
)

// Open opens the journal, or makes one, and begins an epoch: a new segment whose first records, synced before Open
// returns, name the epoch before in every partition, and declare what is lost.
func Open(cfg Config) (*Journal, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = defaultSegment
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMax
	}
	if cfg.Clicks < 1 || cfg.Conversions < 1 || cfg.Clicks+cfg.Conversions > 1<<14 {
		return nil, fmt.Errorf("cannot open journal: %d and %d partitions", cfg.Clicks, cfg.Conversions)
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make journal folder (%s): %w", cfg.Dir, err)
	}
	if err := syncDir(cfg.FS, cfg.FS.PathDir(cfg.Dir)); err != nil {
		return nil, fmt.Errorf("cannot make journal folder (%s): %w", cfg.Dir, err)
	}
	lock, err := cfg.FS.Lock(cfg.FS.PathJoin(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot use journal folder (%s): another process has it locked", cfg.Dir)
	}
	j := &Journal{
		cfg: cfg, fs: cfg.FS, log: cfg.Logger, metrics: cfg.Metrics, lock: lock, epoch: schema.Epoch(random()),
		notify: make(chan struct{}, 1), wake: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	for p := range cfg.Clicks {
		j.slots = append(j.slots, slot{schema.TopicClicks, uint16(p)})
	}
	for p := range cfg.Conversions {
		j.slots = append(j.slots, slot{schema.TopicConversions, uint16(p)})
	}
	j.numbers = slices.Repeat([]uint64{1}, len(j.slots))
	j.active.numbers = slices.Clone(j.numbers)
	if err := j.begin(); err != nil {
		return nil, errors.Join(err, j.active.close(), lock.Close())
	}
	return j, nil
}

// random returns 64 random bits that are not all 0.
func random() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// begin reads what is there and begins the epoch.
func (j *Journal) begin() error {
	found, err := j.scan()
	if err != nil {
		return err
	}
	j.edge = found.edge
	if j.edge == 0 {
		j.edge = schema.EdgeID(random())
	}
	j.before, j.next = found.lasts, found.last
	j.written.Store(uint64(found.last))
	j.synced.Store(uint64(found.last))
	if n := len(j.segments); n > 0 {
		// What roll needs to know of the segment before: its name and how much of it counts.
		j.active.segment, j.active.durable = j.segments[n-1], j.segments[n-1].size
	}
	if err := j.roll(); err != nil {
		return err
	}
	for _, s := range j.slots {
		open := schema.Open{PreviousEpoch: uint64(j.before[s].epoch), PreviousLast: j.before[s].number, OpenedMs: time.Now().UnixMilli()}
		if err := j.declare(s, schema.RecordOpen, &open); err != nil {
			return err
		}
	}
	for _, h := range found.holes {
		j.metrics.lost.Add(float64(h.last - h.first + 1))
		hole := schema.Hole{Epoch: uint64(h.epoch), First: h.first, Last: h.last}
		if _, ok := j.slotIndex(h.slot.topic, h.slot.partition); !ok {
			continue
		}
		if err := j.declare(h.slot, schema.RecordHole, &hole); err != nil {
			return err
		}
	}
	j.committer.Go(j.commit)
	return j.WaitSynced(j.next)
}

func (j *Journal) declare(s slot, typ schema.RecordType, message interface{ MarshalVT() ([]byte, error) }) error {
	value, err := message.MarshalVT()
	if err != nil {
		return fmt.Errorf("cannot encode a journal record: %w", err)
	}
	if _, err := j.Append(s.topic, s.partition, typ, nil, value); err != nil {
		return fmt.Errorf("cannot begin a journal epoch: %w", err)
	}
	return nil
}

// hole is a range of an epoch's numbers that the disk has lost.
type hole struct {
	slot
	epoch       schema.Epoch
	first, last uint64
}

// found is what scan learns of the segments.
type found struct {
	edge  schema.EdgeID
	last  schema.Position
	lasts map[slot]last
	holes []hole
}

// see notes that a slot's numbers go on behind a last one, and finds what is missing before.
func (f *found) see(s slot, epoch schema.Epoch, before uint64) {
	known := f.lasts[s]
	if known.epoch == epoch && before > known.number {
		f.holes = append(f.holes, hole{s, epoch, known.number + 1, before})
	}
	if known.epoch != epoch || before > known.number {
		f.lasts[s] = last{epoch, before}
	}
}

// scan reads every segment, cuts a torn tail, and notes what is lost.
func (j *Journal) scan() (found, error) {
	f := found{lasts: map[slot]last{}}
	names, err := j.fs.List(j.cfg.Dir)
	if err != nil {
		return f, fmt.Errorf("cannot list journal folder: %w", err)
	}
	for _, name := range names {
		if base, ok := parseSegmentName(name); ok {
			j.segments = append(j.segments, &segment{base: base, last: base, name: name})
		}
	}
	slices.SortFunc(j.segments, func(a, b *segment) int { return cmp.Compare(a.base, b.base) })
	contents := make([][]byte, len(j.segments))
	headers := make([]*segmentHeader, len(j.segments))
	sizes := make([]int, len(j.segments))
	for i, s := range j.segments {
		if contents[i], err = j.readFile(s.name); err != nil {
			return f, err
		}
		h, n, err := parseSegmentHeader(contents[i])
		if err != nil {
			continue
		}
		headers[i], sizes[i], s.header = &h, n, int64(n)
		// The header says how much of the segment before counts.
		if i > 0 && h.previousBase == j.segments[i-1].base && int64(len(contents[i-1])) > h.previousLength {
			contents[i-1] = contents[i-1][:h.previousLength]
		}
	}
	kept := j.segments[:0]
	for i, s := range j.segments {
		if headers[i] == nil {
			if err := j.setAside(s, contents[i], i == len(j.segments)-1); err != nil {
				return f, err
			}
			if i == len(j.segments)-1 {
				continue
			}
		} else if err := f.enter(headers[i]); err != nil {
			return f, err
		}
		j.scanBlocks(s, contents[i], sizes[i], &f)
		kept = append(kept, s)
		j.bytes += s.size
		contents[i] = nil
	}
	j.segments = kept
	return f, nil
}

// enter notes what a segment's header says about what comes before it.
func (f *found) enter(h *segmentHeader) error {
	if f.edge != 0 && h.edge != f.edge {
		return fmt.Errorf("cannot open journal: it holds segments of the edges %s and %s", f.edge, h.edge)
	}
	f.last = max(f.last, h.base)
	first := f.edge == 0
	f.edge = h.edge
	for s, l := range h.lasts {
		if first {
			f.lasts[s] = l // what lies before the first segment was trimmed
			continue
		}
		f.see(s, l.epoch, l.number)
	}
	return nil
}

// scanBlocks reads a segment's blocks. Damage is passed over, copied aside and counted; damage up to the end of the last
// segment is a torn tail and cut.
func (j *Journal) scanBlocks(s *segment, content []byte, at int, f *found) {
	damaged := false
	good := at
	for at < len(content) {
		b, err := parseBlock(content[at:])
		if err != nil {
			damaged = true
			next := bytes.Index(content[at+1:], blockStart)
			if next < 0 {
				break
			}
			at += 1 + next
			continue
		}
		for rest := b.body; len(rest) > 0; {
			r, size, err := parseRecord(rest)
			if err != nil {
				break // parseBlock has read it already
			}
			at := slot{r.Topic, r.Partition}
			f.see(at, r.Header.Epoch, r.Header.Number-1)
			f.lasts[at] = last{r.Header.Epoch, r.Header.Number}
			rest = rest[size:]
		}
		s.last = max(s.last, b.last())
		f.last = max(f.last, s.last)
		at += b.size
		good = at
	}
	s.size = int64(good)
	if good < len(content) || damaged {
		j.metrics.damaged.Inc()
		j.log.Warn("a journal segment does not end with a whole block or has a damaged one", "segment", s.name, "bytes", len(content), "good", good)
		if err := j.keepCopy(s.name, content); err != nil {
			j.log.Error("cannot set a damaged journal segment aside", "segment", s.name, "error", err)
		}
	}
}

var blockStart = binary.BigEndian.AppendUint32(nil, blockMagic)

// setAside keeps a copy of a segment whose header can't be read. The last one is a segment that was being begun when the
// process ended, unless blocks follow.
func (j *Journal) setAside(s *segment, content []byte, newest bool) error {
	j.metrics.damaged.Inc()
	j.log.Warn("a journal segment has no header that can be read", "segment", s.name, "bytes", len(content))
	if err := j.keepCopy(s.name, content); err != nil {
		return err
	}
	if !newest {
		return nil
	}
	if err := j.fs.Remove(j.path(s.name)); err != nil {
		return fmt.Errorf("cannot remove journal segment %s: %w", s.name, err)
	}
	return nil
}

func (j *Journal) keepCopy(name string, content []byte) error {
	file, err := j.fs.Create(j.path(name+".bad"), "waymark-journal")
	if err != nil {
		return fmt.Errorf("cannot set journal segment %s aside: %w", name, err)
	}
	_, err = file.Write(bytes.Clone(content)) // vfs may change the buffer that it is given
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (j *Journal) readFile(name string) ([]byte, error) {
	file, err := j.fs.Open(j.path(name))
	if err != nil {
		return nil, fmt.Errorf("cannot open journal segment %s: %w", name, err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read journal segment %s: %w", name, err)
	}
	return content, nil
}
