package store

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpenRefusesOtherDatabases(t *testing.T) {
	for name, statement := range map[string]string{
		"newer version":     `INSERT INTO migrations (number, name, checksum, applied_ms) VALUES (9000, 'x', 'y', 0)`,
		"changed migration": `UPDATE migrations SET checksum = 'x' WHERE number = 1`,
	} {
		path := filepath.Join(t.TempDir(), "waymark.db")
		s, err := Open(t.Context(), Config{URL: path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.writer.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err = Open(t.Context(), Config{URL: path})
		if err == nil || !strings.HasPrefix(err.Error(), "cannot use the database") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Open = %v, want one line that refuses it", name, err)
		}
		if err == nil {
			s.Close()
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the database was touched (%v)", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "waymark.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database "), 400), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{URL: path}); err == nil {
		t.Error("Open of a file that is no database succeeded")
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space?#%", "waymark.db")
	url := location(t, path)
	for i := range 2 {
		s, err := Open(t.Context(), Config{URL: url})
		if err != nil {
			t.Fatalf("Open %d: %v", i, err)
		}
		apply(t, s, programFile)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); url == path && err != nil {
		t.Error(err)
	}
}

// The settings that the promise of the ledger rests on.
func TestPragmas(t *testing.T) {
	s := open(t)
	for _, db := range []*sql.DB{s.writer, s.reader} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
			var got string
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s = %q, %v; want %q", pragma, got, err, want)
			}
		}
	}
	if _, err := s.reader.ExecContext(t.Context(), "DELETE FROM links"); err == nil {
		t.Error("a reading connection could write")
	}
}

// A process that was killed leaves its lock to nobody and its leases to the next one.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "waymark.db")
	s, err := Open(t.Context(), Config{URL: path})
	if err != nil {
		t.Fatal(err)
	}
	if taken, err := s.TakeLease(t.Context(), "relay", "a", time.Hour); err != nil || !taken {
		t.Fatal(taken, err)
	}
	if _, err := Open(t.Context(), Config{URL: path}); err == nil || !strings.Contains(err.Error(), "another waymark process") {
		t.Errorf("a second Open = %v, want it locked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), Config{URL: path}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if taken, err := s.TakeLease(t.Context(), "relay", "b", time.Hour); err != nil || !taken {
		t.Errorf("TakeLease after the holder's end = %v, %v; want it", taken, err)
	}
}

func TestUpdateRollsBack(t *testing.T) {
	s := open(t)
	broken := errors.New("broken")
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		if _, err := s.NextIDs(t.Context(), tx, "thing", 5); err != nil {
			t.Error(err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Update = %v, want the function's error", err)
	}
	for _, want := range []uint64{1, 4} {
		if err := s.Update(t.Context(), func(tx *sql.Tx) error {
			first, err := s.NextIDs(t.Context(), tx, "thing", 3)
			if first != want {
				t.Errorf("NextIDs = %d, want %d", first, want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLease(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	s, err := Open(t.Context(), Config{URL: location(t, filepath.Join(t.TempDir(), "l.db")), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	take := func(holder string, want bool) {
		t.Helper()
		if got, err := s.TakeLease(t.Context(), "relay", holder, 10*time.Second); err != nil || got != want {
			t.Errorf("TakeLease(%s) = %v, %v; want %v", holder, got, err, want)
		}
	}
	check := func(holder string, want error) {
		t.Helper()
		err := s.Update(t.Context(), func(tx *sql.Tx) error { return s.CheckLease(t.Context(), tx, "relay", holder) })
		if !errors.Is(err, want) {
			t.Errorf("CheckLease(%s) = %v, want %v", holder, err, want)
		}
	}
	check("a", ErrLeaseLost)
	take("a", true)
	take("b", false)
	now = now.Add(8 * time.Second)
	take("a", true)
	now = now.Add(8 * time.Second)
	take("b", false)
	now = now.Add(3 * time.Second)
	take("b", true)
	take("a", false)
	check("a", ErrLeaseLost)
	check("b", nil)
	if err := s.DropLease(t.Context(), "relay", "b"); err != nil {
		t.Fatal(err)
	}
	take("a", true)
}

func TestSessions(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	s, err := Open(t.Context(), Config{URL: location(t, filepath.Join(t.TempDir(), "s.db")), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply(t, s, programFile)
	p, err := s.PartnerByEmail(t.Context(), " ONE@partner.example")
	if err != nil || p.PasswordHash != "plain correct horse" {
		t.Fatalf("PartnerByEmail = %+v, %v", p, err)
	}
	token := sha256.Sum256([]byte("token"))
	if err := s.CreateSession(t.Context(), token, p.ID, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got, end, err := s.SessionPartner(t.Context(), token)
	if err != nil || got != p || !end.Equal(now.Add(time.Hour)) {
		t.Errorf("SessionPartner = %+v, %v, %v", got, end, err)
	}
	now = now.Add(2 * time.Hour)
	if _, _, err := s.SessionPartner(t.Context(), token); !errors.Is(err, ErrNotFound) {
		t.Errorf("SessionPartner after its end: %v, want ErrNotFound", err)
	}
	other := sha256.Sum256([]byte("other"))
	if err := s.CreateSession(t.Context(), other, p.ID, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM sessions").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d sessions are stored (%v), want 1: the expired one is gone", n, err)
	}
	if err := s.DeleteSession(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SessionPartner(t.Context(), other); !errors.Is(err, ErrNotFound) {
		t.Errorf("SessionPartner after sign-out: %v, want ErrNotFound", err)
	}
	for _, email := range []string{"nobody@partner.example", ""} {
		if _, err := s.PartnerByEmail(t.Context(), email); !errors.Is(err, ErrNotFound) {
			t.Errorf("PartnerByEmail(%q): %v, want ErrNotFound", email, err)
		}
	}
}

// BenchmarkApply measures a file of 100,000 links: new, then applied again.
func BenchmarkApply(b *testing.B) {
	var file strings.Builder
	file.WriteString("programs:\n  - key: big\n    name: Big\n    hosts: [go.big.example]\n    allowed_destinations: [shop.example]\n    groups:\n      - {key: all, name: All, default_links: [{title: Home, destination: \"https://shop.example/\"}]}\n    partners:\n")
	for i := range 2000 {
		fmt.Fprintf(&file, "      - name: Partner %d\n        email: p%d@partner.example\n        group: all\n        key: p%d\n        links:\n", i, i, i)
		for j := range 50 {
			fmt.Fprintf(&file, "          - {slug: p%d-l%d, title: Title %d, destination: \"https://shop.example/x/%d\"}\n", i, j, j, j)
		}
	}
	for b.Loop() {
		s := open(b)
		start := time.Now()
		apply(b, s, file.String())
		b.ReportMetric(time.Since(start).Seconds(), "s/new")
		start = time.Now()
		if got := actions(apply(b, s, file.String())); got["unchanged link"] != 102_000 {
			b.Fatalf("second apply = %v", got)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/again")
	}
}
