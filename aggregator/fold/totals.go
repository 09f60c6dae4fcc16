package fold

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"waymark/schema"
)

// MaxValues is how many distinct values a partnership has per kind in one partition, for the kinds whose values clients
// choose. What comes later, in the order of the log, counts as [schema.OtherValue].
const MaxValues = 1000

// Cell names the totals of one partnership in one quarter hour.
type Cell struct {
	Partnership uint64
	// Quarter is its start in seconds since the Unix epoch.
	Quarter uint32
}

// capped reports whether clients choose the kind's values.
func capped(k schema.TotalKind) bool {
	switch k {
	case schema.TotalCountry, schema.TotalReferrer, schema.TotalSubID, schema.TotalUTMSource, schema.TotalUTMMedium, schema.TotalUTMCampaign:
		return true
	}
	return false
}

const numKinds = int(schema.TotalPending) + 1

// otherID is the number of OtherValue, which is in no list.
const otherID = 0

// valueList numbers the values of one kind of one partnership from 1, in the order of the log.
type valueList struct {
	ids   map[string]uint32
	names []string
}

func (l *valueList) add(value string) uint32 {
	if l.ids == nil {
		l.ids = map[string]uint32{}
	}
	l.names = append(l.names, value)
	id := uint32(len(l.names))
	l.ids[value] = id
	return id
}

func (l *valueList) find(value []byte) (id uint32, ok bool) {
	if string(value) == schema.OtherValue {
		return otherID, true
	}
	id, ok = l.ids[string(value)]
	return id, ok
}

func (l *valueList) name(id uint32) string {
	if id == otherID {
		return schema.OtherValue
	}
	return l.names[id-1]
}

type partnership struct {
	values [numKinds]valueList
	// The table of totals may hold rows of quarters up to this one, and holds none of later quarters unless they are in
	// memory. 0: none at all.
	stored uint32
	cells  int
}

type totalKey struct {
	kind  schema.TotalKind
	value uint32
}

type total struct {
	// The total holds every record below v, and no record from v on has been counted unless it is dirty.
	v                uint64
	clicks           [schema.NumVerdicts]uint64
	referred, amount int64
	dirty            bool
}

type cell struct {
	totals map[totalKey]*total
	used   uint64
	dirty  int
}

type dirtyTotal struct {
	at    Cell
	owner *partnership
	cell  *cell
	key   totalKey
	total *total
}

// totals are the totals of a partition that are in memory: all that have changed since they were last stored, and those of
// cells that were touched lately.
type totals struct {
	maxValues int
	maxCached int

	partnerships map[uint64]*partnership
	cells        map[Cell]*cell
	cached       int
	dirty        []dirtyTotal
	round        uint64
	scratch      []byte
}

func newTotals(maxValues, maxCached int) *totals {
	return &totals{maxValues: maxValues, maxCached: maxCached, partnerships: map[uint64]*partnership{}, cells: map[Cell]*cell{}}
}

func cellOf(partnership uint64, millis int64) Cell {
	return Cell{partnership, uint32(schema.Quarter(millis) / 1000)}
}

// missing reports whether a cell's rows must be read back before it is changed.
func (t *totals) missing(at Cell) bool {
	if t.cells[at] != nil {
		return false
	}
	p := t.partnerships[at.Partnership]
	return p != nil && at.Quarter <= p.stored
}

func (t *totals) loadValues(asked []uint64, newest []schema.TotalRow) error {
	for _, id := range asked {
		if t.partnerships[id] == nil {
			t.partnerships[id] = &partnership{}
		}
	}
	for i := range newest {
		r := &newest[i]
		p, kind := t.partnerships[r.PartnershipID], schema.TotalKind(r.Kind)
		if p == nil || kind == 0 || int(kind) >= numKinds {
			return fmt.Errorf("cannot take a value of kind %d of partnership %d: not asked for, or written by a newer version", r.Kind, r.PartnershipID)
		}
		p.stored = max(p.stored, uint32(r.Quarter.Unix()))
		if l := &p.values[kind]; capped(kind) && r.Value != schema.OtherValue && l.ids[r.Value] == 0 {
			l.add(r.Value)
		}
	}
	return nil
}

func (t *totals) loadCells(asked []Cell, rows []schema.TotalRow) error {
	for _, at := range asked {
		if t.cells[at] != nil {
			return fmt.Errorf("cannot take totals of partnership %d at %d: they are in memory", at.Partnership, at.Quarter)
		}
		t.newCell(at)
	}
	for i := range rows {
		r := &rows[i]
		at := Cell{r.PartnershipID, uint32(r.Quarter.Unix())}
		c, kind := t.cells[at], schema.TotalKind(r.Kind)
		if c == nil || int(kind) >= numKinds || len(r.Clicks) > schema.NumVerdicts {
			return fmt.Errorf("cannot take a total of kind %d of partnership %d at %d: not asked for, or written by a newer version", r.Kind, r.PartnershipID, at.Quarter)
		}
		l := &t.partnerships[r.PartnershipID].values[kind]
		id, ok := l.find([]byte(r.Value))
		if !ok {
			id = l.add(r.Value)
		}
		tot := &total{v: r.V, referred: r.Referred, amount: r.Amount}
		copy(tot.clicks[:], r.Clicks)
		c.totals[totalKey{kind, id}] = tot
		t.cached++
	}
	return nil
}

func (t *totals) newCell(at Cell) *cell {
	p := t.partnerships[at.Partnership]
	if p == nil {
		panic("BUG: a partnership is counted whose values were not read")
	}
	c := &cell{totals: map[totalKey]*total{}, used: t.round}
	t.cells[at] = c
	p.cells++
	return c
}

// touch returns the total of a key for the record at an offset, or nil if the total holds that record already.
func (t *totals) touch(at Cell, p *partnership, c *cell, kind schema.TotalKind, value []byte, offset uint64) *total {
	l := &p.values[kind]
	id, ok := l.find(value)
	if !ok && (!capped(kind) || len(l.names) < t.maxValues) {
		id = l.add(string(value))
	}
	key := totalKey{kind, id}
	tot := c.totals[key]
	if tot == nil {
		tot = &total{}
		c.totals[key] = tot
		t.cached++
	}
	if offset < tot.v {
		return nil
	}
	if !tot.dirty {
		tot.dirty = true
		c.dirty++
		t.dirty = append(t.dirty, dirtyTotal{at, p, c, key, tot})
	}
	return tot
}

// enter returns where the totals of a cell are counted.
func (t *totals) enter(at Cell) (*partnership, *cell) {
	c := t.cells[at]
	if c == nil {
		c = t.newCell(at)
	}
	c.used = t.round
	return t.partnerships[at.Partnership], c
}

// click counts an accepted click. What a click does not say (no referrer, no sub id) is counted in TotalAll alone.
func (t *totals) click(c *schema.Click, verdict schema.Verdict, linkUnique bool, offset uint64) {
	at := cellOf(c.PartnershipId, c.OccurredMs)
	p, cl := t.enter(at)
	count := func(kind schema.TotalKind, value []byte, v schema.Verdict) {
		if tot := t.touch(at, p, cl, kind, value, offset); tot != nil {
			tot.clicks[v]++
		}
	}
	onLink := verdict
	if verdict.Valid() {
		onLink = schema.Verdict_VERDICT_REPEAT
		if linkUnique {
			onLink = schema.Verdict_VERDICT_UNIQUE
		}
	}
	number := func(n uint64) []byte {
		t.scratch = strconv.AppendUint(t.scratch[:0], n, 10)
		return t.scratch
	}
	count(schema.TotalAll, nil, verdict)
	count(schema.TotalLink, number(c.LinkId), onLink)
	for kind, n := range [...]int32{schema.TotalDevice: int32(c.Device), schema.TotalBrowser: int32(c.Browser), schema.TotalOS: int32(c.Os)} {
		if small(n) != 0 {
			count(schema.TotalKind(kind), number(uint64(n)), verdict)
		}
	}
	var subID []byte
	if len(c.SubIds) > 0 {
		subID = c.SubIds[0]
	}
	for kind, value := range [...][]byte{schema.TotalCountry: c.Country, schema.TotalReferrer: c.ReferrerHost, schema.TotalSubID: subID,
		schema.TotalUTMSource: c.UtmSource, schema.TotalUTMMedium: c.UtmMedium, schema.TotalUTMCampaign: c.UtmCampaign} {
		if len(value) > 0 {
			count(schema.TotalKind(kind), value, verdict)
		}
	}
}

// entry counts an accepted entry of the ledger.
func (t *totals) entry(l *schema.LedgerEntry, offset uint64) {
	at := cellOf(l.PartnershipId, l.OccurredMs)
	p, c := t.enter(at)
	kind := kindOf(l.Kind)
	if kind == schema.TotalReferred {
		if tot := t.touch(at, p, c, kind, nil, offset); tot != nil {
			tot.referred += l.Count
		}
		return
	}
	if tot := t.touch(at, p, c, kind, []byte(l.Currency), offset); tot != nil {
		tot.amount += l.Amount
	}
}

// emit appends the totals that have changed, as of the first v records.
func (t *totals) emit(rows []schema.TotalRow, log string, partition uint16, v uint64) []schema.TotalRow {
	rows = slices.Grow(rows, len(t.dirty))
	counts := make([]uint64, 0, len(t.dirty)*4)
	for _, d := range t.dirty {
		tot := d.total
		n := len(tot.clicks)
		for n > 0 && tot.clicks[n-1] == 0 {
			n--
		}
		from := len(counts)
		counts = append(counts, tot.clicks[:n]...)
		rows = append(rows, schema.TotalRow{
			PartnershipID: d.at.Partnership,
			Kind:          uint8(d.key.kind),
			Value:         d.owner.values[d.key.kind].name(d.key.value),
			Quarter:       time.Unix(int64(d.at.Quarter), 0).UTC(),
			Log:           log,
			Partition:     partition,
			V:             v,
			Clicks:        counts[from:len(counts):len(counts)],
			Referred:      tot.referred,
			Amount:        tot.amount,
		})
		tot.v, tot.dirty = v, false
		d.cell.dirty--
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	t.round++
	return rows
}

// trim forgets the cells that were not touched for longest, until the bound holds. What is dirty stays.
func (t *totals) trim() {
	if t.cached <= t.maxCached {
		return
	}
	type candidate struct {
		at Cell
		c  *cell
	}
	var all []candidate
	for at, c := range t.cells {
		if c.dirty == 0 {
			all = append(all, candidate{at, c})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.c.used, b.c.used), cmp.Compare(a.at.Quarter, b.at.Quarter))
	})
	for _, x := range all {
		if t.cached <= t.maxCached/4*3 {
			return
		}
		p := t.partnerships[x.at.Partnership]
		p.stored = max(p.stored, x.at.Quarter)
		delete(t.cells, x.at)
		t.cached -= len(x.c.totals)
		if p.cells--; p.cells == 0 {
			delete(t.partnerships, x.at.Partnership)
		}
	}
}
