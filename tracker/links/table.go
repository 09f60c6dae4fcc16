package links

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"waymark/schema"
)

// Config says where a table lives.
type Config struct {
	// FS is the file system, the operating system's if nil.
	FS vfs.FS
	// Dir is the table's folder.
	Dir    string
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// Table is the link table. It is safe for concurrent use; changes are applied one at a time.
type Table struct {
	db      *pebble.DB
	log     *slog.Logger
	metrics *Metrics
	seed    maphash.Seed
	shards  [shardCount]shard
	keys    atomic.Pointer[map[[sha256.Size]byte]*Program]
	ready   atomic.Bool

	mu           sync.RWMutex // guards everything below, and changes of everything above
	programs     map[uint64]*Program
	partnerships map[uint64]*partnership
	links        map[uint64]*link
	offset       int64
}

const shardCount = 64

type shard struct {
	mu    sync.RWMutex
	links map[string]*link
	_     [32]byte
}

// offsetKey is the Pebble key of the catalog offset. The records' keys are their catalog keys, which hold a slash.
var offsetKey = []byte("offset")

// Open opens the table and loads its copy of the catalog. With a copy the table is ready at once.
func Open(cfg Config) (*Table, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	cache := pebble.NewCache(4 << 20)
	defer cache.Unref()
	db, err := pebble.Open(cfg.Dir, &pebble.Options{FS: cfg.FS, Cache: cache, MemTableSize: 4 << 20, Logger: pebbleLogger{cfg.Logger}, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		return nil, fmt.Errorf("cannot open link table (%s): %w", cfg.Dir, err)
	}
	t := &Table{
		db: db, log: cfg.Logger, metrics: cfg.Metrics, seed: maphash.MakeSeed(),
		programs: map[uint64]*Program{}, partnerships: map[uint64]*partnership{}, links: map[uint64]*link{},
	}
	t.keys.Store(&map[[sha256.Size]byte]*Program{})
	for i := range t.shards {
		t.shards[i].links = map[string]*link{}
	}
	if err := t.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	t.ready.Store(t.offset > 0)
	return t, nil
}

// Close closes the table's copy on disk.
func (t *Table) Close() error {
	if err := t.db.Close(); err != nil {
		return fmt.Errorf("cannot close link table: %w", err)
	}
	return nil
}

func (t *Table) load() error {
	it, err := t.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("cannot read link table: %w", err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		if string(it.Key()) == string(offsetKey) {
			if len(it.Value()) == 8 {
				t.offset = int64(binary.BigEndian.Uint64(it.Value()))
			}
			continue
		}
		record := &schema.CatalogRecord{}
		if err := record.UnmarshalVT(it.Value()); err != nil {
			t.metrics.refused[refusedGarbage].Inc()
			continue
		}
		if reason, err := t.change(record); err != nil {
			t.metrics.refused[reason].Inc()
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("cannot read link table: %w", err)
	}
	return nil
}

// maxPlace bounds what Lookup looks for.
const maxPlace = 253 + 1 + schema.MaxSlug

// Lookup returns where a link leads, nil if there is no such link. Host and slug are in normal form. It does not
// allocate.
func (t *Table) Lookup(host, slug []byte) *Target {
	var buffer [maxPlace]byte
	if len(host)+1+len(slug) > maxPlace {
		return nil
	}
	place := append(append(append(buffer[:0], host...), 0), slug...)
	sh := &t.shards[maphash.Bytes(t.seed, place)%shardCount]
	sh.mu.RLock()
	l := sh.links[string(place)]
	sh.mu.RUnlock()
	if l == nil {
		return nil
	}
	return l.target.Load()
}

// ProgramByKey returns the program that a bearer key's SHA-256 belongs to, nil if none does.
func (t *Table) ProgramByKey(hash [sha256.Size]byte) *Program { return (*t.keys.Load())[hash] }

// ProgramOfLink returns the id of the program that a link belongs to, 0 if the link is not known.
func (t *Table) ProgramOfLink(id uint64) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l := t.links[id]; l != nil {
		return l.programID
	}
	return 0
}

// Ready reports whether the table is complete: it had a copy, or the topic was read to the end found at start.
func (t *Table) Ready() bool { return t.ready.Load() }

// Offset returns the offset of the catalog topic that is read next.
func (t *Table) Offset() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.offset
}

// Apply applies one record of the catalog topic and keeps it, together with the offset that is read next. A record that
// is older than what the table has changes nothing. A record that is no good is counted, logged and left out: what it
// would have changed stays as it was.
func (t *Table) Apply(record []byte, next int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.db.NewBatch()
	defer batch.Close()
	parsed := &schema.CatalogRecord{}
	reason, err := refusedGarbage, parsed.UnmarshalVT(record)
	if err == nil {
		reason, err = t.change(parsed)
	}
	switch {
	case errors.Is(err, errOld):
	case err != nil:
		t.metrics.refused[reason].Inc()
		t.log.Warn("a catalog record was refused, the last good one stays in force", "offset", next-1, "error", err)
	default:
		if err := batch.Set([]byte(parsed.CatalogKey()), record, nil); err != nil {
			return fmt.Errorf("cannot keep a catalog record: %w", err)
		}
	}
	if err := batch.Set(offsetKey, binary.BigEndian.AppendUint64(nil, uint64(next)), nil); err != nil {
		return fmt.Errorf("cannot keep the catalog's offset: %w", err)
	}
	// Not synced: after a power cut the copy is a little older, and the topic is read again from there.
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("cannot keep a catalog record: %w", err)
	}
	t.offset = next
	t.metrics.links.Set(float64(len(t.links)))
	return nil
}

// restart makes the table read the topic from its start, because it is another one than before. What the table holds
// stays in force until newer versions arrive.
func (t *Table) restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offset = 0
}

// pebbleLogger hands Pebble's own words to the process's log.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("link table", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("link table", "message", fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot write its log. It must not return, so it ends the goroutine that wrote: the
// table stays in memory as it is, and redirects go on.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("cannot write the link table: " + fmt.Sprintf(format, args...))
}
