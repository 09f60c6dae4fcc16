package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of the histograms in nanoseconds; what lies outside counts at the border. Three digits are kept, so that
// a value is at most 0.1 % off.
const (
	histogramLow    = 64
	histogramHigh   = int64(10 * time.Minute)
	histogramDigits = 3
)

// NewHistogram returns an empty histogram of nanoseconds, of the kind that an interval holds.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(histogramLow, histogramHigh, histogramDigits)
}

// Interval is what happened between two moments of a run, over all workers. Answers count where they arrived.
type Interval struct {
	Index      int
	Start, End time.Duration // since the start of the run
	Counts
	// Latencies of clicks in nanoseconds, since the scheduled and since the real send. In a closed loop they are the
	// same. A request that timed out, or whose connection broke, counts with the time until then.
	Corrected, Service *hdrhistogram.Histogram
	// SendDelay is how far behind their schedule the clicks were sent, in nanoseconds.
	SendDelay *hdrhistogram.Histogram
	// Later is the latency of the later requests since their due time, in nanoseconds.
	Later *hdrhistogram.Histogram
}

// Counts are an interval's sums.
type Counts struct {
	Sent       int64 // clicks written to a connection
	Late       int64 // clicks sent more than Config.Late behind their schedule
	LateBusy   int64 // those of Late for which no connection was free: the server held them all
	Unexpected int64 // answers with another status than the request expected
	LaterSent  int64
	Connects   int64
	BytesIn    int64
	BytesOut   int64
	Outcomes   [outcomes]int64 // of clicks
	LaterEnd   [outcomes]int64 // of later requests
	Statuses   [600]uint32     // answers by status, clicks and later ones
}

func (c *Counts) add(o *Counts) {
	c.Sent += o.Sent
	c.Late += o.Late
	c.LateBusy += o.LateBusy
	c.Unexpected += o.Unexpected
	c.LaterSent += o.LaterSent
	c.Connects += o.Connects
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	for i := range c.Outcomes {
		c.Outcomes[i] += o.Outcomes[i]
		c.LaterEnd[i] += o.LaterEnd[i]
	}
	for i, n := range o.Statuses {
		c.Statuses[i] += n
	}
}

// NewInterval returns an empty interval.
func NewInterval() *Interval {
	return &Interval{Corrected: NewHistogram(), Service: NewHistogram(), SendDelay: NewHistogram(), Later: NewHistogram()}
}

// Merge adds what another interval holds.
func (v *Interval) Merge(o *Interval) {
	v.add(&o.Counts)
	v.Corrected.Merge(o.Corrected)
	v.Service.Merge(o.Service)
	v.SendDelay.Merge(o.SendDelay)
	v.Later.Merge(o.Later)
}

func (v *Interval) reset() {
	v.Counts = Counts{}
	for _, h := range []*hdrhistogram.Histogram{v.Corrected, v.Service, v.SendDelay, v.Later} {
		if h.TotalCount() > 0 {
			h.Reset()
		}
	}
}

// record is one worker's side of the recording. It is not safe for concurrent use.
type record struct {
	*Interval
	collect *collector
	until   int64 // nanoseconds since the start at which the interval ends
	late    int64
	open    bool
}

func newRecord(c *Config, collect *collector) *record {
	v := NewInterval()
	v.End = c.Interval
	return &record{Interval: v, collect: collect, until: int64(c.Interval), late: int64(c.Late), open: c.Schedule != nil}
}

// turn hands the interval over when its time has passed.
func (r *record) turn(now int64) {
	for now >= r.until {
		r.hand()
	}
}

func (r *record) hand() {
	index, start := r.Index+1, r.End
	r.collect.full <- r.Interval // the collector's from now on
	r.Interval = r.collect.empty()
	r.Index, r.Start = index, start
	r.End = r.Start + r.collect.interval
	r.until = int64(r.End)
}

// last hands over what is left: an interval that ends now.
func (r *record) last(now int64) {
	r.End = min(r.End, max(r.Start, time.Duration(now)))
	r.collect.full <- r.Interval
}

func (r *record) sent(q *Request, now int64, busy bool) {
	q.sent = now
	r.BytesOut += int64(len(q.Bytes))
	if q.class == Later {
		r.LaterSent++
		return
	}
	r.Sent++
	if !r.open {
		q.scheduled = now
		return
	}
	delay := now - q.scheduled
	observe(r.SendDelay, delay)
	if delay > r.late {
		r.Late++
		if busy {
			r.LateBusy++
		}
	}
}

func (r *record) done(q *Request, p *Response, now int64) {
	if p.Outcome == Answered {
		if uint(p.Status) < uint(len(r.Statuses)) {
			r.Statuses[p.Status]++
		}
		if p.Status != q.Status {
			r.Unexpected++
		}
	}
	if q.class == Later {
		r.LaterEnd[p.Outcome]++
		observe(r.Later, now-q.scheduled)
		return
	}
	r.Outcomes[p.Outcome]++
	if p.Outcome == Refused && !r.open {
		return
	}
	observe(r.Corrected, now-q.scheduled)
	if p.Outcome != Refused && p.Outcome != Unsent {
		observe(r.Service, now-q.sent)
	}
}

func observe(h *hdrhistogram.Histogram, v int64) {
	if h.RecordValue(min(max(v, 0), histogramHigh)) != nil {
		panic("BUG: a histogram refused a value within its range")
	}
}

// collector merges the workers' intervals in order.
type collector struct {
	config   *Config
	interval time.Duration
	full     chan *Interval
	free     chan *Interval
	open     map[int]*merging
	next     int
	under    int64         // clicks sent and not ended
	quiet    time.Duration // how long nothing was answered although something was sent
}

type merging struct {
	*Interval
	parts int
}

func newCollector(c *Config) *collector {
	return &collector{
		config: c, interval: c.Interval,
		full: make(chan *Interval, 4*c.Workers), free: make(chan *Interval, 4*c.Workers),
		open: map[int]*merging{},
	}
}

// empty returns a clean interval.
func (c *collector) empty() *Interval {
	select {
	case v := <-c.free:
		return v
	default:
		return NewInterval()
	}
}

// run takes intervals until the workers have ended. It cancels the run when an interval is refused or when nothing is
// answered for too long.
func (c *collector) run(cancel context.CancelCauseFunc) {
	for part := range c.full {
		m := c.open[part.Index]
		if m == nil {
			m = &merging{Interval: c.empty()}
			m.Index, m.Start, m.End = part.Index, part.Start, part.Start
			c.open[part.Index] = m
		}
		m.Merge(part)
		m.End = max(m.End, part.End)
		m.parts++
		part.reset()
		c.release(part)
		for m := c.open[c.next]; m != nil && m.parts == c.config.Workers; m = c.open[c.next] {
			c.emit(m.Interval, cancel)
		}
	}
	for m := c.open[c.next]; m != nil; m = c.open[c.next] { // workers end in different intervals
		c.emit(m.Interval, cancel)
	}
}

func (c *collector) emit(v *Interval, cancel context.CancelCauseFunc) {
	delete(c.open, c.next)
	c.next++
	if err := c.config.OnInterval(v); err != nil {
		cancel(err)
	}
	c.under += v.Sent
	if v.Outcomes[Answered] > 0 || c.under == 0 {
		c.quiet = 0
	} else {
		c.quiet += v.End - v.Start
	}
	for outcome, n := range v.Outcomes {
		if Outcome(outcome) != Unsent {
			c.under -= n
		}
	}
	if c.config.GiveUp > 0 && c.quiet >= c.config.GiveUp {
		cancel(fmt.Errorf("%w for %v, the run ends at %v", ErrGaveUp, c.quiet.Round(time.Second), v.End.Round(time.Second)))
	}
	v.reset()
	c.release(v)
}

func (c *collector) release(v *Interval) {
	select {
	case c.free <- v:
	default:
	}
}
