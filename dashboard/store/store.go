package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
	_ "modernc.org/sqlite"             // registers "sqlite"
)

// ErrNotFound is returned for what does not exist and, alike, for what belongs to someone else.
var ErrNotFound = errors.New("not found")

// FieldError is a refusal that one field of the input is to blame for. The message is for people.
type FieldError struct {
	// Field is slug, destination, title or enabled.
	Field string
	// Code is one of the constants below.
	Code    string
	Message string
}

// Codes of a [FieldError].
const (
	CodeInvalid    = "invalid"
	CodeTaken      = "taken"
	CodeReserved   = "reserved"
	CodeNotAllowed = "not_allowed"
	CodeLimit      = "limit"
)

func (e *FieldError) Error() string { return e.Message }

// Config says where the database is.
type Config struct {
	// URL is postgres://... (or postgresql://...), or the path of an SQLite file, which is made when missing. An SQLite
	// file is one process's: it stays locked until Close.
	URL string
	// MaxReaders bounds the connections for reading; 0 means 8.
	MaxReaders int
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// Store is the open database. It is safe for concurrent use.
type Store struct {
	writer   *sql.DB
	reader   *sql.DB
	postgres bool
	lock     *os.File
	now      func() time.Time
	changed  *notifier
}

// Open opens the database, makes it when it is new, and brings its tables up to date. A database of a newer version
// of Waymark is an error and stays untouched.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.MaxReaders == 0 {
		c.MaxReaders = 8
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Store{now: c.Now, changed: &notifier{ch: make(chan struct{})}}
	var err error
	if strings.HasPrefix(c.URL, "postgres://") || strings.HasPrefix(c.URL, "postgresql://") {
		err = s.openPostgres(c)
	} else {
		err = s.openSQLite(ctx, c)
	}
	if err == nil {
		err = s.migrate(ctx)
	}
	if err == nil && !s.postgres {
		err = s.forgetLeases(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) openPostgres(c Config) error {
	db, err := sql.Open("pgx", c.URL)
	if err != nil {
		return fmt.Errorf("cannot read the database URL: %w", err)
	}
	db.SetMaxOpenConns(c.MaxReaders + 2)
	db.SetMaxIdleConns(c.MaxReaders + 2)
	s.writer, s.reader, s.postgres = db, db, true
	return nil
}

func (s *Store) openSQLite(ctx context.Context, c Config) error {
	if c.URL == "" {
		return errors.New("cannot open the database: no path or URL is given")
	}
	if err := os.MkdirAll(filepath.Dir(c.URL), 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the database: %w", err)
	}
	name := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(c.URL)
	if _, err := os.Stat(c.URL); err == nil {
		if err := checkVersion(ctx, name+"?mode=ro&_pragma=busy_timeout(10000)"); err != nil {
			return err
		}
	}
	options := "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)"
	var err error
	if s.lock, err = lockFile(c.URL); err != nil {
		return err
	}
	if s.writer, err = sql.Open("sqlite", name+options+"&_txlock=immediate&_pragma=cache_size(-32000)"); err != nil {
		return fmt.Errorf("cannot open the database (%s): %w", c.URL, err)
	}
	s.writer.SetMaxOpenConns(1)
	if err := s.writer.PingContext(ctx); err != nil {
		return fmt.Errorf("cannot open the database (%s): %w", c.URL, err)
	}
	if s.reader, err = sql.Open("sqlite", name+options+"&_pragma=query_only(1)"); err != nil {
		return fmt.Errorf("cannot open the database (%s): %w", c.URL, err)
	}
	s.reader.SetMaxOpenConns(c.MaxReaders)
	s.reader.SetMaxIdleConns(c.MaxReaders)
	return nil
}

// Close closes the database. Nothing else may be called afterwards.
func (s *Store) Close() error {
	var errs []error
	if s.reader != nil && s.reader != s.writer {
		errs = append(errs, s.reader.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.reader.PingContext(ctx); err != nil {
		return fmt.Errorf("cannot reach the database: %w", err)
	}
	return nil
}

// Reader returns the connections for reading. Nothing may be written through them.
func (s *Store) Reader() *sql.DB { return s.reader }

// advisoryLock is the key of PostgreSQL's lock that makes writers take turns: "waymark" in ASCII.
const advisoryLock = 0x7761796d61726b

// Update runs fn in a transaction and commits it when fn returns nil. Transactions of all processes run one after
// another. fn must not use the store otherwise, and may run only once per call.
func (s *Store) Update(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", err)
	}
	defer tx.Rollback()
	if s.postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(advisoryLock)); err != nil {
			return fmt.Errorf("cannot take the writers' lock: %w", err)
		}
	}
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot commit a transaction: %w", err)
	}
	return nil
}

// NextIDs gives out n > 0 numbers of a kind and returns the first; a number is never given out twice.
func (*Store) NextIDs(ctx context.Context, tx *sql.Tx, kind string, n int) (uint64, error) {
	var last int64
	err := tx.QueryRowContext(ctx, `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, kind, int64(n)).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("cannot give out an id (%s): %w", kind, err)
	}
	return uint64(last) - uint64(n) + 1, nil
}
