package summary

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Verdict is what a comparison comes to.
type Verdict string

// The verdicts. Unclear means that the noise is larger than what could be told apart.
const (
	Equal   Verdict = "equal"
	Slower  Verdict = "slower"
	Faster  Verdict = "faster"
	Mixed   Verdict = "mixed"
	Unclear Verdict = "unclear"
)

// What a difference must reach to count, and the noise above which "no difference seen" says nothing.
const (
	leastEffect = 0.025
	mostNoise   = 0.10
	minSamples  = 5
)

// Comparison is one result against another.
type Comparison struct {
	Verdict Verdict
	Series  []SeriesComparison
	Notes   []string // what besides the measured thing differs, and what was left out
}

// SeriesComparison is one series of both results.
type SeriesComparison struct {
	Name    string
	Verdict Verdict
	Metrics []MetricComparison
}

// MetricComparison is one number of a series. Change is (new-old)/old; it lies within Low and High with 95 % confidence.
type MetricComparison struct {
	Name              string
	Unit              string
	Old, New          float64
	Change, Low, High float64
	Verdict           Verdict
	Decides           bool // it takes part in the series' verdict
	Samples           [2]int
}

// metric is a number that a round or interval has.
type metric struct {
	name, unit string
	scale      float64
	more       bool // more is better
	decides    bool
	round      func(*Round) (float64, bool)
	interval   func(*Interval) (float64, bool)
}

func metrics(loop string) []metric {
	throughput := metric{
		"throughput", "answers/s", 1, true, loop == Closed,
		func(r *Round) (float64, bool) { return perSecond(r.Counts.Answered, r.DurationNS), true },
		func(i *Interval) (float64, bool) { return perSecond(i.Counts.Answered, i.DurationNS), true },
	}
	cpu := metric{"server CPU", "us/answer", 1, false, false, func(r *Round) (float64, bool) {
		total := 0.0
		for _, p := range r.Servers {
			total += p.CPUPerAnswer
		}
		return total, total > 0
	}, func(i *Interval) (float64, bool) {
		if i.Sample == nil || i.Sample.ServerCPU == nil || i.Counts.Answered == 0 {
			return 0, false
		}
		return *i.Sample.ServerCPU * float64(i.DurationNS) / 1e3 / float64(i.Counts.Answered), true
	}}
	if loop == Closed {
		return []metric{throughput, cpu}
	}
	return []metric{
		latencyMetric("p50", true, func(l *Latency) int64 { return l.P50NS }),
		latencyMetric("p99", true, func(l *Latency) int64 { return l.P99NS }),
		latencyMetric("p99.9", false, func(l *Latency) int64 { return l.P999NS }),
		throughput, cpu,
	}
}

func latencyMetric(name string, decides bool, of func(*Latency) int64) metric {
	get := func(l *Latency) (float64, bool) {
		if l == nil {
			return 0, false
		}
		return float64(of(l)), true
	}
	return metric{name, "us", 1e-3, false, decides,
		func(r *Round) (float64, bool) { return get(r.Corrected) },
		func(i *Interval) (float64, bool) { return get(i.Corrected) }}
}

func perSecond(n, ns int64) float64 {
	if ns <= 0 {
		return 0
	}
	return float64(n) * 1e9 / float64(ns)
}

// Compare says how a newer result differs from an older one. With at least five rounds on both sides a round is a
// sample; otherwise an interval is, which knows the noise within a run but not that between runs.
func Compare(older, newer *Result) (*Comparison, error) {
	c := &Comparison{Verdict: Equal}
	for name, r := range map[string]*Result{"older": older, "newer": newer} {
		for _, why := range r.Invalid() {
			c.Notes = append(c.Notes, fmt.Sprintf("the %s result is invalid: %s", name, why))
		}
		if r.Partial != "" {
			c.Notes = append(c.Notes, fmt.Sprintf("the %s result is partial: %s", name, r.Partial))
		}
	}
	if a, b := older.Machine, newer.Machine; a.CPU != b.CPU || a.Cores != b.Cores {
		c.Notes = append(c.Notes, fmt.Sprintf("the machines differ: %s, %d cores; %s, %d cores", a.CPU, a.Cores, b.CPU, b.Cores))
	}
	slices.Sort(c.Notes)
	for i := range newer.Series {
		n := &newer.Series[i]
		at := slices.IndexFunc(older.Series, func(o Series) bool { return o.Name == n.Name })
		if at < 0 {
			if len(older.Series) != 1 || len(newer.Series) != 1 {
				c.Notes = append(c.Notes, fmt.Sprintf("only the newer result has %s", n.Name))
				continue
			}
			at = 0 // two single runs are compared whatever they are called
		}
		o := &older.Series[at]
		if o.Loop != n.Loop {
			return nil, fmt.Errorf("%s is an %s loop in one result and a %s loop in the other: a closed loop finds saturation, not latency", n.Name, o.Loop, n.Loop)
		}
		c.Notes = append(c.Notes, differences(o, n)...)
		c.Series = append(c.Series, compareSeries(o, n))
	}
	if len(c.Series) == 0 {
		return nil, errors.New("the results have no series in common")
	}
	var verdicts []Verdict
	for _, s := range c.Series {
		verdicts = append(verdicts, s.Verdict)
	}
	c.Verdict = together(verdicts)
	return c, nil
}

// differences names what else is not the same.
func differences(o, n *Series) []string {
	var notes []string
	differ := func(what string, same bool, a, b any) {
		if !same {
			notes = append(notes, fmt.Sprintf("%s: %s differs: %v, %v", n.Name, what, a, b))
		}
	}
	differ("the server", o.Server == n.Server, o.Server, n.Server)
	differ("durability", o.Durability == n.Durability, o.Durability, n.Durability)
	differ("the scenario", o.Load.ScenarioSHA256 == n.Load.ScenarioSHA256, o.Load.Scenario, n.Load.Scenario)
	differ("the number of connections", o.Load.Connections == n.Load.Connections, o.Load.Connections, n.Load.Connections)
	differ("keep-alive", o.Load.KeepAlive == n.Load.KeepAlive, o.Load.KeepAlive, n.Load.KeepAlive)
	differ("the schedule", slices.Equal(o.Load.Phases, n.Load.Phases), phases(o.Load.Phases), phases(n.Load.Phases))
	return notes
}

func phases(p []Phase) string {
	var parts []string
	for _, s := range p {
		parts = append(parts, fmt.Sprintf("%g-%g/s for %gs", s.From, s.To, float64(s.DurationNS)/1e9))
	}
	return strings.Join(parts, ", ")
}

func compareSeries(o, n *Series) SeriesComparison {
	s := SeriesComparison{Name: n.Name}
	var deciding []Verdict
	for _, m := range metrics(n.Loop) {
		a, b := samples(o, n, m)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		c := m.compare(a, b)
		s.Metrics = append(s.Metrics, c)
		if c.Decides {
			deciding = append(deciding, c.Verdict)
		}
	}
	s.Verdict = together(deciding)
	return s
}

// samples returns what both series have of a metric: by round, or by interval when either has too few rounds.
func samples(o, n *Series, m metric) (a, b []float64) {
	if len(o.Rounds) >= minSamples && len(n.Rounds) >= minSamples {
		return byRound(o, m), byRound(n, m)
	}
	return byInterval(o, m), byInterval(n, m)
}

func byRound(s *Series, m metric) (values []float64) {
	for i := range s.Rounds {
		if v, ok := m.round(&s.Rounds[i]); ok {
			values = append(values, v)
		}
	}
	return values
}

func byInterval(s *Series, m metric) (values []float64) {
	for i := range s.Rounds {
		for j := range s.Rounds[i].Intervals {
			in := &s.Rounds[i].Intervals[j]
			if in.Warmup || in.StartNS+in.DurationNS > s.Load.DurationNS+s.Load.WarmupNS || s.short(in) {
				continue
			}
			if v, ok := m.interval(in); ok {
				values = append(values, v)
			}
		}
	}
	return values
}

// short reports whether an interval is too short to be like the others.
func (s *Series) short(i *Interval) bool {
	return len(s.Rounds) > 0 && len(s.Rounds[0].Intervals) > 0 && i.DurationNS < s.Rounds[0].Intervals[0].DurationNS*9/10
}

func (m metric) compare(a, b []float64) MetricComparison {
	c := MetricComparison{Name: m.name, Unit: m.unit, Old: median(a) * m.scale, New: median(b) * m.scale, Decides: m.decides, Samples: [2]int{len(a), len(b)}}
	low, middle, high, ok := shift(a, b)
	c.Change, c.Low, c.High = middle-1, low-1, high-1
	up, down := Slower, Faster
	if m.more {
		up, down = Faster, Slower
	}
	switch {
	case !ok:
		c.Verdict = Unclear
	case c.Low > 0 && c.Change >= leastEffect:
		c.Verdict = up
	case c.High < 0 && c.Change <= -leastEffect:
		c.Verdict = down
	case c.High-c.Low > 2*mostNoise:
		c.Verdict = Unclear
	default:
		c.Verdict = Equal
	}
	return c
}

// together makes one verdict of several. What is unclear decides only when nothing else is known.
func together(verdicts []Verdict) Verdict {
	has := func(v Verdict) bool { return slices.Contains(verdicts, v) }
	switch {
	case has(Mixed), has(Slower) && has(Faster):
		return Mixed
	case has(Slower):
		return Slower
	case has(Faster):
		return Faster
	case has(Equal):
		return Equal
	}
	return Unclear
}

// Write prints the comparison.
func (c *Comparison) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, s := range c.Series {
		fmt.Fprintf(t, "%s: %s\n", s.Name, s.Verdict)
		for _, m := range s.Metrics {
			bounds := fmt.Sprintf("%+.1f %% to %+.1f %%", 100*m.Low, 100*m.High)
			if math.IsInf(m.High, 1) {
				bounds = "too few samples"
			}
			note := ""
			if !m.Decides {
				note = "\t(does not decide)"
			}
			fmt.Fprintf(t, "  %s\t%s -> %s %s\t%+.1f %%\t(%s, %d and %d samples)\t%s%s\n", m.Name, number(m.Old), number(m.New), m.Unit, 100*m.Change, bounds, m.Samples[0], m.Samples[1], m.Verdict, note)
		}
	}
	for _, note := range c.Notes {
		fmt.Fprintf(t, "note: %s\n", note)
	}
	fmt.Fprintf(t, "verdict: %s\n", c.Verdict)
	return t.Flush()
}

func number(v float64) string {
	switch {
	case math.Abs(v) >= 1000:
		return group(int64(math.Round(v)))
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// group writes 1234567 as 1,234,567.
func group(n int64) string {
	s := fmt.Sprint(n)
	sign := ""
	if cmp.Less(n, 0) {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
