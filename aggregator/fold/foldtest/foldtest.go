// Package foldtest makes logs for tests of the fold and of what drives it: two or more edges with epochs, duplicates from a
// producer, gaps, late numbers, and visitors by cookie and by hash, all from one seed.
package foldtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// Config says what a log is made of.
type Config struct {
	// Edges is how many edges write; each writes up to Clicks clicks, in one or two epochs.
	Edges, Clicks int
	// Visitors, Partnerships, Values bound how many different ones there are.
	Visitors, Partnerships, Values int
	// Step is the most that time moves on between two records, Window the window of visitors by hash; in milliseconds.
	Step, Window int64
	// Faults switches gaps, duplicates, late numbers, holes and poison on.
	Faults bool
	// Start is the time of the first record in milliseconds.
	Start int64
}

// Small is a log in which every rule meets every other within a few dozen records.
var Small = Config{Edges: 2, Clicks: 25, Visitors: 4, Partnerships: 2, Values: 6, Step: 90_000, Window: 8 * 60_000, Faults: true, Start: 1_700_000_000_000}

type item struct {
	header schema.Header
	value  []byte
	key    []byte
	bare   bool // no header at all
}

// Log returns the records of a log of clicks, at offsets from 0.
func Log(r *rand.Rand, c Config) []fold.Record {
	clock := c.Start
	streams := make([][]func() item, 0, c.Edges)
	for e := range c.Edges {
		streams = append(streams, edge(r, c, schema.EdgeID(e+1), &clock))
	}
	var log []fold.Record
	add := func(i item) {
		rec := fold.Record{Offset: uint64(len(log)), Key: i.key, Value: i.value}
		if !i.bare {
			rec.Header = i.header.Append(nil)
		}
		log = append(log, rec)
	}
	for {
		streams = slices.DeleteFunc(streams, func(s []func() item) bool { return len(s) == 0 })
		if len(streams) == 0 {
			return log
		}
		i := r.IntN(len(streams))
		clock += r.Int64N(c.Step + 1)
		add(streams[i][0]())
		streams[i] = streams[i][1:]
		if !c.Faults {
			continue
		}
		if r.IntN(10) == 0 {
			again := log[max(0, len(log)-1-r.IntN(5))]
			again.Offset = uint64(len(log))
			log = append(log, again)
		}
		if r.IntN(60) == 0 {
			add(item{bare: r.IntN(2) == 0, header: schema.Header{Version: 9, Type: 77, Edge: 99, Epoch: 1, Number: 1 + r.Uint64N(3)}, value: []byte("poison")})
		}
	}
}

func edge(r *rand.Rand, c Config, id schema.EdgeID, clock *int64) []func() item {
	var out []func() item
	var previous, previousLast uint64
	for epoch := range 1 + r.IntN(2) {
		name := schema.Epoch(uint64(id)*100 + uint64(epoch) + 1)
		n := uint64(1)
		head := func(t schema.RecordType, n uint64) schema.Header {
			return schema.Header{Version: schema.Version, Type: t, Edge: id, Epoch: name, Number: n}
		}
		prev, prevLast := previous, previousLast
		out = append(out, func() item {
			return item{header: head(schema.RecordOpen, 1), value: marshal(&schema.Open{PreviousEpoch: prev, PreviousLast: prevLast, OpenedMs: *clock})}
		})
		from := len(out)
		for range 1 + r.IntN(c.Clicks) {
			n++
			if c.Faults && r.IntN(20) == 0 {
				n += 1 + r.Uint64N(2)
			}
			number := n
			out = append(out, func() item { return click(r, c, head(schema.RecordClick, number), *clock) })
			if r.IntN(6) == 0 {
				out = append(out, func() item {
					return item{header: head(schema.RecordTick, number), value: marshal(&schema.Tick{TimeMs: *clock})}
				})
			}
		}
		if c.Faults && r.IntN(3) == 0 && len(out)-from > 3 {
			i := from + r.IntN(len(out)-from-2)
			late := out[i]
			out = slices.Insert(slices.Delete(out, i, i+1), i+r.IntN(len(out)-1-i), late)
		}
		if c.Faults && r.IntN(4) == 0 {
			n++
			number, lost := n, 1+r.Uint64N(n)
			out = append(out, func() item {
				return item{header: head(schema.RecordHole, number), value: marshal(&schema.Hole{Epoch: uint64(name), First: lost, Last: lost})}
			})
		}
		previous, previousLast = uint64(name), n
	}
	return out
}

func click(r *rand.Rand, c Config, h schema.Header, now int64) item {
	occurred := max(0, now-[]int64{0, 0, 0, 5 * c.Step, 30 * c.Step}[r.IntN(5)])
	if !c.Faults {
		occurred = now
	}
	var visitor [16]byte
	v := r.IntN(c.Visitors)
	binary.BigEndian.PutUint64(visitor[8:], uint64(v))
	partnership := 1 + r.Uint64N(uint64(c.Partnerships))
	m := &schema.Click{
		ProgramId: 1, PartnerId: partnership, PartnershipId: partnership, LinkId: partnership*10 + r.Uint64N(3),
		OccurredMs: occurred, ReceivedMs: now, ClickId: make([]byte, schema.ClickIDSize), Visitor: visitor[:],
		Identity: schema.Identity_IDENTITY_COOKIE, EdgeVerdict: schema.Verdict_VERDICT_UNIQUE, EdgeLinkUnique: r.IntN(2) == 0,
		Device: schema.DeviceClass(r.IntN(4)), Browser: schema.Browser(r.IntN(4)), Os: schema.OperatingSystem(r.IntN(4)),
		UserAgent: []byte("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
	}
	binary.BigEndian.PutUint64(m.ClickId[7:], h.Number)
	if v%2 == 0 {
		m.Identity, m.WindowMs = schema.Identity_IDENTITY_HASH, c.Window
	}
	if r.IntN(8) == 0 {
		m.EdgeVerdict, m.EdgeLinkUnique = schema.Verdict_VERDICT_BOT, false
	}
	if r.IntN(3) > 0 {
		m.SubIds = [][]byte{[]byte("sub-" + strconv.Itoa(r.IntN(c.Values)))}
	}
	if r.IntN(3) == 0 {
		m.ReferrerHost = fmt.Appendf(nil, "site-%d.example", r.IntN(c.Values))
	}
	return item{header: h, value: marshal(m), key: visitor[:]}
}

func marshal(m interface{ MarshalVT() ([]byte, error) }) []byte {
	b, err := m.MarshalVT()
	if err != nil {
		panic("BUG: cannot encode a message: " + err.Error())
	}
	return b
}
