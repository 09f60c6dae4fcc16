package warehouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ledgerTable remembers which files were applied. A file counts as applied when its row is there, which is written last:
// a file that was cut short is run again, so statements are written to bear that.
const ledgerTable = `CREATE TABLE IF NOT EXISTS schema_migrations (
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY number
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1`

type migration struct {
	number     uint32
	name       string
	checksum   string
	statements []string
}

var fileName = regexp.MustCompile(`^(\d{4})_\w+\.sql$`)

var comment = regexp.MustCompile(`(?m)^\s*--.*$`)

// migrations reads the numbered files of a folder. The numbers must be 1, 2, 3...
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("cannot list migrations: %w", err)
	}
	slices.Sort(names)
	var all []migration
	for i, name := range names {
		m := fileName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("cannot use migration %s: its name is not of the form 0001_name.sql", name)
		}
		number, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil || number != uint64(i+1) {
			return nil, fmt.Errorf("cannot use migration %s: want number %04d", name, i+1)
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("cannot read migration %s: %w", name, err)
		}
		sum := sha256.Sum256(b)
		all = append(all, migration{uint32(number), name, hex.EncodeToString(sum[:]), split(string(b))})
	}
	return all, nil
}

func split(file string) []string {
	var statements []string
	for s := range strings.SplitSeq(comment.ReplaceAllString(file, "")+"\n", ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// Migrate applies the numbered files that the database has not seen, in order. It returns an error, and applies nothing,
// if the database was made by a newer program or a file that was applied has changed since.
func Migrate(ctx context.Context, conn driver.Conn, files fs.FS) error {
	if err := conn.Exec(ctx, ledgerTable); err != nil {
		return fmt.Errorf("cannot make the table of migrations: %w", err)
	}
	pending, err := pending(ctx, conn, files)
	if err != nil {
		return err
	}
	for _, m := range pending {
		for _, statement := range m.statements {
			if err := conn.Exec(ctx, idempotent(statement)); err != nil {
				return fmt.Errorf("cannot apply migration %s: %w", m.name, err)
			}
		}
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO schema_migrations (number, name, checksum, applied_at)")
		if err == nil {
			err = batch.Append(m.number, m.name, m.checksum, time.Now().UTC())
		}
		if err == nil {
			err = batch.Send()
		}
		if err != nil {
			return fmt.Errorf("cannot record migration %s: %w", m.name, err)
		}
	}
	return nil
}

// idempotent lets a CREATE TABLE run again after it was cut short.
func idempotent(statement string) string {
	if rest, ok := strings.CutPrefix(statement, "CREATE TABLE "); ok && !strings.HasPrefix(rest, "IF NOT EXISTS") {
		return "CREATE TABLE IF NOT EXISTS " + rest
	}
	return statement
}

// Check returns an error unless the database has exactly the files' tables. It writes nothing.
func Check(ctx context.Context, conn driver.Conn, files fs.FS) error {
	missing, err := pending(ctx, conn, files)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("ClickHouse lacks migration %s: start the aggregator, which applies it", missing[0].name)
	}
	return nil
}

// pending returns the files that the database has not seen.
func pending(ctx context.Context, conn driver.Conn, files fs.FS) ([]migration, error) {
	all, err := migrations(files)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT number, any(name), any(checksum) FROM schema_migrations GROUP BY number ORDER BY number")
	if err != nil {
		return nil, fmt.Errorf("cannot read the table of migrations (the aggregator makes it): %w", err)
	}
	defer rows.Close()
	done := 0
	for rows.Next() {
		var applied migration
		if err := rows.Scan(&applied.number, &applied.name, &applied.checksum); err != nil {
			return nil, fmt.Errorf("cannot read the table of migrations: %w", err)
		}
		if done == len(all) {
			return nil, fmt.Errorf("cannot use this ClickHouse database: it has migration %s of a newer waymark", applied.name)
		}
		if m := all[done]; m.number != applied.number || m.checksum != applied.checksum {
			return nil, fmt.Errorf("cannot use this ClickHouse database: its migration %s is not this program's %s", applied.name, m.name)
		}
		done++
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the table of migrations: %w", err)
	}
	return all[done:], nil
}
