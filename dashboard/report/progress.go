package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"waymark/schema"
)

// Part names one partition of one log.
type Part struct {
	Log       string
	Partition uint16
}

// Tick is the time up to which everything of one edge in one partition is counted.
type Tick struct {
	Part
	Edge schema.EdgeID
	Time time.Time
}

// Progress is how far the facts have come.
type Progress struct {
	// V is how many records of each partition are counted.
	V map[Part]uint64
	// Least is the tick that stands furthest back: everything up to its time is counted. Its time is zero while an edge or
	// a partition has not been heard of at all.
	Least Tick
}

// AsOf returns the time up to which every number is complete, or the zero time while that is not known.
func (p *Progress) AsOf() time.Time { return p.Least.Time }

const progressQuery = `
SELECT log, partition, (argMax((v, tick_edges, tick_ms), v) AS newest).1, newest.2, newest.3
FROM progress GROUP BY log, partition
ORDER BY log, partition`

const logsQuery = `SELECT log, max(partitions) FROM logs GROUP BY log`

// Progress reads how far the clicks and ledger logs are counted. Two small tables are read; it is cheap enough to be
// asked several times a second.
func (r *Reader) Progress(ctx context.Context) (*Progress, error) {
	p := &Progress{V: map[Part]uint64{}}
	rows, err := r.conn.Query(ctx, progressQuery)
	if err != nil {
		return nil, fmt.Errorf("cannot read progress: %w", err)
	}
	defer rows.Close()
	var ticks []Tick
	for rows.Next() {
		var part Part
		var v uint64
		var edges []uint64
		var millis []int64
		if err := rows.Scan(&part.Log, &part.Partition, &v, &edges, &millis); err != nil {
			return nil, fmt.Errorf("cannot read a row of progress: %w", err)
		}
		if !counts(part.Log) {
			continue
		}
		p.V[part] = v
		for i, e := range edges {
			if i < len(millis) {
				ticks = append(ticks, Tick{part, schema.EdgeID(e), time.UnixMilli(millis[i]).UTC()})
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read progress: %w", err)
	}
	partitions, err := r.partitions(ctx)
	if err != nil {
		return nil, err
	}
	p.Least = least(ticks, p.V, partitions)
	return p, nil
}

// counts reports whether a log's facts are among what partners see.
func counts(log string) bool {
	l, err := schema.ParseLog(log)
	return err == nil && (l.Topic == schema.TopicClicks || l.Topic == schema.TopicLedger)
}

func (r *Reader) partitions(ctx context.Context) (map[string]uint16, error) {
	rows, err := r.conn.Query(ctx, logsQuery)
	if err != nil {
		return nil, fmt.Errorf("cannot read logs: %w", err)
	}
	defer rows.Close()
	partitions := map[string]uint16{}
	for rows.Next() {
		var log string
		var n uint16
		if err := rows.Scan(&log, &n); err != nil {
			return nil, fmt.Errorf("cannot read a row of logs: %w", err)
		}
		if counts(log) {
			partitions[log] = n
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read logs: %w", err)
	}
	return partitions, nil
}

// least returns the tick that stands furthest back. A registered partition without progress, and an edge that ticked in
// some of a log's partitions but not in all, hold it at zero.
func least(ticks []Tick, v map[Part]uint64, partitions map[string]uint16) Tick {
	var found Tick
	for i, t := range ticks {
		if i == 0 || t.Time.Before(found.Time) {
			found = t
		}
	}
	for log, n := range partitions {
		for i := range n {
			part := Part{log, i}
			if _, ok := v[part]; !ok {
				return Tick{Part: part}
			}
		}
	}
	type edgeLog struct {
		edge schema.EdgeID
		log  string
	}
	seen := map[edgeLog]map[uint16]bool{}
	for _, t := range ticks {
		key := edgeLog{t.Edge, t.Log}
		if seen[key] == nil {
			seen[key] = map[uint16]bool{}
		}
		seen[key][t.Partition] = true
	}
	for key, parts := range seen {
		for i := range partitions[key.log] {
			if !parts[i] {
				return Tick{Part: Part{key.log, i}, Edge: key.edge}
			}
		}
	}
	return found
}

// Changed returns those of the partnerships whose facts have changed between two readings of progress. It looks at
// the new rows alone.
func (r *Reader) Changed(ctx context.Context, partnerships []uint64, before, after *Progress) ([]uint64, error) {
	var clicks, ledger []string
	var clickArgs, ledgerArgs []any
	for part, v := range after.V {
		old := before.V[part]
		if v == old {
			continue
		}
		if l, _ := schema.ParseLog(part.Log); l.Topic == schema.TopicClicks {
			clicks = append(clicks, "(log = ? AND partition = ? AND offset >= ?)")
			clickArgs = append(clickArgs, part.Log, int32(part.Partition), old)
		} else {
			ledger = append(ledger, "(log = ? AND partition = ? AND v > ?)")
			ledgerArgs = append(ledgerArgs, part.Log, int32(part.Partition), old)
		}
	}
	if len(partnerships) == 0 || len(clicks)+len(ledger) == 0 {
		return nil, nil
	}
	var parts []string
	var args []any
	if len(clicks) > 0 {
		parts = append(parts, "SELECT partnership_id FROM clicks WHERE partnership_id IN (?) AND ("+strings.Join(clicks, " OR ")+")")
		args = append(append(args, partnerships), clickArgs...)
	}
	if len(ledger) > 0 {
		parts = append(parts, "SELECT partnership_id FROM totals WHERE partnership_id IN (?) AND kind >= ? AND ("+strings.Join(ledger, " OR ")+")")
		args = append(append(args, partnerships, int32(schema.TotalReferred)), ledgerArgs...)
	}
	rows, err := r.conn.Query(ctx, "SELECT DISTINCT partnership_id FROM ("+strings.Join(parts, " UNION ALL ")+") ORDER BY partnership_id", args...)
	if err != nil {
		return nil, fmt.Errorf("cannot read which of %d partnerships changed: %w", len(partnerships), err)
	}
	defer rows.Close()
	var changed []uint64
	for rows.Next() {
		var id uint64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("cannot read a changed partnership: %w", err)
		}
		changed = append(changed, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read which of %d partnerships changed: %w", len(partnerships), err)
	}
	return changed, nil
}
