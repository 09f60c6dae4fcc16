package scenario

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Target is what the requests need to know about the program that they click.
type Target struct {
	Host           string // of the links
	ConversionsKey string // bearer key of the program; empty: no conversions are sent
	Run            string // makes customer and idempotency keys of different runs differ
}

// Site is a scenario ready to be sent: everything that its workers share. It is immutable and safe for concurrent use.
type Site struct {
	scenario   *Scenario
	target     Target
	population *population
	gets       [][]byte // request line and Host by link
	heads      [][]byte
	conversion []byte // head of a conversions request, up to the length
	closing    string // Connection line of runs with one connection per request
}

// NewSite prepares a scenario for a target.
func NewSite(s *Scenario, t Target) *Site {
	site := &Site{scenario: s, target: t, population: newPopulation(s), closing: "\r\n"}
	if !*s.Load.KeepAlive || s.Visitors.Addresses == Proxy {
		site.closing = "Connection: close\r\n\r\n"
	}
	for link := range s.LinkCount() {
		rest := " /" + Slug(link) + " HTTP/1.1\r\nHost: " + t.Host + "\r\n"
		site.gets = append(site.gets, []byte("GET"+rest))
		site.heads = append(site.heads, []byte("HEAD"+rest))
	}
	site.conversion = []byte("POST /v1/conversions HTTP/1.1\r\nHost: " + t.Host + "\r\nAuthorization: Bearer " + t.ConversionsKey +
		"\r\nContent-Type: application/json\r\nContent-Length: ")
	return site
}

// Sent is one request as a source remembers it between Next and Done.
type Sent struct {
	Number uint64 // of the worker's clicks, from 0; or of its conversions
	Data   uint64 // the source's own
	Status int    // the expected status
	Head   bool
}

// First reports whether this is the first click of a person.
func (s Sent) First() bool { return s.Data&newBit != 0 }

// Answer is what came back.
type Answer struct {
	Answered bool // a whole answer arrived; otherwise nobody knows whether the click was counted
	Never    bool // the request was never sent
	Status   int
	Location []byte
	Cookie   []byte // value of the first Set-Cookie line
}

// The parts of Sent.Data of a click.
const (
	linkBits  = 20
	kindShift = 61
	newBit    = 1 << 60
	linkShift = 40
	localMask = 1<<linkShift - 1
)

// Source gives one worker's requests and keeps what came of them. It is not safe for concurrent use.
type Source struct {
	site    *Site
	drawer  *drawer
	drawn   uint64
	now     time.Duration
	cookies []cookie // of the visitors that may come back, by local number modulo the pool
	spoilt  []spoilt
	later   conversions
	pending map[uint64]*conversion // sent and not answered
	number  uint64
	sums    map[int32]*partnerSums
	scratch []byte
}

type cookie struct {
	owner uint64 // local number + 1
	value []byte // name=value
}

// spoilt is a click that did not end with the expected answer.
type spoilt struct {
	number uint64
	never  bool // certainly not counted
}

// maxSpoilt bounds the memory for clicks that went wrong. Beyond it there is no truth.
const maxSpoilt = 20_000_000

// NewSource returns the requests of one of several workers.
func NewSource(site *Site, worker, workers int) *Source {
	d := newDrawer(site.scenario, worker, workers)
	return &Source{site: site, drawer: d, cookies: make([]cookie, d.pool), pending: map[uint64]*conversion{}, sums: map[int32]*partnerSums{}}
}

// Now tells the time since the start of the run.
func (s *Source) Now(now time.Duration) { s.now = now }

// Next appends the next click's request to b.
func (s *Source) Next(b []byte) ([]byte, Sent) {
	c := s.drawer.next()
	sent := Sent{Number: s.drawn, Data: uint64(c.Kind)<<kindShift | c.local&localMask}
	if c.Link >= 0 {
		sent.Data |= uint64(c.Link) << linkShift
	}
	if c.New {
		sent.Data |= newBit
	}
	s.drawn++
	site, p := s.site, s.site.population
	t := p.visitor(c.Visitor)
	var held []byte
	if c.Kind == Person && t.cookies {
		if k := &s.cookies[c.local%uint64(len(s.cookies))]; k.owner == c.local+1 {
			held = k.value
		}
	}
	move := uint64(0)
	if t.roaming && len(held) > 0 { // without its cookie it would be somebody else
		move = 1 + c.dice>>44
	}
	b = site.proxyLine(b, t, move)
	sent.Status = 302
	switch c.Kind {
	case Unknown:
		b = append(b, "GET /"...)
		b = appendRandomSlug(b, c.dice)
		b = append(b, " HTTP/1.1\r\nHost: "...)
		b = append(b, site.target.Host...)
		b = append(b, "\r\n"...)
		sent.Status = 404
	case Head:
		b = append(b, site.heads[c.Link]...)
		sent.Head = true
	default:
		b = append(b, site.gets[c.Link]...)
	}
	if c.Kind == Bot {
		b = append(b, "User-Agent: "...)
		b = append(b, robots[c.dice>>33%uint64(len(robots))]...)
		b = append(b, "\r\nAccept: */*\r\n"...)
	} else {
		b = append(b, p.heads[t.agent]...)
		b = append(b, p.languages[t.country]...)
	}
	if c.Kind == Prefetch {
		b = append(b, "Sec-Purpose: prefetch\r\n"...)
		sent.Status = 503
	}
	b = site.forwardedLine(b, t, move)
	if len(held) > 0 {
		b = append(b, "Cookie: "...)
		b = append(b, held...)
		b = append(b, "\r\n"...)
	}
	return append(b, site.closing...), sent
}

func (site *Site) proxyLine(b []byte, t traits, move uint64) []byte {
	if site.scenario.Visitors.Addresses != Proxy {
		return b
	}
	a := site.population.address(t, move)
	if a.Is4() {
		b = a.AppendTo(append(b, "PROXY TCP4 "...))
		return append(b, " 127.0.0.1 40000 443\r\n"...)
	}
	b = a.AppendTo(append(b, "PROXY TCP6 "...))
	return append(b, " ::1 40000 443\r\n"...)
}

func (site *Site) forwardedLine(b []byte, t traits, move uint64) []byte {
	if site.scenario.Visitors.Addresses != Forwarded {
		return b
	}
	b = append(b, "X-Forwarded-For: "...)
	b = site.population.address(t, move).AppendTo(b)
	return append(b, "\r\n"...)
}

func appendRandomSlug(b []byte, dice uint64) []byte {
	b = append(b, "scan-"...)
	return strconv.AppendUint(b, dice, 36)
}

// Done takes the answer to a click. Its slices are not kept.
func (s *Source) Done(sent Sent, a *Answer) {
	if !a.Answered || a.Status != sent.Status {
		if len(s.spoilt) < maxSpoilt {
			s.spoilt = append(s.spoilt, spoilt{sent.Number, a.Never})
		}
		return
	}
	if Kind(sent.Data>>kindShift) != Person {
		return
	}
	local := sent.Data & localMask
	if len(a.Cookie) > 0 {
		s.keepCookie(local, a.Cookie)
	}
	if sent.Data&newBit != 0 && s.site.scenario.Conversions.Signup > 0 && s.site.target.ConversionsKey != "" {
		s.maybeSignup(local, sent, a.Location)
	}
}

// keepCookie keeps what a visitor that keeps cookies would send back. The first one counts, it is for life.
func (s *Source) keepCookie(local uint64, value []byte) {
	k := &s.cookies[local%uint64(len(s.cookies))]
	if k.owner == local+1 || s.drawer.visitors-local > uint64(len(s.cookies)) ||
		!s.site.population.visitor(local*s.drawer.workers+s.drawer.worker).cookies {
		return
	}
	pair, _, _ := bytes.Cut(value, []byte(";"))
	k.owner, k.value = local+1, append(k.value[:0], bytes.TrimSpace(pair)...)
}

// conversion is a signup or sale that will be reported.
type conversion struct {
	at      time.Duration
	sale    bool
	visitor uint64
	partner int32
	dice    uint64
	amount  int64
	click   string
}

// conversions are those to come, the earliest first.
type conversions []*conversion

func (c conversions) Len() int           { return len(c) }
func (c conversions) Less(i, j int) bool { return c[i].at < c[j].at }
func (c conversions) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push implements heap.Interface.
func (c *conversions) Push(x any) { *c = append(*c, x.(*conversion)) }

// Pop implements heap.Interface.
func (c *conversions) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	return x
}

// maybeSignup lets a share of the new visitors sign up.
func (s *Source) maybeSignup(local uint64, sent Sent, location []byte) {
	visitor := local*s.drawer.workers + s.drawer.worker
	dice := mix64(s.site.population.seed ^ mix64(visitor) ^ 0x7369676e)
	k := s.site.scenario.Conversions
	if !chance(uint32(dice), k.Signup) {
		return
	}
	id := clickID(location)
	if id == "" {
		return
	}
	partner := int32(sent.Data>>linkShift&(1<<linkBits-1)) / int32(s.site.scenario.Links.PerPartner)
	heap.Push(&s.later, &conversion{at: s.now + delay(k.Delay, dice>>32), visitor: visitor, dice: mix64(dice), click: id, partner: partner})
}

// clickID returns the click id that a redirect carries.
func clickID(location []byte) string {
	for _, lead := range []string{"?wm_cid=", "&wm_cid="} {
		if i := bytes.Index(location, []byte(lead)); i >= 0 {
			id := location[i+len(lead):]
			if end := bytes.IndexAny(id, "&#"); end >= 0 {
				id = id[:end]
			}
			return string(id)
		}
	}
	return ""
}

func delay(d Delay, dice uint64) time.Duration {
	return time.Duration(d.Min) + time.Duration(float64(d.Max-d.Min)*float64(uint32(dice))/(1<<32))
}

// LaterAt returns when the next conversion is due.
func (s *Source) LaterAt() (time.Duration, bool) {
	if len(s.later) == 0 {
		return 0, false
	}
	return s.later[0].at, true
}

// NextLater appends the next conversion's request to b.
func (s *Source) NextLater(b []byte) ([]byte, Sent) {
	c := heap.Pop(&s.later).(*conversion)
	s.number++
	s.pending[s.number] = c
	s.scratch = s.body(s.scratch[:0], c)
	b = append(b, s.site.conversion...)
	b = strconv.AppendInt(b, int64(len(s.scratch)), 10)
	b = append(append(b, "\r\n"...), s.site.closing...)
	return append(b, s.scratch...), Sent{Number: s.number, Status: 202}
}

func (s *Source) body(b []byte, c *conversion) []byte {
	customer := fmt.Sprintf("%s-%d", s.site.target.Run, c.visitor)
	if !c.sale {
		return fmt.Appendf(b, `{"type":"signup","click_id":%q,"customer_key":%q,"idempotency_key":"%s-signup"}`, c.click, customer, customer)
	}
	return fmt.Appendf(b, `{"type":"sale","customer_key":%q,"amount":%d,"currency":%q,"idempotency_key":"%s-sale"}`,
		customer, c.amount, s.site.scenario.Conversions.Amount.Currency, customer)
}

// DoneLater takes the answer to a conversion.
func (s *Source) DoneLater(sent Sent, a *Answer) {
	c := s.pending[sent.Number]
	delete(s.pending, sent.Number)
	sums := s.sums[c.partner]
	if sums == nil {
		sums = &partnerSums{}
		s.sums[c.partner] = sums
	}
	if !a.Answered || a.Status != sent.Status {
		if !a.Never {
			sums.unsure++
		}
		return
	}
	if c.sale {
		sums.sold += c.amount
		return
	}
	sums.referred++
	k := s.site.scenario.Conversions
	if chance(uint32(c.dice), k.Sale) {
		next := *c
		next.sale, next.dice = true, mix64(c.dice)
		next.at = s.now + delay(k.Delay, c.dice>>32)
		next.amount = k.Amount.Min + int64(next.dice%uint64(k.Amount.Max-k.Amount.Min+1))
		heap.Push(&s.later, &next)
	}
}

// NewRun returns a short random name for a run, of digits and letters a to f.
func NewRun() string { return fmt.Sprintf("%012x", rand.Uint64()>>16) }
