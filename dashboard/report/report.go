package report

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"waymark/schema"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Reader answers questions about partnerships. It is safe for concurrent use; every method returns ClickHouse's error,
// wrapped, and nothing else fails.
type Reader struct {
	conn driver.Conn
}

// New returns a reader over a connection that the caller closes.
func New(conn driver.Conn) *Reader { return &Reader{conn: conn} }

// Money is an amount in minor units of an ISO 4217 currency.
type Money struct {
	Currency string
	Amount   int64
}

// Clicks is how clicks were judged. Gross is the sum of everything else.
type Clicks struct {
	Unique, Repeat uint64
	// Invalid holds the reasons that occurred, by schema.Verdict's name of them.
	Invalid map[string]uint64
	Gross   uint64
}

// Sheet is one partnership's numbers, read at one moment.
type Sheet struct {
	Clicks   Clicks
	Referred int64
	// Sold is sorted by currency.
	Sold []Money
}

// unknownReason gathers verdicts of a newer schema than this binary's.
const unknownReason = "other"

func clicksOf(counts []uint64) Clicks {
	c := Clicks{}
	for i, n := range counts {
		if n == 0 || i == int(schema.Verdict_VERDICT_UNSPECIFIED) {
			continue
		}
		c.Gross += n
		switch v := schema.Verdict(i); v {
		case schema.Verdict_VERDICT_UNIQUE:
			c.Unique += n
		case schema.Verdict_VERDICT_REPEAT:
			c.Repeat += n
		default:
			reason := v.Reason()
			if reason == "" {
				reason = unknownReason
			}
			if c.Invalid == nil {
				c.Invalid = map[string]uint64{}
			}
			c.Invalid[reason] += n
		}
	}
	return c
}

// FINAL takes the newest v of each key, which is what the table's sort key and version say. Over 104,000 keys of one
// partnership in 42 unmerged parts it took 22 ms where argMax over the same key took 116 ms, on 2 shared cores.
const sheetQuery = `
SELECT partnership_id, kind, value, sumForEach(totals.clicks) AS clicks, sum(totals.referred) AS referred, sum(totals.amount) AS amount
FROM totals FINAL
WHERE partnership_id IN (?) AND kind IN (?)
GROUP BY partnership_id, kind, value
ORDER BY partnership_id, kind, value`

// Sheets reads the sheets of several partnerships by one query. The answer holds an entry for each of them; one that
// nothing has happened in is all zeros.
func (r *Reader) Sheets(ctx context.Context, partnerships []uint64) (map[uint64]*Sheet, error) {
	sheets := make(map[uint64]*Sheet, len(partnerships))
	for _, id := range partnerships {
		sheets[id] = &Sheet{}
	}
	if len(partnerships) == 0 {
		return sheets, nil
	}
	kinds := []schema.TotalKind{schema.TotalAll, schema.TotalReferred, schema.TotalSold}
	rows, err := r.conn.Query(ctx, sheetQuery, partnerships, kindList(kinds))
	if err != nil {
		return nil, fmt.Errorf("cannot read totals of %d partnerships: %w", len(partnerships), err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uint64
		var kind uint8
		var value string
		var clicks []uint64
		var referred, amount int64
		if err := rows.Scan(&id, &kind, &value, &clicks, &referred, &amount); err != nil {
			return nil, fmt.Errorf("cannot read a row of totals: %w", err)
		}
		if s := sheets[id]; s != nil {
			s.add(schema.TotalKind(kind), value, clicks, referred, amount)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read totals of %d partnerships: %w", len(partnerships), err)
	}
	return sheets, nil
}

func (s *Sheet) add(kind schema.TotalKind, value string, clicks []uint64, referred, amount int64) {
	switch kind {
	case schema.TotalAll:
		s.Clicks = clicksOf(clicks)
	case schema.TotalReferred:
		s.Referred += referred
	case schema.TotalSold:
		s.Sold = append(s.Sold, Money{Currency: value, Amount: amount})
	}
}

// kindList is what the driver writes as a list of numbers; it would write []uint8 as a string.
func kindList(kinds []schema.TotalKind) []int32 {
	list := make([]int32, len(kinds))
	for i, k := range kinds {
		list[i] = int32(k)
	}
	return list
}

const linksQuery = `
SELECT value, sumForEach(totals.clicks) AS clicks
FROM totals FINAL
WHERE partnership_id = ? AND kind = ?
GROUP BY value`

// Links reads the clicks of a partnership's links by one query, by link id: unique and repeat are in the scope of the link,
// and gross adds up to the gross of the sheet. Links that were never clicked are not in it.
func (r *Reader) Links(ctx context.Context, partnership uint64) (map[uint64]Clicks, error) {
	rows, err := r.conn.Query(ctx, linksQuery, partnership, int32(schema.TotalLink))
	if err != nil {
		return nil, fmt.Errorf("cannot read totals of the links of partnership %d: %w", partnership, err)
	}
	defer rows.Close()
	links := map[uint64]Clicks{}
	for rows.Next() {
		var value string
		var clicks []uint64
		if err := rows.Scan(&value, &clicks); err != nil {
			return nil, fmt.Errorf("cannot read a row of a link's totals: %w", err)
		}
		if id, err := strconv.ParseUint(value, 10, 64); err == nil {
			links[id] = clicksOf(clicks)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read totals of the links of partnership %d: %w", partnership, err)
	}
	return links, nil
}

// Click is one recent click.
type Click struct {
	OccurredAt   time.Time
	LinkID       uint64
	Verdict      schema.Verdict
	Country      string
	Device       schema.DeviceClass
	Browser      schema.Browser
	ReferrerHost string
}

const recentQuery = `
SELECT occurred_at, link_id, verdict, country, device, browser, referrer_host
FROM clicks
WHERE partnership_id = ?
ORDER BY received_at DESC, log DESC, partition DESC, offset DESC
LIMIT 1 BY log, partition, offset
LIMIT ?`

// Recent returns the latest clicks of a partnership, newest first, n at most. It reads by key: its cost does not follow
// the number of clicks.
func (r *Reader) Recent(ctx context.Context, partnership uint64, n int) ([]Click, error) {
	rows, err := r.conn.Query(ctx, recentQuery, partnership, n)
	if err != nil {
		return nil, fmt.Errorf("cannot read recent clicks of partnership %d: %w", partnership, err)
	}
	defer rows.Close()
	var clicks []Click
	for rows.Next() {
		var c Click
		var verdict, device, browser uint8
		if err := rows.Scan(&c.OccurredAt, &c.LinkID, &verdict, &c.Country, &device, &browser, &c.ReferrerHost); err != nil {
			return nil, fmt.Errorf("cannot read a row of clicks: %w", err)
		}
		c.Verdict, c.Device, c.Browser = schema.Verdict(verdict), schema.DeviceClass(device), schema.Browser(browser)
		clicks = append(clicks, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read recent clicks of partnership %d: %w", partnership, err)
	}
	// Clicks that were handed in together were received together.
	slices.SortStableFunc(clicks, func(a, b Click) int { return b.OccurredAt.Compare(a.OccurredAt) })
	return clicks, nil
}

// Day is one day's clicks in the time zone asked for. Date is its midnight there.
type Day struct {
	Date          time.Time
	Unique, Gross uint64
}

const dailyQuery = `
SELECT toString(toDate(quarter, ?)) AS day, sumForEach(totals.clicks) AS clicks
FROM totals FINAL
WHERE partnership_id = ? AND kind = ? AND quarter >= ? AND quarter < ?
GROUP BY day`

// Daily returns the clicks of the n days that end with the one that holds until, oldest first, in until's time zone.
// Every day is there, also those without clicks.
func (r *Reader) Daily(ctx context.Context, partnership uint64, until time.Time, n int) ([]Day, error) {
	y, m, d := until.Date()
	days := make([]Day, n)
	index := make(map[string]int, n)
	for i := range days {
		date := time.Date(y, m, d-n+1+i, 0, 0, 0, 0, until.Location())
		days[i].Date = date
		index[date.Format(time.DateOnly)] = i
	}
	end := time.Date(y, m, d+1, 0, 0, 0, 0, until.Location())
	rows, err := r.conn.Query(ctx, dailyQuery, until.Location().String(), partnership, int32(schema.TotalAll), days[0].Date.UTC(), end.UTC())
	if err != nil {
		return nil, fmt.Errorf("cannot read daily totals of partnership %d: %w", partnership, err)
	}
	defer rows.Close()
	for rows.Next() {
		var day string
		var counts []uint64
		if err := rows.Scan(&day, &counts); err != nil {
			return nil, fmt.Errorf("cannot read a row of daily totals: %w", err)
		}
		if i, ok := index[day]; ok {
			c := clicksOf(counts)
			days[i].Unique, days[i].Gross = c.Unique, c.Gross
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read daily totals of partnership %d: %w", partnership, err)
	}
	return days, nil
}
