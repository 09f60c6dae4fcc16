package dedupe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	pebblebloom "github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/schema"
)

// Key names a visitor within a partnership.
type Key [24]byte

// MakeKey returns the key of a visitor for a partnership.
func MakeKey(partnership uint64, visitor *[16]byte) (k Key) {
	binary.BigEndian.PutUint64(k[:8], partnership)
	copy(k[8:], visitor[:])
	return k
}

// Claim asks for a visitor to be counted.
type Claim struct {
	Lane uint16
	Key  Key
	// The link that was clicked, not 0.
	Link uint64
	// When the click happened, in milliseconds since the Unix epoch.
	TimeMillis int64
	// How long a counted visitor stays counted, in milliseconds; 0 = for ever.
	WindowMillis int64
	// The position of the click, if it is known already: a claim at the position of the mark in force gets the answer
	// that it got before. 0 = not known.
	Position schema.Position
}

// Decision says in which scopes the visitor counts.
type Decision struct{ Unique, LinkUnique bool }

// Config says where a set lives.
type Config struct {
	// FS is the file system, the operating system's if nil.
	FS vfs.FS
	// Dir is the set's folder.
	Dir string
	// CacheBytes bounds Pebble's block cache; 32 MiB if 0.
	CacheBytes int64
	Logger     *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// Set is the exact set of counted visitors. It is safe for concurrent use.
type Set struct {
	db      *pebble.DB
	metrics *Metrics
	shards  [shardCount]shard

	// flushing is held through a flush and guards positions.
	flushing  sync.Mutex
	positions map[uint16]*atomic.Uint64

	filterReady atomic.Bool
	stop        chan struct{}
	rebuild     sync.WaitGroup
}

const shardCount = 256

type laneKey struct {
	lane uint16
	key  Key
}

type shard struct {
	mu      sync.Mutex
	overlay map[laneKey]*entry
	free    []*entry
	filter  filter
	_       [24]byte // keep neighbours' mutexes off this cache line
}

// Open opens the set, or makes an empty one. The filter is rebuilt in the background; until then Pebble alone answers.
func Open(cfg Config) (*Set, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 32 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil, "")
	}
	cache := pebble.NewCache(cfg.CacheBytes)
	defer cache.Unref()
	options := &pebble.Options{FS: cfg.FS, Cache: cache, Logger: pebbleLogger{cfg.Logger}, MemTableSize: 16 << 20, FormatMajorVersion: pebble.FormatNewest}
	options.EnsureDefaults()
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = pebblebloom.FilterPolicy(10)
	}
	db, err := pebble.Open(cfg.Dir, options)
	if err != nil {
		return nil, fmt.Errorf("cannot open visitor set (%s): %w", cfg.Dir, err)
	}
	s := &Set{db: db, metrics: cfg.Metrics, positions: map[uint16]*atomic.Uint64{}, stop: make(chan struct{})}
	for i := range s.shards {
		s.shards[i].overlay = map[laneKey]*entry{}
	}
	if err := s.loadPositions(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.rebuild.Go(s.rebuildFilter)
	return s, nil
}

// Close waits for the filter's rebuild and closes Pebble. Marks that were not flushed are lost, as in a crash.
func (s *Set) Close() error {
	close(s.stop)
	s.rebuild.Wait()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close visitor set: %w", err)
	}
	return nil
}

// The two kinds of keys in Pebble: an entry, and a lane's position.
const (
	entryPrefix    = 'e'
	positionPrefix = 'p'
)

type diskKey [27]byte

func (k laneKey) disk() (d diskKey) {
	d[0] = entryPrefix
	binary.BigEndian.PutUint16(d[1:], k.lane)
	copy(d[3:], k.key[:])
	return d
}

func positionKey(lane uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{positionPrefix}, lane)
}

func (s *Set) shardOf(k *Key) *shard { return &s.shards[k[len(k)-1]] }

// loadLocked returns a visitor's entry from memory or disk; nil if there is none. overlaid says that it is the one in
// memory. The shard must be locked.
func (s *Set) loadLocked(sh *shard, k laneKey) (e *entry, overlaid bool) {
	if e := sh.overlay[k]; e != nil {
		return e, true
	}
	ready := s.filterReady.Load()
	d := k.disk()
	if ready && !sh.filter.mayHold(d[1:]) {
		s.metrics.lookupsNew.Inc()
		return nil, false
	}
	s.metrics.lookupsDisk.Inc()
	value, closer, err := s.db.Get(d[:])
	if errors.Is(err, pebble.ErrNotFound) {
		if ready {
			s.metrics.falsePositives.Inc()
		}
		return nil, false
	}
	if err != nil {
		// A visitor set that can't be read must not stop redirects; the aggregator's word is the one that counts.
		s.metrics.readErrors.Inc()
		return nil, false
	}
	defer closer.Close()
	marks, err := parseMarks(value)
	if err != nil {
		s.metrics.readErrors.Inc()
		return nil, false
	}
	e = sh.takeLocked()
	e.base = append(e.base, marks...)
	return e, false
}

func (sh *shard) takeLocked() *entry {
	if n := len(sh.free); n > 0 {
		e := sh.free[n-1]
		sh.free = sh.free[:n-1]
		return e
	}
	return &entry{}
}

func (sh *shard) putBackLocked(e *entry) {
	if len(sh.free) < 64 {
		e.base, e.pending = e.base[:0], e.pending[:0]
		sh.free = append(sh.free, e)
	}
}

// markLocked adds a pending mark to a visitor's entry. The shard must be locked.
func (s *Set) markLocked(sh *shard, k laneKey, e *entry, m mark) *entry {
	if e == nil {
		e = sh.takeLocked()
	}
	if sh.overlay[k] != e {
		sh.overlay[k] = e
		d := k.disk()
		sh.filter.add(d[1:])
	}
	e.insert(m)
	return e
}

// Txn is a claim that is being decided. Exactly one of Commit and Abort must be called, from the goroutine that began it;
// until then no other claim of this visitor is decided.
type Txn struct {
	set      *Set
	shard    *shard
	claim    *Claim
	entry    *entry
	overlaid bool
	decision Decision
}

// Begin decides a claim and holds the decision until Commit or Abort. The claim must not change meanwhile.
func (s *Set) Begin(c *Claim) Txn {
	t := Txn{set: s, shard: s.shardOf(&c.Key), claim: c}
	t.shard.mu.Lock()
	t.entry, t.overlaid = s.loadLocked(t.shard, laneKey{c.Lane, c.Key})
	if t.entry == nil {
		t.decision = Decision{true, true}
	} else {
		t.decision = Decision{t.entry.first(0, c), t.entry.first(c.Link, c)}
	}
	return t
}

// Decision returns in which scopes the visitor counts.
func (t *Txn) Decision() Decision { return t.decision }

// Commit counts the visitor in the scopes of the decision, at the click's position.
func (t *Txn) Commit(position schema.Position) {
	k := laneKey{t.claim.Lane, t.claim.Key}
	m := mark{timeMillis: t.claim.TimeMillis, windowMillis: t.claim.WindowMillis, position: position}
	marked := false
	for _, scope := range [2]struct {
		link  uint64
		first bool
	}{{0, t.decision.Unique}, {t.claim.Link, t.decision.LinkUnique}} {
		if !scope.first || t.entry != nil && t.entry.has(scope.link, position) {
			continue
		}
		m.link = scope.link
		t.entry, marked = t.set.markLocked(t.shard, k, t.entry, m), true
	}
	t.end(marked)
}

// Abort leaves the set as it was.
func (t *Txn) Abort() { t.end(false) }

func (t *Txn) end(marked bool) {
	if t.entry != nil && !t.overlaid && !marked {
		t.shard.putBackLocked(t.entry)
	}
	t.shard.mu.Unlock()
}

func (e *entry) has(link uint64, position schema.Position) bool {
	m, ok := e.last(link)
	return ok && m.position == position
}

// Put says that a visitor was counted in a scope (link 0: the partnership's) at a time and position, as a record or a
// stored verdict has it. A mark at a higher position stays.
func (s *Set) Put(lane uint16, key Key, link uint64, timeMillis, windowMillis int64, position schema.Position) {
	sh := s.shardOf(&key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := laneKey{lane, key}
	e, overlaid := s.loadLocked(sh, k)
	if e != nil {
		if m, ok := e.last(link); ok && m.position >= position {
			if !overlaid {
				sh.putBackLocked(e)
			}
			return
		}
	}
	s.markLocked(sh, k, e, mark{link, timeMillis, windowMillis, position})
}

// Undo takes back the marks of a click whose record was never written. They must not have been flushed.
func (s *Set) Undo(lane uint16, key Key, position schema.Position) {
	sh := s.shardOf(&key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := laneKey{lane, key}
	e := sh.overlay[k]
	if e == nil {
		return
	}
	kept := e.pending[:0]
	for _, m := range e.pending {
		if m.position != position {
			kept = append(kept, m)
		}
	}
	e.pending = kept
	if len(kept) == 0 {
		delete(sh.overlay, k)
		sh.putBackLocked(e)
	}
}

// Position returns the lane's durable position: the set on disk holds every mark up to it and none behind it.
func (s *Set) Position(lane uint16) schema.Position {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	if p := s.positions[lane]; p != nil {
		return schema.Position(p.Load())
	}
	return 0
}

// pebbleLogger hands Pebble's own words to the process's log. Pebble calls Fatalf when it cannot write its log any more,
// and must not go on then: the process ends, and the next start replays the journal from the durable position.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("visitor set", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("visitor set", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.log.Error("the visitor set cannot write, ending the process", "message", fmt.Sprintf(format, args...))
	os.Exit(1)
}
