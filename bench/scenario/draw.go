package scenario

import "math/rand/v2"

// Kind is what a request is.
type Kind uint8

// The kinds of requests.
const (
	Person   Kind = iota // GET by a browser: unique or repeat
	Bot                  // GET by a declared robot: invalid:bot
	Head                 // HEAD: invalid:head
	Prefetch             // refused with 503, no click
	Unknown              // 404, no click
	kinds
)

var kindNames = [kinds]string{"people", "bots", "head", "prefetch", "unknown"}

func (k Kind) String() string { return kindNames[k] }

// Requests that are no people's clicks come from numbers that no person gets, of this many addresses each.
const nobody = 1 << 40

var sources = [kinds]uint64{Bot: 4096, Head: 1 << 20, Prefetch: 1 << 20, Unknown: 64}

// Click is one drawn request.
type Click struct {
	Kind    Kind
	Link    int32  // of the scenario's links; -1 when the kind is Unknown
	Visitor uint64 // number of the visitor, unique over all workers
	New     bool   // the visitor was not there before
	local   uint64 // number of the visitor within its worker
	dice    uint64 // random bits for what follows from the click
}

// drawer draws the requests of one worker. The n-th one depends on the scenario, the seed, the worker and the number of
// workers, and on nothing else. It is not safe for concurrent use.
type drawer struct {
	random   *rand.PCG
	kinds    *alias
	links    *alias
	order    []int32 // link by popularity, so that the popular ones are spread over the partners
	hot      float64
	repeat   float64
	pool     uint64
	worker   uint64
	workers  uint64
	visitors uint64 // so far, of this worker
}

func newDrawer(s *Scenario, worker, workers int) *drawer {
	n := s.LinkCount()
	d := &drawer{
		random: rand.NewPCG(s.Seed, uint64(worker)<<32|uint64(workers)),
		kinds:  newAlias([]float64{s.Mix.People, s.Mix.Bots, s.Mix.Head, s.Mix.Prefetch, s.Mix.Unknown}),
		links:  newAlias(zipf(n, s.Links.Zipf)),
		order:  make([]int32, n),
		hot:    s.Links.Hot, repeat: s.Visitors.Repeat,
		pool: max(1, uint64(s.Visitors.Pool)/uint64(workers)), worker: uint64(worker), workers: uint64(workers),
	}
	for i, link := range rand.New(rand.NewPCG(s.Seed, 0x6c696e6b)).Perm(n) {
		d.order[i] = int32(link)
	}
	return d
}

// next draws the next request.
func (d *drawer) next() Click {
	c := Click{Kind: Kind(d.kinds.draw(d.random.Uint64())), dice: d.random.Uint64()}
	where := d.random.Uint64()
	switch {
	case c.Kind == Unknown:
		c.Link = -1
	case chance(uint32(c.dice), d.hot):
		c.Link = d.order[0]
	default:
		c.Link = d.order[d.links.draw(where)]
	}
	who := d.random.Uint64()
	if c.Kind == Person && (d.visitors == 0 || !chance(uint32(who), d.repeat)) {
		c.local, c.New = d.visitors, true
		d.visitors++
	} else if c.Kind == Person {
		c.local = d.returning(who >> 32)
	} else {
		c.local = nobody | who%sources[c.Kind]
	}
	c.Visitor = c.local*d.workers + d.worker
	return c
}

// returning returns one of the latest visitors of the pool. Those who came last are the most likely.
func (d *drawer) returning(r uint64) uint64 {
	n := min(d.visitors, d.pool)
	// The square of an even draw: half of those who come back are among the last quarter.
	back := r * r >> 32 * n >> 32
	return d.visitors - 1 - back
}
