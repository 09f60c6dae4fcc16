package summary

import (
	"errors"
	"fmt"
	"math"
)

// Merge puts together what several generators measured of one run at the same time: counts are added up, and
// histograms, from which all percentiles are then read. It refuses results of different runs.
func Merge(results []*Result) (*Result, error) {
	if len(results) < 2 {
		return nil, errors.New("there is nothing to merge: give at least two results")
	}
	merged := *results[0]
	merged.Series, merged.Notes, merged.Merged = nil, nil, 0
	for _, r := range results {
		merged.Merged += max(1, r.Merged)
		merged.Notes = append(merged.Notes, r.Notes...)
		if r.Partial != "" {
			merged.Partial = r.Partial
		}
		if r.Started.Before(merged.Started) {
			merged.Started = r.Started
		}
		if len(r.Series) != len(results[0].Series) {
			return nil, fmt.Errorf("the results have %d and %d series: they are not of one run", len(results[0].Series), len(r.Series))
		}
	}
	for i, first := range results[0].Series {
		var parts []Series
		for _, r := range results {
			s := r.Series[i]
			if s.Name != first.Name || s.Loop != first.Loop || s.Load.ScenarioSHA256 != first.Load.ScenarioSHA256 || len(s.Rounds) != len(first.Rounds) || s.Load.WarmupNS != first.Load.WarmupNS {
				return nil, fmt.Errorf("series %s differs between the results: they are not of one run", first.Name)
			}
			parts = append(parts, s)
		}
		s, err := mergeSeries(parts)
		if err != nil {
			return nil, fmt.Errorf("cannot merge %s: %w", first.Name, err)
		}
		merged.Series = append(merged.Series, s)
	}
	return &merged, nil
}

func mergeSeries(parts []Series) (Series, error) {
	s := parts[0]
	s.Load.Phases = append([]Phase(nil), s.Load.Phases...)
	for _, p := range parts[1:] {
		s.Load.Connections += p.Load.Connections
		s.Load.MaxConnections += p.Load.MaxConnections
		s.Load.Workers += p.Load.Workers
		for i := range s.Load.Phases {
			if i < len(p.Load.Phases) {
				s.Load.Phases[i].From += p.Load.Phases[i].From
				s.Load.Phases[i].To += p.Load.Phases[i].To
			}
		}
	}
	s.Rounds = nil
	for i := range parts[0].Rounds {
		var rounds []*Round
		for p := range parts {
			rounds = append(rounds, &parts[p].Rounds[i])
		}
		r, err := mergeRounds(rounds)
		if err != nil {
			return s, err
		}
		s.Rounds = append(s.Rounds, r)
	}
	return s, nil
}

func mergeRounds(parts []*Round) (m Round, err error) {
	m.Started = parts[0].Started
	var corrected, service, delay, later []*Latency
	n := 0
	for _, p := range parts {
		if gap := p.Started.Sub(m.Started).Abs(); gap.Nanoseconds() > max(p.DurationNS, 1)/2 {
			return m, fmt.Errorf("one part started %v from another: they are not of one run", gap)
		}
		m.DurationNS = max(m.DurationNS, p.DurationNS)
		m.Counts.add(&p.Counts)
		corrected, service = append(corrected, p.Corrected), append(service, p.Service)
		delay, later = append(delay, p.SendDelay), append(later, p.Later)
		m.Generator.CPUNS += p.Generator.CPUNS
		m.Generator.MaxRSSBytes += p.Generator.MaxRSSBytes
		if len(p.Servers) > 0 {
			m.Servers = p.Servers // only one of the generators sees them
		}
		m.Invalid = append(m.Invalid, p.Invalid...)
		n = max(n, len(p.Intervals))
	}
	m.Generator.Name = parts[0].Generator.Name
	m.Generator.CPUPerAnswer = perAnswer(m.Generator.CPUNS, m.Counts.Answered)
	for i := range m.Servers {
		m.Servers[i].CPUPerAnswer = perAnswer(m.Servers[i].CPUNS, m.Counts.Answered)
	}
	for at, of := range map[**Latency][]*Latency{&m.Corrected: corrected, &m.Service: service, &m.SendDelay: delay, &m.Later: later} {
		if *at, err = combine(of...); err != nil {
			return m, err
		}
	}
	for i := range n {
		in, err := mergeIntervals(parts, i)
		if err != nil {
			return m, err
		}
		m.Intervals = append(m.Intervals, in)
	}
	return m, nil
}

func perAnswer(ns, answers int64) float64 {
	if answers == 0 {
		return 0
	}
	return math.Round(float64(ns)/float64(answers)) / 1e3
}

func mergeIntervals(parts []*Round, i int) (m Interval, err error) {
	var corrected, service []*Latency
	first := true
	for _, p := range parts {
		if i >= len(p.Intervals) {
			continue
		}
		in := &p.Intervals[i]
		if first {
			m.StartNS, m.DurationNS, m.Warmup, m.Sample = in.StartNS, in.DurationNS, in.Warmup, in.Sample
			first = false
		} else if in.Sample != nil && m.Sample != nil {
			sample := *m.Sample
			sample.GeneratorCPU += in.Sample.GeneratorCPU
			if sample.ServerCPU == nil {
				sample.ServerCPU, sample.ServerRSS = in.Sample.ServerCPU, in.Sample.ServerRSS
			}
			m.Sample = &sample
		}
		if m.StartNS != in.StartNS {
			return m, errors.New("the intervals of the results do not match")
		}
		m.DurationNS = max(m.DurationNS, in.DurationNS)
		m.Counts.add(&in.Counts)
		corrected, service = append(corrected, in.Corrected), append(service, in.Service)
	}
	if m.Corrected, err = combine(corrected...); err != nil {
		return m, err
	}
	m.Service, err = combine(service...)
	return m, err
}
