package facts

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"waymark/schema"
)

// column knows one column of a table whose rows are of type R.
type column[R any] struct {
	name, kind string
	// values returns the column of the rows, as a slice.
	values func(rows []R) any
}

func col[R, T any](name, kind string, get func(*R) T) column[R] {
	return column[R]{name, kind, func(rows []R) any {
		values := make([]T, len(rows))
		for i := range rows {
			values[i] = get(&rows[i])
		}
		return values
	}}
}

// table knows how rows of type R are inserted: by column, and with the types that the numbered statements of schema/ddl
// gave them, so that no insert has to ask for them first.
type table[R any] struct {
	name    string
	columns []column[R]
}

// insertSettings are those that an insert's truth depends on. Asynchronous inserts are answered before they are stored. A
// flush after a long outage may touch more months than the server's default allows, and would be refused for ever.
const insertSettings = "async_insert=0, max_partitions_per_insert_block=0"

func (t *table[R]) statement() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ") SETTINGS " + insertSettings
}

func (t *table[R]) insert(ctx context.Context, conn driver.Conn, rows []R) error {
	types := make([]clickhouse.ColumnNameAndType, len(t.columns))
	for i, c := range t.columns {
		types[i] = clickhouse.ColumnNameAndType{Name: c.name, Type: c.kind}
	}
	batch, err := conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithColumnNamesAndTypes(types)), t.statement())
	if err != nil {
		return fmt.Errorf("cannot prepare an insert into %s: %w", t.name, err)
	}
	defer batch.Close()
	for i, c := range t.columns {
		if err := batch.Column(i).Append(c.values(rows)); err != nil {
			return fmt.Errorf("cannot encode column %s of %s: %w", c.name, t.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("cannot insert %d rows into %s: %w", len(rows), t.name, err)
	}
	return nil
}

const (
	lowString = "LowCardinality(String)"
	millis    = "DateTime64(3, 'UTC')"
)

var clicks = table[schema.ClickRow]{"clicks", []column[schema.ClickRow]{
	col("log", lowString, func(r *schema.ClickRow) string { return r.Log }),
	col("partition", "UInt16", func(r *schema.ClickRow) uint16 { return r.Partition }),
	col("offset", "UInt64", func(r *schema.ClickRow) uint64 { return r.Offset }),
	col("edge", "UInt64", func(r *schema.ClickRow) uint64 { return r.Edge }),
	col("epoch", "UInt64", func(r *schema.ClickRow) uint64 { return r.Epoch }),
	col("number", "UInt64", func(r *schema.ClickRow) uint64 { return r.Number }),
	col("occurred_at", millis, func(r *schema.ClickRow) time.Time { return r.OccurredAt }),
	col("received_at", millis, func(r *schema.ClickRow) time.Time { return r.ReceivedAt }),
	col("program_id", "UInt64", func(r *schema.ClickRow) uint64 { return r.ProgramID }),
	col("partner_id", "UInt64", func(r *schema.ClickRow) uint64 { return r.PartnerID }),
	col("partnership_id", "UInt64", func(r *schema.ClickRow) uint64 { return r.PartnershipID }),
	col("link_id", "UInt64", func(r *schema.ClickRow) uint64 { return r.LinkID }),
	col("click_id", "FixedString(39)", func(r *schema.ClickRow) string { return r.ClickID }),
	col("visitor", "FixedString(16)", func(r *schema.ClickRow) string { return r.Visitor }),
	col("identity", "UInt8", func(r *schema.ClickRow) uint8 { return r.Identity }),
	col("window_ms", "Int64", func(r *schema.ClickRow) int64 { return r.WindowMillis }),
	col("edge_verdict", "UInt8", func(r *schema.ClickRow) uint8 { return r.EdgeVerdict }),
	col("edge_link_unique", "Bool", func(r *schema.ClickRow) bool { return r.EdgeLinkUnique }),
	col("verdict", "UInt8", func(r *schema.ClickRow) uint8 { return r.Verdict }),
	col("link_unique", "Bool", func(r *schema.ClickRow) bool { return r.LinkUnique }),
	col("signals", "UInt32", func(r *schema.ClickRow) uint32 { return r.Signals }),
	col("country", lowString, func(r *schema.ClickRow) string { return r.Country }),
	col("region", lowString, func(r *schema.ClickRow) string { return r.Region }),
	col("city", lowString, func(r *schema.ClickRow) string { return r.City }),
	col("device", "UInt8", func(r *schema.ClickRow) uint8 { return r.Device }),
	col("browser", "UInt8", func(r *schema.ClickRow) uint8 { return r.Browser }),
	col("os", "UInt8", func(r *schema.ClickRow) uint8 { return r.OS }),
	col("referrer_host", "String", func(r *schema.ClickRow) string { return r.ReferrerHost }),
	col("sub_ids", "Array(String)", func(r *schema.ClickRow) []string { return r.SubIDs }),
	col("utm_source", "String", func(r *schema.ClickRow) string { return r.UTMSource }),
	col("utm_medium", "String", func(r *schema.ClickRow) string { return r.UTMMedium }),
	col("utm_campaign", "String", func(r *schema.ClickRow) string { return r.UTMCampaign }),
	col("utm_term", "String", func(r *schema.ClickRow) string { return r.UTMTerm }),
	col("utm_content", "String", func(r *schema.ClickRow) string { return r.UTMContent }),
	col("trigger", "UInt8", func(r *schema.ClickRow) uint8 { return r.Trigger }),
	col("user_agent", "String", func(r *schema.ClickRow) string { return r.UserAgent }),
	col("fold_version", "UInt16", func(r *schema.ClickRow) uint16 { return r.FoldVersion }),
}}

var visitors = table[schema.VisitorRow]{"visitors", []column[schema.VisitorRow]{
	col("log", lowString, func(r *schema.VisitorRow) string { return r.Log }),
	col("partition", "UInt16", func(r *schema.VisitorRow) uint16 { return r.Partition }),
	col("partnership_id", "UInt64", func(r *schema.VisitorRow) uint64 { return r.PartnershipID }),
	col("visitor", "FixedString(16)", func(r *schema.VisitorRow) string { return r.Visitor }),
	col("link_id", "UInt64", func(r *schema.VisitorRow) uint64 { return r.LinkID }),
	col("counted_at", millis, func(r *schema.VisitorRow) time.Time { return r.CountedAt }),
	col("position", "UInt64", func(r *schema.VisitorRow) uint64 { return r.Position }),
	col("window_ms", "Int64", func(r *schema.VisitorRow) int64 { return r.WindowMillis }),
}}

var totals = table[schema.TotalRow]{"totals", []column[schema.TotalRow]{
	col("partnership_id", "UInt64", func(r *schema.TotalRow) uint64 { return r.PartnershipID }),
	col("kind", "UInt8", func(r *schema.TotalRow) uint8 { return r.Kind }),
	col("value", "String", func(r *schema.TotalRow) string { return r.Value }),
	col("quarter", "DateTime('UTC')", func(r *schema.TotalRow) time.Time { return r.Quarter }),
	col("log", lowString, func(r *schema.TotalRow) string { return r.Log }),
	col("partition", "UInt16", func(r *schema.TotalRow) uint16 { return r.Partition }),
	col("v", "UInt64", func(r *schema.TotalRow) uint64 { return r.V }),
	col("clicks", "Array(UInt64)", func(r *schema.TotalRow) []uint64 { return r.Clicks }),
	col("referred", "Int64", func(r *schema.TotalRow) int64 { return r.Referred }),
	col("amount", "Int64", func(r *schema.TotalRow) int64 { return r.Amount }),
}}

var progress = table[schema.ProgressRow]{"progress", []column[schema.ProgressRow]{
	col("log", lowString, func(r *schema.ProgressRow) string { return r.Log }),
	col("partition", "UInt16", func(r *schema.ProgressRow) uint16 { return r.Partition }),
	col("v", "UInt64", func(r *schema.ProgressRow) uint64 { return r.V }),
	col("fold_version", "UInt16", func(r *schema.ProgressRow) uint16 { return r.FoldVersion }),
	col("edges", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.Edges }),
	col("epochs", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.Epochs }),
	col("lasts", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.Lasts }),
	col("gap_edges", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.GapEdges }),
	col("gap_epochs", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.GapEpochs }),
	col("gap_firsts", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.GapFirsts }),
	col("gap_lasts", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.GapLasts }),
	col("tick_edges", "Array(UInt64)", func(r *schema.ProgressRow) []uint64 { return r.TickEdges }),
	col("tick_ms", "Array(Int64)", func(r *schema.ProgressRow) []int64 { return r.TickMillis }),
	col("written_at", millis, func(r *schema.ProgressRow) time.Time { return r.WrittenAt }),
}}
