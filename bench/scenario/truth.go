package scenario

import (
	"cmp"
	"slices"
)

// Truth is what a run's clicks and conversions must have been counted as. Where requests went unanswered nobody but
// the target knows whether they were counted: then a number lies between the one given and that plus its Unsure.
type Truth struct {
	Clicks   Counts    `json:"clicks"`
	Partners []Partner `json:"partners"`
	Unsure   int64     `json:"unsure"`   // clicks that may or may not have been counted
	Complete bool      `json:"complete"` // false: too much went wrong to remember all of it
}

// Counts are the clicks of a partnership or link.
type Counts struct {
	Gross        int64            `json:"gross"`
	Unique       int64            `json:"unique"`
	Repeat       int64            `json:"repeat"`
	Invalid      map[string]int64 `json:"invalid"`
	UnsureGross  int64            `json:"unsure_gross,omitempty"`  // at most so many more in gross
	UnsureUnique int64            `json:"unsure_unique,omitempty"` // at most so many more in unique
}

// Partner is the truth about one partnership.
type Partner struct {
	Key               string `json:"key"`
	Counts            `json:"clicks"`
	Links             []Link `json:"links"`
	Referred          int64  `json:"referred"`
	Sold              int64  `json:"sold"` // minor units
	UnsureConversions int64  `json:"unsure_conversions,omitempty"`
}

// Link is the truth about one link. Its unique count is that of the link's own scope.
type Link struct {
	Slug   string `json:"slug"`
	Counts `json:"clicks"`
}

// partnerSums are a partnership's conversions.
type partnerSums struct{ referred, sold, unsure int64 }

// tally counts what became known about one partnership or link.
type tally struct {
	gross, valid, unique       int64
	bots, heads                int64
	unsureGross, unsureVisitor int64
}

func (t *tally) counts() Counts {
	c := Counts{Gross: t.gross, Unique: t.unique, Repeat: t.valid - t.unique, Invalid: map[string]int64{}, UnsureGross: t.unsureGross, UnsureUnique: t.unsureVisitor}
	if t.bots > 0 {
		c.Invalid["bot"] = t.bots
	}
	if t.heads > 0 {
		c.Invalid["head"] = t.heads
	}
	return c
}

// seen is a visitor's clicks that are still open to more.
type seen struct {
	owner uint64 // local number + 1
	where []place
}

type place struct {
	at      int32 // link, or partner with partnerBit
	certain bool  // at least one click here was certainly counted
}

const partnerBit = 1 << 30

// Truth draws the same clicks again and counts them, without those that were not answered. The sources are those of
// all workers of one run, which must have ended.
func (site *Site) Truth(sources []*Source) *Truth {
	s := site.scenario
	t := &Truth{Complete: true}
	links, partners := make([]tally, s.LinkCount()), make([]tally, s.Links.Partners)
	sums := make([]partnerSums, s.Links.Partners)
	for _, src := range sources {
		if len(src.spoilt) >= maxSpoilt {
			t.Complete = false
		}
		t.Unsure += src.count(s, links, partners)
		for partner, p := range src.sums {
			sums[partner].referred += p.referred
			sums[partner].sold += p.sold
			sums[partner].unsure += p.unsure
		}
		for _, c := range src.pending {
			sums[c.partner].unsure++
		}
	}
	all := tally{}
	for i, p := range partners {
		truth := Partner{Key: PartnerKey(i), Counts: p.counts(), Referred: sums[i].referred, Sold: sums[i].sold, UnsureConversions: sums[i].unsure}
		for l := i * s.Links.PerPartner; l < (i+1)*s.Links.PerPartner; l++ {
			truth.Links = append(truth.Links, Link{Slug(l), links[l].counts()})
		}
		t.Partners = append(t.Partners, truth)
		all.gross, all.valid, all.unique = all.gross+p.gross, all.valid+p.valid, all.unique+p.unique
		all.bots, all.heads = all.bots+p.bots, all.heads+p.heads
		all.unsureGross, all.unsureVisitor = all.unsureGross+p.unsureGross, all.unsureVisitor+p.unsureVisitor
	}
	t.Clicks = all.counts()
	return t
}

// count draws the worker's clicks again. It returns how many of them are unsure.
func (s *Source) count(scenario *Scenario, links, partners []tally) (unsure int64) {
	slices.SortFunc(s.spoilt, func(a, b spoilt) int { return cmp.Compare(a.number, b.number) })
	wrong := s.spoilt
	d := newDrawer(scenario, int(s.drawer.worker), int(s.drawer.workers))
	visitors := make([]seen, d.pool)
	for n := range s.drawn {
		c := d.next()
		if c.Kind == Prefetch || c.Kind == Unknown {
			for len(wrong) > 0 && wrong[0].number == n {
				wrong = wrong[1:]
			}
			continue
		}
		link, partner := &links[c.Link], &partners[c.Link/int32(scenario.Links.PerPartner)]
		certain := true
		if len(wrong) > 0 && wrong[0].number == n {
			never := wrong[0].never
			if wrong = wrong[1:]; never {
				continue
			}
			certain = false
			unsure++
		}
		for _, t := range []*tally{link, partner} {
			t.click(c.Kind, certain)
		}
		if c.Kind != Person {
			continue
		}
		v := &visitors[c.local%d.pool]
		if v.owner != c.local+1 {
			v.settle(links, partners)
			v.owner = c.local + 1
		}
		v.note(c.Link, certain)
		v.note(c.Link/int32(scenario.Links.PerPartner)|partnerBit, certain)
	}
	for i := range visitors {
		visitors[i].settle(links, partners)
	}
	return unsure
}

func (t *tally) click(kind Kind, certain bool) {
	if !certain {
		t.unsureGross++
		return
	}
	t.gross++
	switch kind {
	case Person:
		t.valid++
	case Bot:
		t.bots++
	case Head:
		t.heads++
	}
}

func (v *seen) note(at int32, certain bool) {
	for i := range v.where {
		if v.where[i].at == at {
			v.where[i].certain = v.where[i].certain || certain
			return
		}
	}
	v.where = append(v.where, place{at, certain})
}

// settle counts the visitor once everywhere it was. It will not come back.
func (v *seen) settle(links, partners []tally) {
	for _, p := range v.where {
		t := partners
		if p.at&partnerBit == 0 {
			t = links
		}
		if p.certain {
			t[p.at&^partnerBit].unique++
		} else {
			t[p.at&^partnerBit].unsureVisitor++
		}
	}
	v.where = v.where[:0]
}
