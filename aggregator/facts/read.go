package facts

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"waymark/schema"
)

// Cell names the totals of one partnership in one quarter hour, in seconds since the Unix epoch.
type Cell struct {
	Partnership uint64
	Quarter     uint32
}

// Log is a row of the table of logs.
type Log struct {
	Log          string    `ch:"log"`
	ClusterID    string    `ch:"cluster_id"`
	Partitions   uint16    `ch:"partitions"`
	RegisteredAt time.Time `ch:"registered_at"`
}

// Logs returns the registered logs, the oldest row of each.
func (s *Store) Logs(ctx context.Context) (map[string]Log, error) {
	var rows []Log
	if err := s.cfg.ClickHouse.Select(ctx, &rows, "SELECT log, cluster_id, partitions, registered_at FROM logs ORDER BY registered_at DESC"); err != nil {
		return nil, fmt.Errorf("cannot read the registered logs: %w", err)
	}
	logs := map[string]Log{}
	for _, r := range rows {
		logs[r.Log] = r
	}
	return logs, nil
}

var logsTable = table[Log]{"logs", []column[Log]{
	col("log", lowString, func(r *Log) string { return r.Log }),
	col("cluster_id", "String", func(r *Log) string { return r.ClusterID }),
	col("partitions", "UInt16", func(r *Log) uint16 { return r.Partitions }),
	col("registered_at", millis, func(r *Log) time.Time { return r.RegisteredAt }),
}}

// Register stores which cluster a log lives on and how many partitions it has.
func (s *Store) Register(ctx context.Context, l Log) error {
	return logsTable.insert(ctx, s.cfg.ClickHouse, []Log{l})
}

// Progress returns the newest progress of every partition of a log, keyed by partition.
func (s *Store) Progress(ctx context.Context, log string) (map[uint16]schema.ProgressRow, error) {
	var rows []schema.ProgressRow
	err := s.cfg.ClickHouse.Select(ctx, &rows, `SELECT log, partition, v, fold_version, edges, epochs, lasts, gap_edges, gap_epochs, gap_firsts, gap_lasts, tick_edges, tick_ms, written_at
FROM progress WHERE log = ? ORDER BY partition, v DESC LIMIT 1 BY partition`, log)
	if err != nil {
		return nil, fmt.Errorf("cannot read progress of %s: %w", log, err)
	}
	byPartition := map[uint16]schema.ProgressRow{}
	for _, r := range rows {
		byPartition[r.Partition] = r
	}
	return byPartition, nil
}

// chunk is how many rows are handed over at once.
const chunk = 10_000

// Visitors reads the visitors of a partition that were counted at an offset >= from, in the order of their offsets, and
// hands them over in pieces. What fn keeps of a piece it must copy.
func (s *Store) Visitors(ctx context.Context, log string, partition uint16, from uint64, fn func([]schema.VisitorRow) error) error {
	rows, err := s.cfg.ClickHouse.Query(ctx, `SELECT partnership_id, visitor, link_id, counted_at, position, window_ms
FROM visitors WHERE log = ? AND partition = ? AND position >= ? ORDER BY position`, log, int32(partition), from)
	if err != nil {
		return fmt.Errorf("cannot read visitors of %s/%d: %w", log, partition, err)
	}
	defer rows.Close()
	piece := make([]schema.VisitorRow, 0, chunk)
	for rows.Next() {
		r := schema.VisitorRow{Log: log, Partition: partition}
		if err := rows.Scan(&r.PartnershipID, &r.Visitor, &r.LinkID, &r.CountedAt, &r.Position, &r.WindowMillis); err != nil {
			return fmt.Errorf("cannot read a visitor of %s/%d: %w", log, partition, err)
		}
		if piece = append(piece, r); len(piece) == chunk {
			if err := fn(piece); err != nil {
				return err
			}
			piece = piece[:0]
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cannot read visitors of %s/%d: %w", log, partition, err)
	}
	if len(piece) == 0 {
		return nil
	}
	return fn(piece)
}

// Verdicts reads what the table of clicks holds for offsets >= from of a partition.
func (s *Store) Verdicts(ctx context.Context, log string, partition uint16, from uint64, fn func(offset uint64, v schema.Verdict, linkUnique bool, foldVersion uint16)) error {
	rows, err := s.cfg.ClickHouse.Query(ctx, `SELECT offset, verdict, link_unique, fold_version FROM clicks
WHERE log = ? AND partition = ? AND offset >= ?`, log, int32(partition), from)
	if err != nil {
		return fmt.Errorf("cannot read clicks of %s/%d: %w", log, partition, err)
	}
	defer rows.Close()
	for rows.Next() {
		var offset uint64
		var verdict uint8
		var linkUnique bool
		var version uint16
		if err := rows.Scan(&offset, &verdict, &linkUnique, &version); err != nil {
			return fmt.Errorf("cannot read a click of %s/%d: %w", log, partition, err)
		}
		if int(verdict) >= schema.NumVerdicts {
			return fmt.Errorf("cannot read click %d of %s/%d: verdict %d is of a newer version", offset, log, partition, verdict)
		}
		fn(offset, schema.Verdict(verdict), linkUnique, version)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cannot read clicks of %s/%d: %w", log, partition, err)
	}
	return nil
}

// listed bounds how many ids stand in one statement.
const listed = 5000

// Values reads every value that the partnerships have in the totals of a partition. The rows hold the partnership, kind,
// value and, as Quarter, the newest one.
func (s *Store) Values(ctx context.Context, log string, partition uint16, partnerships []uint64) ([]schema.TotalRow, error) {
	var all []schema.TotalRow
	for start := 0; start < len(partnerships); start += listed {
		ids := partnerships[start:min(start+listed, len(partnerships))]
		var rows []schema.TotalRow
		err := s.cfg.ClickHouse.Select(ctx, &rows, `SELECT partnership_id, kind, value, max(quarter) AS quarter FROM totals
WHERE partnership_id IN (`+list(ids)+`) AND log = ? AND partition = ? GROUP BY partnership_id, kind, value ORDER BY partnership_id, kind, value`, log, int32(partition))
		if err != nil {
			return nil, fmt.Errorf("cannot read the values of %d partnerships in %s/%d: %w", len(ids), log, partition, err)
		}
		all = append(all, rows...)
	}
	return all, nil
}

func list(ids []uint64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(id, 10))
	}
	return b.String()
}

// Totals reads the newest row of every key of the cells.
func (s *Store) Totals(ctx context.Context, log string, partition uint16, cells []Cell) ([]schema.TotalRow, error) {
	var all []schema.TotalRow
	for start := 0; start < len(cells); start += listed {
		part := cells[start:min(start+listed, len(cells))]
		// The list of partnerships alone narrows what is read, because the sort key starts with it.
		var ids []uint64
		var pairs strings.Builder
		for i, c := range part {
			if i > 0 {
				pairs.WriteByte(',')
			}
			fmt.Fprintf(&pairs, "(%d,%d)", c.Partnership, c.Quarter)
			if len(ids) == 0 || ids[len(ids)-1] != c.Partnership {
				ids = append(ids, c.Partnership)
			}
		}
		var rows []schema.TotalRow
		err := s.cfg.ClickHouse.Select(ctx, &rows, `SELECT partnership_id, kind, value, quarter, v, clicks, referred, amount FROM totals
WHERE partnership_id IN (`+list(ids)+`) AND (partnership_id, toUnixTimestamp(quarter)) IN (`+pairs.String()+`) AND log = ? AND partition = ?
ORDER BY partnership_id, kind, value, quarter, v DESC LIMIT 1 BY partnership_id, kind, value, quarter`, log, int32(partition))
		if err != nil {
			return nil, fmt.Errorf("cannot read %d totals of %s/%d: %w", len(part), log, partition, err)
		}
		all = append(all, rows...)
	}
	return all, nil
}
