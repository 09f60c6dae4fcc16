package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// bulkRows is how many rows one statement writes, and how many values one query looks for.
const bulkRows = 200

// bulk gathers rows and writes many in one statement.
type bulk struct {
	insert  string
	suffix  string
	columns int
	values  []any
}

func newBulk(insert string, columns int, suffix string) *bulk {
	return &bulk{insert: insert, columns: columns, suffix: suffix}
}

func (b *bulk) add(values ...any) {
	if len(values) != b.columns {
		panic("BUG: wrong number of values for " + b.insert)
	}
	b.values = append(b.values, values...)
}

func (b *bulk) statement(rows int) string {
	var q strings.Builder
	q.WriteString(b.insert + " VALUES ")
	for i := range rows {
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString(placeholders(i*b.columns+1, b.columns))
	}
	q.WriteString(" " + b.suffix)
	return q.String()
}

// placeholders returns "($first, ...)" with n of them.
func placeholders(first, n int) string {
	var q strings.Builder
	for i := range n {
		q.WriteString(", $" + strconv.Itoa(first+i))
	}
	return "(" + strings.TrimPrefix(q.String(), ", ") + ")"
}

// flush writes all rows.
func (b *bulk) flush(ctx context.Context, tx *sql.Tx) error {
	full := bulkRows * b.columns
	if len(b.values) >= full {
		stmt, err := tx.PrepareContext(ctx, b.statement(bulkRows))
		if err != nil {
			return fmt.Errorf("cannot prepare a statement: %w", err)
		}
		defer stmt.Close()
		for len(b.values) >= full {
			if _, err := stmt.ExecContext(ctx, b.values[:full]...); err != nil {
				return fmt.Errorf("cannot write rows (%s): %w", b.insert, err)
			}
			b.values = b.values[full:]
		}
	}
	if n := len(b.values) / b.columns; n > 0 {
		if _, err := tx.ExecContext(ctx, b.statement(n), b.values...); err != nil {
			return fmt.Errorf("cannot write rows (%s): %w", b.insert, err)
		}
	}
	b.values = nil
	return nil
}

// eachIn runs a query that ends in "IN " once for every bulkRows of the values, and scans each row. The fixed arguments
// come first.
func eachIn[T any](ctx context.Context, q querier, query string, fixed []any, values []T, scan func(*sql.Rows) error) error {
	for len(values) > 0 {
		part := values[:min(bulkRows, len(values))]
		values = values[len(part):]
		args := append([]any{}, fixed...)
		for _, v := range part {
			args = append(args, v)
		}
		rows, err := q.QueryContext(ctx, query+placeholders(len(fixed)+1, len(part)), args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := scan(rows); err != nil {
				rows.Close()
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}
