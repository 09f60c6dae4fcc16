package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Passwords hashes and verifies the passwords of a program file.
type Passwords interface {
	// Hash returns an error that says what is wrong with a password that can't be one.
	Hash(ctx context.Context, password string) (string, error)
	Verify(ctx context.Context, hash, password string) (bool, error)
}

// ApplyOptions says how to apply a program file.
type ApplyOptions struct {
	// DryRun checks and reports everything and changes nothing.
	DryRun bool
	// Passwords is needed for files that hold passwords.
	Passwords Passwords
}

// The actions of a [Change].
const (
	ActionCreate    = "create"
	ActionUpdate    = "update"
	ActionUnchanged = "unchanged"
)

// Change is what a program file does to one thing.
type Change struct {
	Action string `json:"action"`
	// Kind is program, group, partner, partnership or link.
	Kind string `json:"kind"`
	// Key names it: a program's key, program/group, an e-mail address, program/partner key, host/slug.
	Key string `json:"key"`
}

// Report says what a program file did, or would do.
type Report struct {
	Changes []Change `json:"changes"`
	// Notes name what the database holds and the file does not: it was left as it is.
	Notes []string `json:"notes"`
}

// LineError is a mistake at one line of a program file, counted from 1; 0 = the file as a whole.
type LineError struct {
	Line    int    `json:"line"`
	Message string `json:"message"`
}

func (e LineError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

// LineErrors is all that is wrong with a program file, in the order of the lines.
type LineErrors []LineError

func (e LineErrors) Error() string {
	var lines []string
	for _, l := range e {
		lines = append(lines, l.Error())
	}
	return strings.Join(lines, "\n")
}

// maxLineErrors bounds how much is said about one file.
const maxLineErrors = 100

// MaxFile is the size in bytes up to which Apply takes a file.
const MaxFile = 64 << 20

var errDryRun = errors.New("dry run")

// Apply makes the database hold what a program file says: all of it or, when anything is wrong, nothing and
// [LineErrors]. Applying a file again changes nothing. What the database holds and the file leaves out stays as it is and
// is named in the report's notes. See doc.go for the file's form.
func (s *Store) Apply(ctx context.Context, file []byte, o ApplyOptions) (Report, error) {
	if len(file) > MaxFile {
		return Report{}, LineErrors{{0, fmt.Sprintf("the file has %d bytes, more than %d", len(file), MaxFile)}}
	}
	programs, errs := readFile(file)
	if len(errs) > 0 {
		return Report{}, sortErrors(errs)
	}
	hashes, err := s.hashPasswords(ctx, programs, o.Passwords)
	if err != nil {
		return Report{}, err
	}
	a := newApplier(s, hashes)
	err = s.Update(ctx, func(tx *sql.Tx) error {
		if err := a.apply(ctx, tx, programs); err != nil {
			return err
		}
		if len(a.errs) > 0 {
			return sortErrors(a.errs)
		}
		if o.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Report{}, err
	}
	if err == nil {
		s.changed.notify()
	}
	return a.report, nil
}

func sortErrors(errs []LineError) LineErrors {
	slices.SortStableFunc(errs, func(a, b LineError) int { return a.Line - b.Line })
	errs = slices.Compact(errs)
	if more := len(errs) - maxLineErrors; more > 0 {
		errs = append(errs[:maxLineErrors], LineError{0, fmt.Sprintf("and %d more", more)})
	}
	return errs
}

// applier carries one application of a file, within one transaction. Once an error was found it writes no more, and goes
// on to find the others.
type applier struct {
	reader
	s      *Store
	tx     *sql.Tx
	hashes map[string]passwordHash
	report Report

	ids      map[string]*idBlock
	partners map[string]*partnerState
	hosts    map[string]string
	slugs    map[string]int
	apiKeys  map[[32]byte]uint64

	newPartners     *bulk
	newPartnerships *bulk
	newLinks        *bulk
	records         *bulk
}

type idBlock struct{ next, end uint64 }

func newApplier(s *Store, hashes map[string]passwordHash) *applier {
	return &applier{
		s: s, hashes: hashes,
		ids: map[string]*idBlock{}, partners: map[string]*partnerState{}, hosts: map[string]string{}, slugs: map[string]int{},
		apiKeys:         map[[32]byte]uint64{},
		newPartners:     newBulk(`INSERT INTO partners (id, email, name, password_hash)`, 4, ""),
		newPartnerships: newBulk(`INSERT INTO partnerships (id, program_id, partner_id, group_id, partner_key, state)`, 6, ""),
		newLinks: newBulk(`INSERT INTO links (id, partnership_id, kind, position, host, slug, destination, title, state, created_ms, version)`,
			11, ""),
		records: newBulk(`INSERT INTO catalog_outbox (key, version, record)`, 3,
			`ON CONFLICT (key) DO UPDATE SET version = excluded.version, record = excluded.record`),
	}
}

func (a *applier) apply(ctx context.Context, tx *sql.Tx, programs []fileProgram) error {
	a.tx = tx
	seen := map[string]bool{}
	for i := range programs {
		p := &programs[i]
		if p.line == 0 {
			continue
		}
		if seen[p.key.value] && p.key.given() {
			a.fail(p.key.line, "the program %q stands twice in the file", p.key.value)
			continue
		}
		seen[p.key.value] = true
		if err := a.program(ctx, p); err != nil {
			return err
		}
	}
	return a.noteRest(ctx, `SELECT key FROM programs WHERE state <> 3 ORDER BY key`, nil, "the program %s", func(key string) bool { return seen[key] })
}

// ok reports whether what was found so far may be written.
func (a *applier) ok() bool { return len(a.errs) == 0 }

func (a *applier) changed(action, kind, key string) {
	a.report.Changes = append(a.report.Changes, Change{action, kind, key})
}

// id gives out an id of a kind, from blocks, so that 100,000 of them are no 100,000 statements.
func (a *applier) id(ctx context.Context, kind string) (uint64, error) {
	b := a.ids[kind]
	if b == nil {
		b = &idBlock{}
		a.ids[kind] = b
	}
	if b.next == b.end {
		n := 1
		if kind == "link" || kind == catalogCounter {
			n = 64
		}
		first, err := a.s.NextIDs(ctx, a.tx, kind, n)
		if err != nil {
			return 0, err
		}
		b.next, b.end = first, first+uint64(n)
	}
	b.next++
	return b.next - 1, nil
}

func (a *applier) flush(ctx context.Context) error {
	if !a.ok() {
		return nil
	}
	for _, b := range []*bulk{a.newPartners, a.newPartnerships, a.newLinks, a.records} {
		if err := b.flush(ctx, a.tx); err != nil {
			return err
		}
	}
	return nil
}

// maxNotes bounds how many things of a kind are named that the file leaves out.
const maxNotes = 20

// noteRest names what a query finds and the file does not.
func (a *applier) noteRest(ctx context.Context, query string, args []any, what string, inFile func(string) bool) error {
	rows, err := a.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("cannot read what the file leaves out: %w", err)
	}
	names, err := collect(rows, func(name *string) error { return rows.Scan(name) })
	if err != nil {
		return fmt.Errorf("cannot read what the file leaves out: %w", err)
	}
	names = slices.DeleteFunc(names, inFile)
	for i, name := range names {
		if i == maxNotes {
			a.report.Notes = append(a.report.Notes, fmt.Sprintf("and %d more like it", len(names)-i))
			break
		}
		a.report.Notes = append(a.report.Notes, fmt.Sprintf(what, name)+" is not in the file; it was left as it is")
	}
	return nil
}
