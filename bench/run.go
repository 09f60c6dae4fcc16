package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"waymark/bench/pacer"
	"waymark/bench/stack"
	"waymark/bench/summary"
)

// Run makes a run. When it fails after something was measured, it returns the result with the error, marked as
// partial; the result file is written in both cases.
func Run(ctx context.Context, c Config) (*summary.Result, error) {
	c.Defaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p, err := c.planOf()
	if err != nil {
		return nil, err
	}
	cpus, err := stack.ParseCPUs(c.LoadCPUs)
	if err != nil {
		return nil, usagef("--load-cpus: %w", err)
	}
	result := newResult(&c, p.Name)
	if err := stack.Pin(cpus); err != nil {
		return nil, err
	}
	out, err := newPartial(c.Out)
	if err != nil {
		return nil, err
	}
	s, err := newSystem(ctx, &c)
	if err != nil {
		return nil, errors.Join(err, out.discard())
	}
	series := seriesOf(&c, p, &s.base)
	err = s.rounds(ctx, p, out, &series)
	err = errors.Join(err, s.close(ctx))
	measured := len(series.Rounds) > 0 && len(series.Rounds[0].Intervals) > 0
	if !measured {
		return nil, errors.Join(err, out.discard())
	}
	result.Series = []summary.Series{series}
	if err != nil {
		result.Partial = err.Error()
	}
	return result, errors.Join(err, out.finish(result))
}

// rounds runs the rounds one after another, each with its own program.
func (s *system) rounds(ctx context.Context, p *plan, out *partial, series *summary.Series) error {
	for i := range s.config.Rounds {
		if s.config.Rounds > 1 {
			fmt.Fprintf(s.config.Progress, "round %d of %d\n", i+1, s.config.Rounds)
		}
		if err := s.round(ctx, p, out, series); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) round(ctx context.Context, p *plan, out *partial, series *summary.Series) error {
	t, err := s.program(ctx, p)
	if err != nil {
		return err
	}
	r := &round{config: s.config, plan: p, target: t, out: out, closed: s.config.Closed}
	measured, err := r.run(ctx)
	endProgress(s.config)
	if len(measured.Intervals) > 0 {
		series.Rounds = append(series.Rounds, *measured)
	}
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted after %v", time.Since(r.began).Round(time.Second))
	}
	return errors.Join(err, s.remove(ctx, p, t))
}

// newResult returns an empty result with everything that is known before the run.
func newResult(c *Config, name string) *summary.Result {
	if c.Name != "" {
		name = c.Name
	}
	r := &summary.Result{Schema: summary.Schema, Name: name, Command: c.Command, Started: time.Now().UTC().Truncate(time.Millisecond), Software: software()}
	m := &r.Machine
	m.System, m.CPU, m.Cores, m.MemoryBytes, m.LoadAverage = stack.Machine()
	return r
}

// software says what was built: as the build has noted it, or else as the working copy around the binary stands.
func software() summary.Software {
	s := summary.Software{Commit: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			s.Commit = setting.Value
		case "vcs.modified":
			s.Modified = setting.Value == "true"
		}
	}
	binary, err := os.Executable()
	if s.Commit != "unknown" || err != nil {
		return s
	}
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", filepath.Dir(binary)}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	if commit, err := git("rev-parse", "HEAD"); err == nil {
		s.Commit = commit
		changes, err := git("status", "--porcelain", "--untracked-files=no")
		s.Modified = err != nil || changes != ""
	}
	return s
}

// seriesOf describes what will be measured.
func seriesOf(c *Config, p *plan, t *target) summary.Series {
	s := summary.Series{Name: p.Name, Server: "waymark", Target: t.url, Loop: summary.Open}
	if t.foreign {
		s.Server = "other"
	}
	if c.Target == "" {
		s.Durability = c.Durability
		s.Target = "a stack of the run's own"
	}
	s.Load = summary.Load{
		Scenario: p.Name, ScenarioSHA256: p.sha256, Seed: p.Seed,
		DurationNS: int64(p.duration - p.warmup), WarmupNS: int64(p.warmup), Connections: p.Load.Connections, MaxConnections: p.Load.MaxConnections,
		KeepAlive: *p.Load.KeepAlive, TLS: t.tls != nil, Workers: c.Workers, Engine: "event loop", LoadCPUs: c.LoadCPUs, ServerCPUs: c.ServerCPUs,
	}
	if c.Streams || t.tls != nil || runtime.GOOS != "linux" {
		s.Load.Engine = "streams"
	}
	if c.Closed {
		s.Loop = summary.Closed
		s.Load.MaxConnections = s.Load.Connections
		return s
	}
	s.Load.Arrivals = p.Load.Arrivals
	s.Load.Phases = phasesOf(p.profile, p.warmup)
	return s
}

// phasesOf returns the measured phases of a profile.
func phasesOf(profile pacer.Profile, warmup time.Duration) []summary.Phase {
	if warmup > 0 {
		profile = profile[1:]
	}
	var phases []summary.Phase
	for _, p := range profile {
		phases = append(phases, summary.Phase{DurationNS: int64(p.Duration), From: p.From, To: p.To})
	}
	return phases
}
