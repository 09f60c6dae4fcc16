package bench

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"waymark/bench/generator"
	"waymark/bench/pacer"
	"waymark/bench/scenario"
	"waymark/bench/stack"
	"waymark/bench/summary"
)

// maxLateShare is the share of late sends above which a round is invalid.
const maxLateShare = 0.001

// maxIntervals bounds how many intervals a round has, each of which is kept with its histograms.
const maxIntervals = 600

// hash names the scenario as it was run: two runs of one hash sent the same requests.
func (p *plan) hash() error {
	b, err := json.Marshal(p.Scenario)
	if err != nil {
		return fmt.Errorf("cannot encode the scenario: %w", err)
	}
	sum := sha256.Sum256(b)
	p.sha256 = hex.EncodeToString(sum[:])
	return nil
}

// source gives a scenario's requests to the generator.
type source struct{ *scenario.Source }

// Next fills in the next click.
func (s source) Next(q *generator.Request) {
	var sent scenario.Sent
	q.Bytes, sent = s.Source.Next(q.Bytes[:0])
	q.Tag, q.Data, q.Status, q.Head = sent.Number, sent.Data, sent.Status, sent.Head
}

// NextLater fills in the next conversion.
func (s source) NextLater(q *generator.Request) {
	var sent scenario.Sent
	q.Bytes, sent = s.Source.NextLater(q.Bytes[:0])
	q.Tag, q.Data, q.Status, q.Head = sent.Number, conversionData, sent.Status, false
}

// conversionData marks a request as a conversion; no click has all bits of it.
const conversionData = math.MaxUint64

// Done hands an answer back.
func (s source) Done(q *generator.Request, p *generator.Response) {
	sent := scenario.Sent{Number: q.Tag, Data: q.Data, Status: q.Status, Head: q.Head}
	answer := scenario.Answer{Answered: p.Outcome == generator.Answered, Never: p.Outcome == generator.Refused, Status: p.Status, Location: p.Location, Cookie: p.Cookie}
	if q.Data == conversionData {
		s.DoneLater(sent, &answer)
		return
	}
	s.Source.Done(sent, &answer)
}

// round is one run of a series while it goes on.
type round struct {
	config  *Config
	plan    *plan
	target  *target
	out     *partial
	began   time.Time
	result  summary.Round
	total   *generator.Interval // without the warm-up
	closed  bool
	watched *watch
	base    []stack.Usage // of the generator and the servers, when the warm-up ended
	last    []stack.Usage // at the end of the interval before
	lastAt  time.Time
}

// interval returns how long an interval of a run is: a second, or more when there would be too many.
func interval(d time.Duration) time.Duration {
	if d < 5*time.Second {
		return max((d / 10).Round(50*time.Millisecond), 100*time.Millisecond)
	}
	return max(time.Second, (d / maxIntervals).Round(time.Second))
}

// run runs the round. The result says what was measured even when there is an error.
func (r *round) run(ctx context.Context) (*summary.Round, error) {
	site := scenario.NewSite(r.plan.Scenario, r.target.scenarioTarget())
	workers := r.config.Workers
	sources := make([]*scenario.Source, workers)
	g := generator.Config{
		Target: r.target.address, TLS: r.target.tls, Workers: workers,
		Connections: r.plan.Load.Connections, MaxConnections: r.plan.Load.MaxConnections, NewConnection: !*r.plan.Load.KeepAlive,
		Streams: r.config.Streams, Duration: r.plan.duration, Timeout: r.config.Timeout, Interval: r.plan.interval, GiveUp: r.config.GiveUp,
		Source: func(w int) generator.Source {
			sources[w] = scenario.NewSource(site, w, workers)
			return source{sources[w]}
		},
		OnInterval: r.interval,
	}
	if !r.closed {
		g.Schedule = func(w int) generator.Schedule {
			return r.plan.profile.Schedule(pacer.Arrivals(r.plan.Load.Arrivals), r.plan.Seed, w, workers).Next
		}
	}
	r.total = generator.NewInterval()
	r.watched = watchTarget(ctx, r.target)
	r.began, r.lastAt = time.Now(), time.Now()
	r.last = r.usage()
	r.base = r.last
	r.result.Started = r.began.UTC()
	err := generator.Run(ctx, g)
	r.watched.stop()
	if finishErr := r.finish(); err == nil {
		err = finishErr
	}
	if !r.target.foreign && err == nil {
		truth, truthErr := json.Marshal(site.Truth(sources))
		r.result.Truth, err = truth, truthErr
	}
	return &r.result, err
}

// usage reads what the generator and each server have used until now.
func (r *round) usage() []stack.Usage {
	all := []stack.Usage{stack.Self()}
	for _, p := range r.target.processes {
		u, err := p.Usage()
		if err != nil {
			u = stack.Usage{}
		}
		all = append(all, u)
	}
	return all
}

// interval takes what the generator measured in an interval.
func (r *round) interval(v *generator.Interval) error {
	warmup := v.End <= r.plan.warmup
	usage, now := r.usage(), time.Now()
	in := summary.Interval{StartNS: int64(v.Start), DurationNS: int64(v.End - v.Start), Warmup: warmup, Sample: r.sample(usage, now)}
	in.Counts = countsOf(v)
	in.Counts.Offered = float64(v.Sent)
	if !r.closed {
		in.Counts.Offered = r.plan.profile.Between(v.Start, v.End)
	}
	var err error
	if in.Service, err = summary.NewLatency(v.Service); err != nil {
		return err
	}
	if !r.closed {
		if in.Corrected, err = summary.NewLatency(v.Corrected); err != nil {
			return err
		}
	}
	r.last, r.lastAt = usage, now
	if warmup {
		r.base = usage
	} else {
		r.total.Merge(v)
		r.result.Counts.Offered += in.Counts.Offered
	}
	r.result.Intervals = append(r.result.Intervals, in)
	if v.Start < r.plan.duration { // what comes later only waits for answers
		progress(r.config, r.plan.duration, &in)
	}
	if err := r.target.err(); err != nil {
		return err
	}
	return r.out.add(&in)
}

// sample says how the system is at the end of an interval.
func (r *round) sample(usage []stack.Usage, now time.Time) *summary.Sample {
	seconds := now.Sub(r.lastAt).Seconds()
	s := &summary.Sample{GeneratorCPU: cores(usage[0].CPU-r.last[0].CPU, seconds)}
	if len(usage) > 1 {
		cpu, rss := 0.0, int64(0)
		for i, u := range usage[1:] {
			cpu += cores(u.CPU-r.last[i+1].CPU, seconds)
			rss += u.RSS
		}
		s.ServerCPU, s.ServerRSS = &cpu, &rss
	}
	r.watched.fill(s)
	return s
}

func cores(cpu time.Duration, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return math.Round(cpu.Seconds()/seconds*1000) / 1000
}

// finish adds up the round.
func (r *round) finish() error {
	offered := r.result.Counts.Offered
	r.result.Counts = countsOf(r.total)
	r.result.Counts.Offered = offered
	if n := len(r.result.Intervals); n > 0 {
		last := r.result.Intervals[n-1]
		r.result.DurationNS = last.StartNS + last.DurationNS - int64(r.plan.warmup)
	}
	usage := r.last
	r.result.Generator = process("generator", usage[0], r.base[0], r.total)
	for i, p := range r.target.processes {
		r.result.Servers = append(r.result.Servers, process(p.Name, usage[i+1], r.base[i+1], r.total))
	}
	var errs []error
	latency := func(to **summary.Latency, h *hdr) {
		l, err := summary.NewLatency(h)
		*to = l
		errs = append(errs, err)
	}
	latency(&r.result.Service, r.total.Service)
	latency(&r.result.Later, r.total.Later)
	if !r.closed {
		latency(&r.result.Corrected, r.total.Corrected)
		latency(&r.result.SendDelay, r.total.SendDelay)
	}
	r.result.Invalid = r.invalid()
	return errors.Join(errs...)
}

func process(name string, now, before stack.Usage, v *generator.Interval) summary.Process {
	p := summary.Process{Name: name, CPUNS: int64(now.CPU - before.CPU), MaxRSSBytes: now.MaxRSS}
	if n := v.Outcomes[generator.Answered]; n > 0 {
		p.CPUPerAnswer = math.Round(float64(p.CPUNS)/float64(n)) / 1e3
	}
	return p
}

// invalid says why the round's numbers say nothing about the server.
func (r *round) invalid() []string {
	var why []string
	c := &r.result.Counts
	if c.Answered == 0 {
		why = append(why, "nothing was answered")
	}
	if unsent := c.Errors["unsent"]; !r.closed {
		late, all := c.Late+unsent, c.Sent+unsent
		if share := float64(late) / float64(max(all, 1)); share > maxLateShare {
			cause := "the generator did not get to run in time (its cores are shared, or too few)"
			if 2*(c.LateBusy+unsent) > late {
				cause = fmt.Sprintf("all of up to %d connections waited for answers (the server cannot keep this rate, or --max-connections is too low)", r.plan.Load.MaxConnections)
			}
			why = append(why, fmt.Sprintf("%.2f %% of the sends were more than 5 ms behind their schedule: %s", 100*share, cause))
		}
	}
	return why
}

// countsOf turns a generator's counts into a result's.
func countsOf(v *generator.Interval) summary.Counts {
	c := summary.Counts{
		Sent: v.Sent, Answered: v.Outcomes[generator.Answered], Late: v.Late, LateBusy: v.LateBusy, Unexpected: v.Unexpected,
		Later: v.LaterSent, Connects: v.Connects, BytesIn: v.BytesIn, BytesOut: v.BytesOut,
	}
	c.Errors, c.Statuses = map[string]int64{}, map[string]int64{}
	for o := generator.Refused; o <= generator.Unsent; o++ {
		if n := v.Outcomes[o]; n > 0 {
			c.Errors[o.String()] = n
		}
		c.LaterBad += v.LaterEnd[o]
	}
	for status, n := range v.Statuses {
		if n > 0 {
			c.Statuses[strconv.Itoa(status)] = int64(n)
		}
	}
	if len(c.Errors) == 0 {
		c.Errors = nil
	}
	return c
}

// watch asks the target's admin address how it is, about once a second, beside the load.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	metrics map[string]float64 // guarded by mu
	age     *float64           // of the numbers when they were asked for, in seconds; guarded by mu
}

func watchTarget(ctx context.Context, t *target) *watch {
	w := &watch{done: make(chan struct{})}
	ctx, w.cancel = context.WithCancel(ctx)
	if t.admin == nil {
		close(w.done)
		return w
	}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			w.ask(ctx, t.admin)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *watch) stop() {
	w.cancel()
	<-w.done
}

func (w *watch) ask(ctx context.Context, admin *stack.Admin) {
	metrics, err := admin.Metrics(ctx)
	if err != nil {
		metrics = nil
	}
	asOf, ok, err := admin.DataAsOf(ctx)
	var age *float64
	if ok && err == nil {
		seconds := math.Round(time.Since(asOf).Seconds()*1000) / 1000
		age = &seconds
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.metrics, w.age = metrics, age
}

// fill adds what is known to a sample.
func (w *watch) fill(s *summary.Sample) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if forwarder, ok := w.metrics["waymark_tracker_forwarder_lag_records"]; ok {
		lag := forwarder + w.metrics["waymark_aggregator_lag_records"]
		s.LagRecords = &lag
	}
	if lost, ok := w.metrics["waymark_tracker_unjournaled_total"]; ok {
		s.Unjournaled = &lost
	}
	s.Freshness = w.age
}

// tlsFor returns the client's side of TLS for a target.
func tlsFor(scheme, host string, insecure bool) *tls.Config {
	if scheme != "https" {
		return nil
	}
	return &tls.Config{ServerName: host, InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}
}
