// Package ddl holds the numbered ClickHouse statements that make Waymark's tables. A file is never changed once it
// has been released; a change is a new file. The aggregator applies them at start, the dashboard checks them.
package ddl

import "embed"

// Files holds the statements, one file per number: 0001_name.sql. Statements end with a semicolon at a line's end.
//
//go:embed *.sql
var Files embed.FS
