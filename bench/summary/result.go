// Package summary is what a run leaves behind: the result file with its raw histograms, and everything that is read out of
// it afterwards: the text summary, the page with charts, merging, comparing, thresholds.
//
// The result file is documented field by field in bench/results/README.md; a test holds the two together. Numbers keep
// their unit in their name. Percentiles are always read from histograms, never from other percentiles.
package summary

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Schema is the version of the result file that this package writes. It reads no other.
const Schema = 1

// Result is a result file.
type Result struct {
	Schema   int       `json:"schema"`
	Name     string    `json:"name"`
	Command  []string  `json:"command"`
	Started  time.Time `json:"started"`
	Software Software  `json:"software"`
	Machine  Machine   `json:"machine"`
	Series   []Series  `json:"series"`
	// Partial says why the run ended early; what was measured until then is here. Empty: it did not.
	Partial string   `json:"partial,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Merged is how many result files were put together; 0: none.
	Merged int `json:"merged,omitempty"`
}

// Software is what was built.
type Software struct {
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // the working copy differed from the commit
	Go       string `json:"go"`
}

// Machine is where the generator ran.
type Machine struct {
	System      string  `json:"system"`
	CPU         string  `json:"cpu"`
	Cores       int     `json:"cores"`
	MemoryBytes int64   `json:"memory_bytes"`
	LoadAverage float64 `json:"load_average"` // of the last minute, before the run
}

// The two kinds of load.
const (
	Open   = "open"   // sends follow the schedule, whatever the server does
	Closed = "closed" // a connection sends when it is free: finds saturation, says nothing about latency
)

// Series is one thing that was measured, in one or more rounds.
type Series struct {
	Name       string  `json:"name"`
	Server     string  `json:"server"` // waymark, nginx, bare, or other
	Durability string  `json:"durability,omitempty"`
	Target     string  `json:"target"`
	Loop       string  `json:"loop"`
	Load       Load    `json:"load"`
	Rounds     []Round `json:"rounds"`
}

// Load is how requests were sent.
type Load struct {
	Scenario       string  `json:"scenario"`
	ScenarioSHA256 string  `json:"scenario_sha256"`
	Seed           uint64  `json:"seed"`
	Arrivals       string  `json:"arrivals,omitempty"`
	Phases         []Phase `json:"phases,omitempty"`
	DurationNS     int64   `json:"duration_ns"`
	WarmupNS       int64   `json:"warmup_ns"` // left out of the totals and histograms of a round
	Connections    int     `json:"connections"`
	MaxConnections int     `json:"max_connections"`
	KeepAlive      bool    `json:"keep_alive"`
	TLS            bool    `json:"tls"`
	Workers        int     `json:"workers"`
	Engine         string  `json:"engine"` // event loop or streams
	LoadCPUs       string  `json:"load_cpus,omitempty"`
	ServerCPUs     string  `json:"server_cpus,omitempty"`
}

// Phase is a stretch of an open loop's schedule: from one rate to another, in requests per second.
type Phase struct {
	DurationNS int64   `json:"duration_ns"`
	From       float64 `json:"from"`
	To         float64 `json:"to"`
}

// Round is one run of a series.
type Round struct {
	Started    time.Time  `json:"started"`
	DurationNS int64      `json:"duration_ns"` // measured, without the warm-up
	Counts     Counts     `json:"counts"`
	Corrected  *Latency   `json:"corrected,omitempty"` // since the scheduled send; open loop only
	Service    *Latency   `json:"service"`             // since the real send
	SendDelay  *Latency   `json:"send_delay,omitempty"`
	Later      *Latency   `json:"conversions,omitempty"`
	Generator  Process    `json:"generator"`
	Servers    []Process  `json:"servers,omitempty"`
	Intervals  []Interval `json:"intervals"`
	Invalid    []string   `json:"invalid,omitempty"` // why the round says nothing about the server
	// Truth is what the clicks must have been counted as; see package scenario.
	Truth json.RawMessage `json:"truth,omitempty"`
}

// Counts are sums over a round or an interval.
type Counts struct {
	Offered    float64          `json:"offered"` // sends that the schedule asked for; closed loop: sends
	Sent       int64            `json:"sent"`
	Answered   int64            `json:"answered"`
	Late       int64            `json:"late"`      // sent more than 5 ms behind their schedule
	LateBusy   int64            `json:"late_busy"` // those of late that waited for a free connection
	Unexpected int64            `json:"unexpected"`
	Errors     map[string]int64 `json:"errors,omitempty"`   // refused, closed, timed_out, malformed, unsent
	Statuses   map[string]int64 `json:"statuses,omitempty"` // answers by status code
	Later      int64            `json:"conversions"`
	LaterBad   int64            `json:"conversions_failed"`
	Connects   int64            `json:"connects"`
	BytesIn    int64            `json:"bytes_in"`
	BytesOut   int64            `json:"bytes_out"`
}

// Failed returns how many requests got no answer, or another one than they had to.
func (c *Counts) Failed() int64 {
	n := c.Unexpected
	for _, e := range c.Errors {
		n += e
	}
	return n
}

func (c *Counts) add(o *Counts) {
	c.Offered += o.Offered
	c.Sent += o.Sent
	c.Answered += o.Answered
	c.Late += o.Late
	c.LateBusy += o.LateBusy
	c.Unexpected += o.Unexpected
	c.Later += o.Later
	c.LaterBad += o.LaterBad
	c.Connects += o.Connects
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Errors = sum(c.Errors, o.Errors)
	c.Statuses = sum(c.Statuses, o.Statuses)
}

func sum(a, b map[string]int64) map[string]int64 {
	if len(a)+len(b) == 0 {
		return nil
	}
	s := make(map[string]int64, len(a))
	for k, n := range a {
		s[k] += n
	}
	for k, n := range b {
		s[k] += n
	}
	return s
}

// Process is what a process used during a round.
type Process struct {
	Name         string  `json:"name"`
	CPUNS        int64   `json:"cpu_ns"`
	CPUPerAnswer float64 `json:"cpu_us_per_answer"`
	MaxRSSBytes  int64   `json:"max_rss_bytes"`
}

// Interval is a stretch of a round, usually one second.
type Interval struct {
	StartNS    int64    `json:"start_ns"` // since the start of the round, the warm-up included
	DurationNS int64    `json:"duration_ns"`
	Warmup     bool     `json:"warmup,omitempty"`
	Counts     Counts   `json:"counts"`
	Corrected  *Latency `json:"corrected,omitempty"`
	Service    *Latency `json:"service,omitempty"`
	Sample     *Sample  `json:"sample,omitempty"`
}

// Sample is how the system was at the end of an interval. What is unknown is null.
type Sample struct {
	GeneratorCPU float64  `json:"generator_cpu"` // cores
	ServerCPU    *float64 `json:"server_cpu"`    // cores, all of the stack's processes
	ServerRSS    *int64   `json:"server_rss_bytes"`
	LagRecords   *float64 `json:"lag_records"`         // journaled and not yet in the totals
	Freshness    *float64 `json:"freshness_seconds"`   // age of the dashboard's "data as of"
	Unjournaled  *float64 `json:"unjournaled_records"` // redirects whose click could not be written
}

// Invalid returns why any of the result's rounds is invalid, each reason once.
func (r *Result) Invalid() []string {
	var all []string
	seen := map[string]bool{}
	for _, s := range r.Series {
		for i, round := range s.Rounds {
			for _, why := range round.Invalid {
				text := fmt.Sprintf("%s, round %d: %s", s.Name, i+1, why)
				if !seen[text] {
					seen[text] = true
					all = append(all, text)
				}
			}
		}
	}
	return all
}

// Read reads a result file.
func Read(path string) (*Result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read result %s: %w", path, err)
	}
	r, err := Decode(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read result %s: %w", path, err)
	}
	return r, nil
}

// Decode reads a result.
func Decode(b []byte) (*Result, error) {
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if version.Schema == nil {
		return nil, errors.New("it is no result of waymark bench")
	}
	if *version.Schema != Schema {
		return nil, fmt.Errorf("it has schema %d, this program reads %d", *version.Schema, Schema)
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("it does not follow schema %d: %w", Schema, err)
	}
	for i := range r.Series {
		for j := range r.Series[i].Rounds {
			if err := r.Series[i].Rounds[j].check(); err != nil {
				return nil, fmt.Errorf("series %d, round %d: %w", i, j, err)
			}
		}
	}
	return &r, nil
}

func (r *Round) check() error {
	for _, l := range []*Latency{r.Corrected, r.Service, r.SendDelay, r.Later} {
		if err := l.check(); err != nil {
			return err
		}
	}
	for i := range r.Intervals {
		for _, l := range []*Latency{r.Intervals[i].Corrected, r.Intervals[i].Service} {
			if err := l.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Encode writes a result.
func (r *Result) Encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// Write writes a result file whole or not at all.
func (r *Result) Write(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // a pipe or device
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("cannot write result %s: %w", path, err)
		}
		err = r.Encode(f)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("cannot write result %s: %w", path, err)
		}
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write result %s: %w", path, err)
	}
	err = r.Encode(tmp)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("cannot write result %s: %w", path, err)
	}
	return nil
}
