package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	number   int
	name     string
	sql      string
	checksum string
}

// migrations returns the numbered files in order. They only ever grow: a file that was released never changes.
func migrations() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic("BUG: cannot list migrations: " + err.Error())
	}
	var all []migration
	for i, name := range names {
		text, err := migrationFiles.ReadFile(name)
		base := strings.TrimPrefix(name, "migrations/")
		number, numberErr := strconv.Atoi(base[:4])
		if err != nil || numberErr != nil || number != i+1 {
			panic("BUG: the migration " + base + " is out of order")
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{number, base, string(text), hex.EncodeToString(sum[:])})
	}
	return all
}

// checkVersion refuses a database that a newer version made, over a connection that writes nothing.
func checkVersion(ctx context.Context, dsn string) error {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return fmt.Errorf("cannot open the database: %w", err)
	}
	defer db.Close()
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'migrations'`).Scan(&tables); err != nil {
		return fmt.Errorf("cannot read the database's version: %w", err)
	}
	if tables == 0 {
		return nil
	}
	_, err = applied(ctx, db)
	return err
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// applied returns how many migrations the database has, after checking that they are the ones this program knows.
func applied(ctx context.Context, q querier) (int, error) {
	rows, err := q.QueryContext(ctx, `SELECT number, checksum FROM migrations ORDER BY number`)
	if err != nil {
		return 0, fmt.Errorf("cannot read the database's version: %w", err)
	}
	defer rows.Close()
	known, n := migrations(), 0
	for rows.Next() {
		var number int
		var checksum string
		if err := rows.Scan(&number, &checksum); err != nil {
			return 0, fmt.Errorf("cannot read the database's version: %w", err)
		}
		if number > len(known) {
			return 0, fmt.Errorf("cannot use the database: it was made by a newer version of waymark (its migration %d is not known, the last known one is %d)", number, len(known))
		}
		if number != n+1 || known[n].checksum != checksum {
			return 0, fmt.Errorf("cannot use the database: its migration %d is not the one that this version of waymark knows", number)
		}
		n++
	}
	return n, rows.Err()
}

func (s *Store) migrate(ctx context.Context) error {
	return s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (
			number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_ms BIGINT NOT NULL)`); err != nil {
			return fmt.Errorf("cannot make the table of migrations: %w", err)
		}
		n, err := applied(ctx, tx)
		if err != nil {
			return err
		}
		for _, m := range migrations()[n:] {
			for statement := range strings.SplitSeq(m.sql, ";\n") {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("cannot apply migration %s: %w", m.name, err)
				}
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (number, name, checksum, applied_ms) VALUES ($1, $2, $3, $4)`,
				m.number, m.name, m.checksum, s.now().UnixMilli()); err != nil {
				return fmt.Errorf("cannot note migration %s: %w", m.name, err)
			}
		}
		return nil
	})
}
