package fold

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"waymark/schema"
	"waymark/tracker/dedupe"
)

// Config says what a [Partition] folds.
type Config struct {
	Log       schema.Log
	Partition uint16
	// Visitors judges the clicks, in the lane numbered as the partition. The lane must hold nothing of records from the
	// progress on, except through Restore. It is not needed for a log other than clicks.
	Visitors *dedupe.Set
	// CachedTotals bounds how many unchanged totals stay in memory. 0: 100,000.
	CachedTotals int

	maxValues int
}

// Partition is the state of the fold after the first Next() records of one partition. It is for one goroutine.
type Partition struct {
	cfg     Config
	log     string
	next    uint64
	staged  []event
	end     uint64
	streams *streams
	totals  *totals
	kept    map[uint64]Kept
}

// Kept is a verdict that the table of clicks holds for a record beyond progress. It is kept as it stands.
type Kept struct {
	Verdict     schema.Verdict
	LinkUnique  bool
	FoldVersion uint16
}

// New returns the state that a row of progress describes; nil is the start of the log. It returns an error for a row that
// a newer version wrote, or that is damaged.
func New(cfg Config, progress *schema.ProgressRow) (*Partition, error) {
	if cfg.CachedTotals == 0 {
		cfg.CachedTotals = 100_000
	}
	if cfg.maxValues == 0 {
		cfg.maxValues = MaxValues
	}
	p := &Partition{cfg: cfg, log: cfg.Log.String(), streams: newStreams(), totals: newTotals(cfg.maxValues, cfg.CachedTotals), kept: map[uint64]Kept{}}
	if progress == nil {
		return p, nil
	}
	if progress.FoldVersion > Version {
		return nil, fmt.Errorf("cannot fold %s/%d on: its progress was written by fold version %d and this program has %d; use a newer waymark", p.log, cfg.Partition, progress.FoldVersion, Version)
	}
	s, ok := readStreams(progress)
	if !ok {
		return nil, fmt.Errorf("cannot fold %s/%d on: its progress at %d is damaged", p.log, cfg.Partition, progress.V)
	}
	p.streams, p.next = s, progress.V
	return p, nil
}

// Next returns the offset that comes next: how many records the state holds.
func (p *Partition) Next() uint64 { return p.next }

// Missing returns how many numbers are missing in open gaps.
func (p *Partition) Missing() uint64 { return p.streams.openGaps() }

// Restore hands in rows of visitors that are newer than the lane. It must come before Keep's verdicts are read, because a
// visitor that is ahead of progress is right only beside the verdicts that were stored before it.
func (p *Partition) Restore(rows []schema.VisitorRow) error {
	for i := range rows {
		r := &rows[i]
		if len(r.Visitor) != 16 {
			return fmt.Errorf("cannot restore a visitor of %d bytes, want 16", len(r.Visitor))
		}
		p.mark(r.PartnershipID, []byte(r.Visitor), r.LinkID, r.CountedAt.UnixMilli(), r.WindowMillis, r.Position)
	}
	return nil
}

func (p *Partition) mark(partnership uint64, visitor []byte, link uint64, millis, window int64, offset uint64) {
	id := [16]byte(visitor)
	p.cfg.Visitors.Put(p.cfg.Partition, dedupe.MakeKey(partnership, &id), link, millis, window, Position(offset))
}

// Position is how the visitor set names the record at an offset: as the number of records up to it.
func Position(offset uint64) schema.Position { return schema.Position(offset) + 1 }

// Keep hands in the verdict that the table of clicks holds for the record at an offset.
func (p *Partition) Keep(offset uint64, k Kept) {
	if offset >= p.next {
		p.kept[offset] = k
	}
}

// Stage decodes the records that come next, in order; records before Next are left out, because Kafka answers in whole
// batches. What the last Emit gave must have been written before. Stage must be followed by Apply, and before that by
// LoadValues if MissingValues names partnerships, and then by LoadCells if MissingCells names cells.
func (p *Partition) Stage(records []Record) error {
	if len(p.staged) > 0 {
		panic("BUG: records are staged on records that were not applied")
	}
	p.totals.trim()
	p.end = p.next
	for _, r := range records {
		if r.Offset < p.end {
			if r.Offset >= p.next {
				p.staged = p.staged[:0]
				return fmt.Errorf("cannot fold %s/%d: offset %d comes after %d", p.log, p.cfg.Partition, r.Offset, p.end-1)
			}
			continue
		}
		p.end = r.Offset + 1
		p.staged = append(p.staged, decode(p.cfg.Log.Topic, r))
	}
	return nil
}

func (e *event) cell() (at Cell, ok bool) {
	switch {
	case e.click != nil:
		return cellOf(e.click.PartnershipId, e.click.OccurredMs), true
	case e.entry != nil:
		return cellOf(e.entry.PartnershipId, e.entry.OccurredMs), true
	}
	return Cell{}, false
}

// MissingValues returns the partnerships of staged records whose values must be read back, sorted.
func (p *Partition) MissingValues() []uint64 {
	var ids []uint64
	for i := range p.staged {
		if at, ok := p.staged[i].cell(); ok && p.totals.partnerships[at.Partnership] == nil {
			ids = append(ids, at.Partnership)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// LoadValues hands in every value that the table of totals holds for the partnerships asked for: rows of partnership, kind,
// value and, as Quarter, the newest one of the value.
func (p *Partition) LoadValues(asked []uint64, newest []schema.TotalRow) error {
	return p.totals.loadValues(asked, newest)
}

// MissingCells returns the cells of staged records whose totals must be read back, sorted.
func (p *Partition) MissingCells() []Cell {
	var cells []Cell
	for i := range p.staged {
		if at, ok := p.staged[i].cell(); ok && p.totals.missing(at) {
			cells = append(cells, at)
		}
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Partnership, b.Partnership), cmp.Compare(a.Quarter, b.Quarter))
	})
	return slices.Compact(cells)
}

// LoadCells hands in the newest row of every key of the cells asked for.
func (p *Partition) LoadCells(asked []Cell, rows []schema.TotalRow) error {
	return p.totals.loadCells(asked, rows)
}

// Apply folds the staged records and appends the rows of clicks and visitors to the batch.
func (p *Partition) Apply(b *Batch) {
	for i := range p.staged {
		p.apply(&p.staged[i], b)
	}
	clear(p.staged)
	p.staged = p.staged[:0]
	p.next = p.end
}

// Emit appends the totals that have changed and the progress to the batch, as of the records applied so far.
func (p *Partition) Emit(b *Batch) {
	b.Totals = p.totals.emit(b.Totals, p.log, p.cfg.Partition, p.next)
	row := schema.ProgressRow{Log: p.log, Partition: p.cfg.Partition, V: p.next, FoldVersion: Version}
	p.streams.appendTo(&row)
	b.Progress = append(b.Progress, row)
}

func (p *Partition) apply(e *event, b *Batch) {
	b.Stats.Records++
	k := edgeEpoch{e.header.Edge, e.header.Epoch}
	if e.numbered {
		fresh, gap := p.streams.accept(k, e.header.Number)
		if !fresh {
			b.Stats.Duplicates++
			return
		}
		if gap {
			p.notice(b, e, NoticeGap, fmt.Sprintf("number %d came before what lies below it", e.header.Number))
		}
	}
	switch {
	case e.reason != "":
		p.bury(e, b)
	case e.tick != nil:
		p.streams.tick(k, e.header.Number, e.tick.TimeMs)
	case e.open != nil:
		p.opened(e, b)
	case e.hole != nil:
		p.streams.change(edgeEpoch{k.edge, schema.Epoch(e.hole.Epoch)}, func(w *watermark) { w.lose(span{e.hole.First, e.hole.Last}) })
		p.notice(b, e, NoticeHole, fmt.Sprintf("numbers %d to %d of epoch %016x are declared lost", e.hole.First, e.hole.Last, e.hole.Epoch))
	case e.end:
		delete(p.streams.ticks, k.edge)
	case e.click != nil:
		p.click(e, b)
	case e.entry != nil:
		b.Stats.Entries++
		p.totals.entry(e.entry, e.rec.Offset)
	}
}

func (p *Partition) bury(e *event, b *Batch) {
	rec := e.rec
	rec.Header, rec.Key, rec.Value = slices.Clone(rec.Header), slices.Clone(rec.Key), slices.Clone(rec.Value)
	b.DeadLetters = append(b.DeadLetters, DeadLetter{Log: p.log, Partition: p.cfg.Partition, Record: rec, Reason: e.reason, Detail: e.detail.Error()})
}

// opened compares what an epoch says of the one before it with what has been seen of that.
func (p *Partition) opened(e *event, b *Batch) {
	previous := edgeEpoch{e.header.Edge, schema.Epoch(e.open.PreviousEpoch)}
	if previous.epoch == 0 {
		for k := range p.streams.marks {
			if k.edge == previous.edge && k.epoch != e.header.Epoch {
				p.notice(b, e, NoticeFork, "the epoch says it is the edge's first, but the edge has been seen before")
				return
			}
		}
		return
	}
	last := e.open.PreviousLast
	if w := p.streams.marks[previous]; w != nil && w.last > last {
		p.notice(b, e, NoticeFork, fmt.Sprintf("the epoch says that epoch %016x ended at %d, but %d has been seen: the edge's disk was rolled back or copied", uint64(previous.epoch), last, w.last))
		return
	}
	if last == 0 {
		return
	}
	p.streams.change(previous, func(w *watermark) {
		if from := w.last + 1; w.expect(last) {
			p.notice(b, e, NoticeGap, fmt.Sprintf("numbers %d to %d of epoch %016x have not come", from, last, uint64(previous.epoch)))
		}
	})
}

func (p *Partition) notice(b *Batch, e *event, kind NoticeKind, text string) {
	b.Notices = append(b.Notices, Notice{Log: p.log, Partition: p.cfg.Partition, Offset: e.rec.Offset, Edge: e.header.Edge, Epoch: e.header.Epoch, Kind: kind, Text: text})
}

func (p *Partition) click(e *event, b *Batch) {
	c, offset := e.click, e.rec.Offset
	j := p.judge(c, offset)
	if c.EdgeVerdict != j.Verdict || j.Verdict.Valid() && c.EdgeLinkUnique != j.LinkUnique {
		b.Stats.Differences++
	}
	b.Stats.Clicks[j.Verdict]++
	b.Clicks = append(b.Clicks, p.clickRow(e, j))
	for _, scope := range [...]struct {
		counted bool
		link    uint64
	}{{j.Verdict == schema.Verdict_VERDICT_UNIQUE, 0}, {j.LinkUnique, c.LinkId}} {
		if scope.counted {
			b.Visitors = append(b.Visitors, schema.VisitorRow{
				Log: p.log, Partition: p.cfg.Partition, PartnershipID: c.PartnershipId, Visitor: string(c.Visitor), LinkID: scope.link,
				CountedAt: time.UnixMilli(c.OccurredMs).UTC(), Position: offset, WindowMillis: c.WindowMs,
			})
		}
	}
	p.totals.click(c, j.Verdict, j.LinkUnique, offset)
}

// judge returns the final verdict of an accepted click and leaves the visitor's marks.
func (p *Partition) judge(c *schema.Click, offset uint64) Kept {
	if k, ok := p.kept[offset]; ok {
		delete(p.kept, offset)
		if k.Verdict == schema.Verdict_VERDICT_UNIQUE {
			p.mark(c.PartnershipId, c.Visitor, 0, c.OccurredMs, c.WindowMs, offset)
		}
		if k.LinkUnique {
			p.mark(c.PartnershipId, c.Visitor, c.LinkId, c.OccurredMs, c.WindowMs, offset)
		}
		return k
	}
	j := Kept{Verdict: c.EdgeVerdict, FoldVersion: Version}
	if !c.EdgeVerdict.Valid() {
		return j
	}
	visitor := [16]byte(c.Visitor)
	txn := p.cfg.Visitors.Begin(&dedupe.Claim{
		Lane: p.cfg.Partition, Key: dedupe.MakeKey(c.PartnershipId, &visitor), Link: c.LinkId,
		TimeMillis: c.OccurredMs, WindowMillis: c.WindowMs, Position: Position(offset),
	})
	d := txn.Decision()
	txn.Commit(Position(offset))
	j.Verdict, j.LinkUnique = schema.Verdict_VERDICT_REPEAT, d.LinkUnique
	if d.Unique {
		j.Verdict = schema.Verdict_VERDICT_UNIQUE
	}
	return j
}

// noClickID stands in the table for a click that has none.
var noClickID = strings.Repeat("\x00", schema.ClickIDSize)

func (p *Partition) clickRow(e *event, j Kept) schema.ClickRow {
	c := e.click
	r := schema.ClickRow{
		Log: p.log, Partition: p.cfg.Partition, Offset: e.rec.Offset,
		Edge: uint64(e.header.Edge), Epoch: uint64(e.header.Epoch), Number: e.header.Number,
		OccurredAt: time.UnixMilli(c.OccurredMs).UTC(), ReceivedAt: time.UnixMilli(c.ReceivedMs).UTC(),
		ProgramID: c.ProgramId, PartnerID: c.PartnerId, PartnershipID: c.PartnershipId, LinkID: c.LinkId,
		ClickID: noClickID, Visitor: string(c.Visitor), Identity: small(int32(c.Identity)), WindowMillis: c.WindowMs,
		EdgeVerdict: uint8(c.EdgeVerdict), EdgeLinkUnique: c.EdgeLinkUnique, Verdict: uint8(j.Verdict), LinkUnique: j.LinkUnique,
		Signals: c.Signals, Country: string(c.Country), Region: string(c.Region), City: string(c.City),
		Device: small(int32(c.Device)), Browser: small(int32(c.Browser)), OS: small(int32(c.Os)),
		ReferrerHost: string(c.ReferrerHost), SubIDs: make([]string, len(c.SubIds)),
		UTMSource: string(c.UtmSource), UTMMedium: string(c.UtmMedium), UTMCampaign: string(c.UtmCampaign),
		UTMTerm: string(c.UtmTerm), UTMContent: string(c.UtmContent),
		Trigger: small(int32(c.Trigger)), UserAgent: string(c.UserAgent), FoldVersion: j.FoldVersion,
	}
	if len(c.ClickId) > 0 {
		r.ClickID = string(c.ClickId)
	}
	for i, s := range c.SubIds {
		r.SubIDs[i] = string(s)
	}
	return r
}

// small is how the tables hold an enumeration: what does not fit is unknown.
func small(n int32) uint8 {
	if n < 0 || n > 255 {
		return 0
	}
	return uint8(n)
}
