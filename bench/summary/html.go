package summary

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

//go:embed page.html
var pageHTML string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"short":    short,
		"group":    group,
		"rate":     func(n, ns int64) string { return group(int64(perSecond(n, ns))) },
		"duration": func(ns int64) string { return time.Duration(ns).Round(time.Millisecond).String() },
		"percent":  func(share float64) string { return fmt.Sprintf("%.3f %%", 100*share) },
		"late":     func(c Counts) float64 { return lateShare(&c) },
		"mib":      func(n int64) string { return group(n >> 20) },
		"join":     strings.Join,
		"counts":   func(m map[string]int64) string { return strings.TrimPrefix(counts(m), ": ") },
		"inc":      func(i int) int { return i + 1 },
	}).Parse(pageHTML))
})

type page struct {
	*Result
	Sections  []section
	IsInvalid []string
}

type section struct {
	*Series
	Heading string
	Rounds  []roundSection
}

type roundSection struct {
	*Round
	Charts []*chart
}

// WriteHTML writes a result as one page that needs nothing else: no script, no style and no font from anywhere.
func (r *Result) WriteHTML(w io.Writer) error {
	p := page{Result: r, IsInvalid: r.Invalid()}
	for i := range r.Series {
		s := section{Series: &r.Series[i], Heading: r.Series[i].title()}
		for j := range r.Series[i].Rounds {
			round := &r.Series[i].Rounds[j]
			s.Rounds = append(s.Rounds, roundSection{round, charts(&r.Series[i], round)})
		}
		p.Sections = append(p.Sections, s)
	}
	if err := pageTemplate().Execute(w, p); err != nil {
		return fmt.Errorf("cannot write the page: %w", err)
	}
	return nil
}

// charts draws a round.
func charts(s *Series, r *Round) []*chart {
	var x []float64
	var shown []*Interval
	for i := range r.Intervals {
		if in := &r.Intervals[i]; !s.short(in) { // a moment at the end would be drawn as a fall
			shown = append(shown, in)
			x = append(x, float64(in.StartNS)/1e9)
		}
	}
	if len(x) == 0 {
		return nil
	}
	ticks := timeTicks(x[len(x)-1])
	over := func(of func(*Interval) (float64, bool)) []float64 {
		y := make([]float64, len(shown))
		for i := range shown {
			v, ok := of(shown[i])
			if y[i] = v; !ok {
				y[i] = math.NaN()
			}
		}
		return y
	}
	sample := func(of func(*Sample) (float64, bool)) []float64 {
		return over(func(i *Interval) (float64, bool) {
			if i.Sample == nil {
				return 0, false
			}
			return of(i.Sample)
		})
	}
	plain := func(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }
	latency := func(v float64) string { return short(int64(v)) }
	all := []*chart{
		newChart("Throughput", "requests/s", "", x, ticks, []curve{
			{"offered", over(func(i *Interval) (float64, bool) { return i.Counts.Offered * 1e9 / float64(max(i.DurationNS, 1)), true })},
			{"answered", over(func(i *Interval) (float64, bool) { return perSecond(i.Counts.Answered, i.DurationNS), true })},
			{"failed", over(func(i *Interval) (float64, bool) { return perSecond(i.Counts.Failed(), i.DurationNS), true })},
		}, false, plain),
		newChart("Latency over time", "log scale", "", x, ticks, latencyCurves(s, over), true, latency),
		percentileChart(s, r),
		newChart("CPU", "cores", "", x, ticks, []curve{
			{"generator", sample(func(v *Sample) (float64, bool) { return v.GeneratorCPU, true })},
			{"servers", sample(func(v *Sample) (float64, bool) { return pointed(v.ServerCPU) })},
		}, false, plain),
		newChart("Memory of the servers", "MiB resident", "", x, ticks, []curve{{"servers", sample(func(v *Sample) (float64, bool) {
			if v.ServerRSS == nil {
				return 0, false
			}
			return float64(*v.ServerRSS) / (1 << 20), true
		})}}, false, plain),
		newChart("Lag", "records not yet in the totals", "", x, ticks, []curve{
			{"lag", sample(func(v *Sample) (float64, bool) { return pointed(v.LagRecords) })},
			{"unjournaled", sample(func(v *Sample) (float64, bool) { return pointed(v.Unjournaled) })},
		}, false, plain),
		newChart("Freshness", "age of \"data as of\", s", "", x, ticks, []curve{
			{"age", sample(func(v *Sample) (float64, bool) { return pointed(v.Freshness) })},
		}, false, plain),
	}
	kept := all[:0]
	for _, c := range all {
		if c != nil {
			kept = append(kept, c)
		}
	}
	return kept
}

func pointed(v *float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return *v, true
}

func latencyCurves(s *Series, over func(func(*Interval) (float64, bool)) []float64) []curve {
	of := func(which func(*Interval) *Latency, value func(*Latency) int64) []float64 {
		return over(func(i *Interval) (float64, bool) {
			l := which(i)
			if l == nil {
				return 0, false
			}
			return float64(value(l)), true
		})
	}
	service := func(i *Interval) *Latency { return i.Service }
	if s.Loop == Closed {
		return []curve{
			{"p50 at saturation", of(service, func(l *Latency) int64 { return l.P50NS })},
			{"p99 at saturation", of(service, func(l *Latency) int64 { return l.P99NS })},
		}
	}
	corrected := func(i *Interval) *Latency { return i.Corrected }
	return []curve{
		{"p50 corrected", of(corrected, func(l *Latency) int64 { return l.P50NS })},
		{"p99 corrected", of(corrected, func(l *Latency) int64 { return l.P99NS })},
		{"max corrected", of(corrected, func(l *Latency) int64 { return l.MaxNS })},
		{"p99 service", of(service, func(l *Latency) int64 { return l.P99NS })},
	}
}

// percentileChart draws latency over the number of nines.
func percentileChart(s *Series, r *Round) *chart {
	var x []float64
	most := 0.0
	for _, l := range []*Latency{r.Corrected, r.Service} {
		if l != nil {
			most = max(most, math.Log10(float64(l.Count)))
		}
	}
	for nines := 0.0; nines <= min(most, 6)+0.001; nines += 0.05 {
		x = append(x, nines)
	}
	at := func(h *hdrhistogram.Histogram) []float64 {
		y := make([]float64, len(x))
		for i, nines := range x {
			y[i] = float64(h.ValueAtQuantile(100 * (1 - math.Pow(10, -nines))))
		}
		return y
	}
	var curves []curve
	if h := r.Corrected.hdr(); h != nil {
		curves = append(curves, curve{"corrected", at(h)})
	}
	if h := r.Service.hdr(); h != nil {
		name := "service"
		if s.Loop == Closed {
			name = "at saturation"
		}
		curves = append(curves, curve{name, at(h)})
	}
	ticks := []tick{}
	for nines, text := range []string{"0", "p90", "p99", "p99.9", "p99.99", "p99.999", "p99.9999"} {
		if float64(nines) <= most {
			ticks = append(ticks, tick{float64(nines), text})
		}
	}
	return newChart("Latency by percentile", "log scale", "", x, ticks, curves, true, func(v float64) string { return short(int64(v)) })
}
