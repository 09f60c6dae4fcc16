package summary

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText prints a result as text.
func (r *Result) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if r.Partial != "" {
		fmt.Fprintf(t, "PARTIAL RESULT: %s\n", r.Partial)
	}
	for i := range r.Series {
		s := &r.Series[i]
		fmt.Fprintf(t, "%s\n", s.title())
		for j := range s.Rounds {
			if len(s.Rounds) > 1 {
				fmt.Fprintf(t, " round %d\n", j+1)
			}
			s.Rounds[j].writeText(t, s)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(t, "note: %s\n", note)
	}
	return t.Flush()
}

// title says in one line what was measured.
func (s *Series) title() string {
	parts := []string{s.Name + ":"}
	if s.Loop == Closed {
		parts = append(parts, "closed loop (finds saturation, not latency)")
	} else {
		parts = append(parts, "open loop")
		if len(s.Load.Phases) == 1 && s.Load.Phases[0].From == s.Load.Phases[0].To {
			parts = append(parts, fmt.Sprintf("at %s requests/s", group(int64(s.Load.Phases[0].From))))
		}
	}
	parts = append(parts, fmt.Sprintf("for %v,", time.Duration(s.Load.DurationNS)))
	connections := fmt.Sprintf("%s connections", group(int64(s.Load.Connections)))
	if !s.Load.KeepAlive {
		connections = "a connection per request"
	}
	if s.Load.TLS {
		connections += " with TLS"
	}
	parts = append(parts, connections)
	title := strings.Join(parts, " ")
	if s.Durability != "" {
		title += ", durability " + s.Durability
	}
	return title
}

func (r *Round) writeText(w io.Writer, s *Series) {
	c := &r.Counts
	fmt.Fprintf(w, "  requests\toffered %s/s\tanswered %s/s\t(%s in %v)\n", group(int64(c.Offered*1e9/max(float64(r.DurationNS), 1))),
		group(int64(perSecond(c.Answered, r.DurationNS))), group(c.Answered), time.Duration(r.DurationNS).Round(time.Millisecond))
	writeLatency(w, "latency, corrected", r.Corrected)
	service := "latency, service"
	if s.Loop == Closed {
		service = "latency at saturation"
	}
	writeLatency(w, service, r.Service)
	writeLatency(w, "send delay", r.SendDelay)
	writeLatency(w, "conversions", r.Later)
	fmt.Fprintf(w, "  failed\t%s of %s%s\n", group(c.Failed()), group(c.Sent+c.Errors["unsent"]), counts(c.Errors))
	fmt.Fprintf(w, "  statuses\t%s\n", strings.TrimPrefix(counts(c.Statuses), ": "))
	if s.Loop == Open {
		fmt.Fprintf(w, "  late sends\t%s (%.3f %%), %s for want of a free connection\n", group(c.Late), 100*lateShare(c), group(c.LateBusy))
	}
	writeProcess(w, &r.Generator)
	for i := range r.Servers {
		writeProcess(w, &r.Servers[i])
	}
	if len(r.Invalid) > 0 {
		fmt.Fprintf(w, "  INVALID\t%s\n", strings.Join(r.Invalid, "; "))
	}
}

func writeProcess(w io.Writer, p *Process) {
	fmt.Fprintf(w, "  CPU of %s\t%.2f us per answer\t%v in all\t%s MiB resident\n", p.Name, p.CPUPerAnswer, time.Duration(p.CPUNS).Round(time.Millisecond), group(p.MaxRSSBytes>>20))
}

func writeLatency(w io.Writer, name string, l *Latency) {
	if l == nil {
		return
	}
	fmt.Fprintf(w, "  %s\tp50 %s\tp90 %s\tp99 %s\tp99.9 %s\tmax %s\n", name, short(l.P50NS), short(l.P90NS), short(l.P99NS), short(l.P999NS), short(l.MaxNS))
}

// short writes a duration with three digits.
func short(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d < time.Microsecond:
		return d.String()
	case d < time.Millisecond:
		return fmt.Sprintf("%.3gus", float64(ns)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3gms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.3gs", float64(ns)/1e9)
}

// counts writes ": a 1, b 2".
func counts(m map[string]int64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %s", k, group(m[k])))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// WriteTable prints the edge figures of a result as a Markdown table: medians over the rounds, and each server's share of
// the bare one at the same number of connections. Series of other runs have no bare server and are left out.
func (r *Result) WriteTable(w io.Writer) error {
	t := &strings.Builder{}
	rounds := 0
	fmt.Fprintf(t, "| Server | Connections | Answers/s | of bare | CPU us/answer | Open loop at | p50 | p99 | p99 of bare |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for i := range r.Series {
		s := &r.Series[i]
		if s.Loop != Closed {
			continue
		}
		rounds = len(s.Rounds)
		bare := r.find("bare", "", Closed, s.Load.Connections)
		if bare == nil {
			continue
		}
		name := s.Server
		if s.Durability != "" {
			name += ", `" + s.Durability + "`"
		}
		answers := s.median(throughputOf)
		fmt.Fprintf(t, "| %s | %s | %s | %.2f | %.1f |", name, group(int64(s.Load.Connections)), group(int64(answers)), answers/bare.median(throughputOf), s.median(serverCPU))
		open, bareOpen := r.find(s.Server, s.Durability, Open, s.Load.Connections), r.find("bare", "", Open, s.Load.Connections)
		if open == nil || bareOpen == nil {
			fmt.Fprint(t, " | | | |\n")
			continue
		}
		fmt.Fprintf(t, " %s/s | %s | %s | %.2f |\n", group(int64(open.Load.Phases[0].From)), short(int64(open.median(p50Of))), short(int64(open.median(p99Of))),
			open.median(p99Of)/bareOpen.median(p99Of))
	}
	modified := ""
	if r.Software.Modified {
		modified = " (modified)"
	}
	fmt.Fprintf(t, "\nMedians of %d interleaved rounds. Commit %.12s%s, %s, %s, %d cores, %s.\nCommand: `%s`. Latency is corrected for coordinated omission; the open loop's rate is half of each server's own saturation.\n",
		rounds, r.Software.Commit, modified, r.Started.UTC().Format("2006-01-02"), r.Machine.CPU, r.Machine.Cores, r.Machine.System, strings.Join(r.Command, " "))
	if invalid := r.Invalid(); len(invalid) > 0 {
		fmt.Fprintf(t, "Not valid, as the generator could not keep its schedule or requests failed: %s.\n", strings.Join(invalid, "; "))
	}
	_, err := io.WriteString(w, t.String())
	return err
}

func throughputOf(r *Round) float64 { return perSecond(r.Counts.Answered, r.DurationNS) }
func p50Of(r *Round) float64        { return latencyOf(r, func(l *Latency) int64 { return l.P50NS }) }
func p99Of(r *Round) float64        { return latencyOf(r, func(l *Latency) int64 { return l.P99NS }) }

func latencyOf(r *Round, of func(*Latency) int64) float64 {
	if r.Corrected == nil {
		return 0
	}
	return float64(of(r.Corrected))
}

func (s *Series) median(of func(*Round) float64) float64 {
	var v []float64
	for i := range s.Rounds {
		v = append(v, of(&s.Rounds[i]))
	}
	return median(v)
}

func (r *Result) find(server, durability, loop string, connections int) *Series {
	for i := range r.Series {
		s := &r.Series[i]
		if s.Server == server && s.Durability == durability && s.Loop == loop && s.Load.Connections == connections {
			return s
		}
	}
	return nil
}
