package summary

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Thresholds are what a result must reach.
type Thresholds []threshold

type threshold struct {
	name  string
	less  bool // the value must be at most the limit, otherwise at least
	limit float64
	text  string
	known
}

// known is a value that thresholds can be about.
type known struct {
	unit string // "time" in ns, "share", "bytes" or ""
	of   func(*Round) (float64, bool)
}

func latencyValue(which func(*Round) *Latency, of func(*Latency) int64) known {
	return known{"time", func(r *Round) (float64, bool) {
		l := which(r)
		if l == nil {
			return 0, false
		}
		return float64(of(l)), true
	}}
}

// values returns everything that a threshold may name.
func values() map[string]known {
	v := map[string]known{
		"throughput": {"", func(r *Round) (float64, bool) { return perSecond(r.Counts.Answered, r.DurationNS), true }},
		"errors": {"share", func(r *Round) (float64, bool) {
			return float64(r.Counts.Failed()) / max(r.Counts.Offered, 1), true
		}},
		"late":                {"share", func(r *Round) (float64, bool) { return lateShare(&r.Counts), true }},
		"generator_cpu_us":    {"", func(r *Round) (float64, bool) { return r.Generator.CPUPerAnswer, r.Generator.CPUPerAnswer > 0 }},
		"server_cpu_us":       {"", func(r *Round) (float64, bool) { return serverCPU(r), len(r.Servers) > 0 }},
		"server_rss":          {"bytes", serverRSS},
		"freshness":           {"time", worst(1e9, func(s *Sample) *float64 { return s.Freshness })},
		"lag_records":         {"", worst(1, func(s *Sample) *float64 { return s.LagRecords })},
		"unjournaled_records": {"", worst(1, func(s *Sample) *float64 { return s.Unjournaled })},
		"conversions_failed":  {"", func(r *Round) (float64, bool) { return float64(r.Counts.LaterBad), true }},
	}
	which := map[string]func(*Round) *Latency{
		"corrected":   func(r *Round) *Latency { return r.Corrected },
		"service":     func(r *Round) *Latency { return r.Service },
		"conversions": func(r *Round) *Latency { return r.Later },
	}
	for name, w := range which {
		v[name+".mean"] = latencyValue(w, func(l *Latency) int64 { return l.MeanNS })
		v[name+".p50"] = latencyValue(w, func(l *Latency) int64 { return l.P50NS })
		v[name+".p90"] = latencyValue(w, func(l *Latency) int64 { return l.P90NS })
		v[name+".p99"] = latencyValue(w, func(l *Latency) int64 { return l.P99NS })
		v[name+".p99.9"] = latencyValue(w, func(l *Latency) int64 { return l.P999NS })
		v[name+".max"] = latencyValue(w, func(l *Latency) int64 { return l.MaxNS })
	}
	return v
}

// worst is the highest value of a round's samples, the warm-up left out.
func worst(scale float64, of func(*Sample) *float64) func(*Round) (float64, bool) {
	return func(r *Round) (float64, bool) {
		most, any := 0.0, false
		for _, i := range r.Intervals {
			if i.Warmup || i.Sample == nil {
				continue
			}
			if v := of(i.Sample); v != nil {
				most, any = max(most, *v*scale), true
			}
		}
		return most, any
	}
}

func lateShare(c *Counts) float64 {
	late := c.Late + c.Errors["unsent"]
	return float64(late) / max(float64(c.Sent+c.Errors["unsent"]), 1)
}

func serverCPU(r *Round) float64 {
	total := 0.0
	for _, p := range r.Servers {
		total += p.CPUPerAnswer
	}
	return total
}

func serverRSS(r *Round) (float64, bool) {
	total := 0.0
	for _, p := range r.Servers {
		total += float64(p.MaxRSSBytes)
	}
	return total, len(r.Servers) > 0
}

var limitForm = regexp.MustCompile(`^(<=|>=|<|>)\s*(.+)$`)

// ParseThresholds reads a file of lines such as "corrected.p99: <= 5ms". Its errors name the file and the line.
func ParseThresholds(name string, b []byte) (Thresholds, error) {
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) && located.GetToken() != nil {
			return nil, fmt.Errorf("%s: line %d: %s", name, located.GetToken().Position.Line, located.GetMessage())
		}
		return nil, fmt.Errorf("%s: %s", name, strings.Join(strings.Fields(err.Error()), " "))
	}
	var all Thresholds
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		m, ok := doc.Body.(ast.MapNode)
		if !ok {
			return nil, fmt.Errorf("%s: line %d: want lines such as \"corrected.p99: <= 5ms\"", name, doc.Body.GetToken().Position.Line)
		}
		for it := m.MapRange(); it.Next(); {
			line := it.Key().GetToken().Position.Line
			t, err := parseThreshold(it.Key().String(), valueText(it.Value()))
			if err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", name, line, err)
			}
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: there is no threshold in it", name)
	}
	return all, nil
}

// valueText returns a value as it was written. ">= 5" is a folded string to YAML when it stands unquoted; its text is the same.
func valueText(n ast.Node) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	return n.String()
}

func parseThreshold(name, text string) (threshold, error) {
	k, ok := values()[name]
	if !ok {
		return threshold{}, fmt.Errorf("unknown value %q", name)
	}
	parts := limitForm.FindStringSubmatch(strings.TrimSpace(text))
	if parts == nil {
		return threshold{}, fmt.Errorf("%s: want <= or >= and a limit, got %q", name, text)
	}
	limit, err := parseLimit(k.unit, strings.TrimSpace(parts[2]))
	if err != nil {
		return threshold{}, fmt.Errorf("%s: %w", name, err)
	}
	return threshold{name: name, less: parts[1][0] == '<', limit: limit, text: strings.TrimSpace(text), known: k}, nil
}

func parseLimit(unit, text string) (float64, error) {
	factor := 1.0
	switch unit {
	case "time":
		d, err := time.ParseDuration(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			return 0, fmt.Errorf("%q is no duration such as 5ms", text)
		}
		return float64(d), nil
	case "share":
		if rest, ok := strings.CutSuffix(text, "%"); ok {
			text, factor = strings.TrimSpace(rest), 0.01
		}
	case "bytes":
		for suffix, f := range map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			if rest, ok := strings.CutSuffix(text, suffix); ok {
				text, factor = strings.TrimSpace(rest), f
			}
		}
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return v * factor, nil
}

// Check returns one line for each threshold that a result misses. Each round of each series must meet all of them; a
// value that a round does not have is a miss, and so is an invalid round or a partial result.
func (t Thresholds) Check(r *Result) []string {
	missed := r.Invalid()
	if r.Partial != "" {
		missed = append(missed, "the result is partial: "+r.Partial)
	}
	for _, s := range r.Series {
		for i := range s.Rounds {
			for _, limit := range t {
				v, ok := limit.of(&s.Rounds[i])
				switch {
				case !ok:
					missed = append(missed, fmt.Sprintf("%s, round %d: %s was not measured, want %s", s.Name, i+1, limit.name, limit.text))
				case limit.less && v > limit.limit, !limit.less && v < limit.limit:
					missed = append(missed, fmt.Sprintf("%s, round %d: %s is %s, want %s", s.Name, i+1, limit.name, limit.show(v), limit.text))
				}
			}
		}
	}
	return missed
}

func (t threshold) show(v float64) string {
	switch t.unit {
	case "time":
		return time.Duration(v).Round(time.Microsecond).String()
	case "share":
		return strconv.FormatFloat(100*v, 'f', 3, 64) + " %"
	case "bytes":
		return number(v/(1<<20)) + " MiB"
	}
	return number(v)
}

// Names returns what thresholds may be about, in order.
func Names() []string { return slices.Sorted(maps.Keys(values())) }
