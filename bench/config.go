package bench

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"waymark/bench/pacer"
	"waymark/bench/scenario"
	"waymark/bench/stack"
)

// Config is what a run needs.
type Config struct {
	// Scenario is the name of a preset or the path of a scenario file.
	Scenario string
	// Seed, Rate, Scale, Duration, Arrivals, Connections and MaxConnections override the scenario's own; zero: they do not.
	// Rate replaces the phases by one constant rate; Scale multiplies every rate; Duration stretches or cuts the phases.
	Seed           uint64
	Rate           float64
	Scale          float64
	Duration       time.Duration
	Arrivals       string
	Connections    int
	MaxConnections int
	// Closed sends whenever a connection is free instead of following the schedule.
	Closed         bool
	NewConnections bool
	Workers        int           // default 1
	Rounds         int           // default 1
	Warmup         time.Duration // before each round, at its first rate; not measured
	Timeout        time.Duration // of one request (default 10 s)
	GiveUp         time.Duration // ends a round in which nothing is answered for so long (default 10 s)
	Streams        bool          // a goroutine per connection, also where the event loop would do

	// Target is the base URL of a running tracker; empty: a stack is started. Admin is the admin address of its dashboard,
	// where the run makes its program.
	Target   string
	Admin    string
	Insecure bool // do not verify the target's certificate
	// Foreign says that the target is not Waymark: no program is made, and everything is sent to Host.
	Foreign bool
	Host    string

	// What is started when there is no target.
	Binary     string // the shipped binary
	Engine     string // path of libchdb.so; empty: where the binary looks for it
	Durability string // sync (default) or write
	ServerCPUs string
	LoadCPUs   string
	Keep       bool // keep the stack's data folder

	// Out is the result file; empty: none is written.
	Out string
	// Name of the result (default: the scenario's).
	Name string
	// Command is how the run was asked for, for the result file.
	Command []string
	// Progress takes a line per interval; nil: nobody.
	Progress io.Writer
	// Terminal says that Progress is a terminal, where a line is overwritten by the next.
	Terminal bool
}

// Defaults fills in what was left out.
func (c *Config) Defaults() {
	set(&c.Workers, 1)
	set(&c.Rounds, 1)
	set(&c.Timeout, 10*time.Second)
	set(&c.GiveUp, 10*time.Second)
	set(&c.Durability, "sync")
	set(&c.Host, "bench.test")
	if c.Progress == nil {
		c.Progress = io.Discard
	}
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// UsageError is a mistake in the settings or in a file that they name.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Validate names the first setting that cannot be.
func (c *Config) Validate() error {
	switch {
	case c.Scenario == "":
		return usagef("--scenario is missing: a file, or one of %v", scenario.Presets())
	case c.Rate < 0 || c.Rate > 1e7:
		return usagef("--rate must be 0 to 10000000 requests/s, got %v", c.Rate)
	case c.Scale < 0:
		return usagef("--scale must be positive, got %v", c.Scale)
	case c.Duration < 0:
		return usagef("--duration must be positive, got %v", c.Duration)
	case c.Warmup < 0:
		return usagef("--warmup must not be negative, got %v", c.Warmup)
	case c.Rounds < 1 || c.Rounds > 1000:
		return usagef("--rounds must be 1 to 1000, got %d", c.Rounds)
	case c.Durability != "sync" && c.Durability != "write":
		return usagef("--durability must be sync or write, got %q", c.Durability)
	case c.Closed && c.Rate > 0:
		return usagef("--rate %v and a closed loop exclude each other: a closed loop sends as fast as it is answered", c.Rate)
	case c.Arrivals != "" && c.Arrivals != "even" && c.Arrivals != "poisson":
		return usagef("--arrivals must be even or poisson, got %q", c.Arrivals)
	}
	for flag, list := range map[string]string{"--server-cpus": c.ServerCPUs, "--load-cpus": c.LoadCPUs} {
		if _, err := stack.ParseCPUs(list); err != nil {
			return usagef("%s: %w", flag, err)
		}
	}
	return c.validateTarget()
}

func (c *Config) validateTarget() error {
	if c.Target == "" {
		if c.Binary == "" {
			return usagef("--target is missing, and there is no binary to start")
		}
		return nil
	}
	u, err := url.Parse(c.Target)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/") {
		err = errors.New("want http://host:port or https://host:port")
	}
	if err != nil {
		return usagef("--target %s: %w", c.Target, err)
	}
	if c.Admin == "" && !c.Foreign {
		return usagef("--admin is missing: the run makes its own program through the admin address of the dashboard behind --target (for a server that is not Waymark: --foreign)")
	}
	if c.ServerCPUs != "" {
		return usagef("--server-cpus pins what the run starts; a --target that runs already pins itself")
	}
	return nil
}

// plan is a scenario with the command line's changes.
type plan struct {
	*scenario.Scenario
	profile  pacer.Profile
	duration time.Duration // with the warm-up
	warmup   time.Duration // in whole intervals
	interval time.Duration
	sha256   string
}

// profileOf returns the scenario's phases as a profile.
func profileOf(s *scenario.Scenario) pacer.Profile {
	var p pacer.Profile
	for _, phase := range s.Load.Phases {
		d := time.Duration(phase.Duration)
		switch {
		case len(phase.Steps) > 0:
			p = append(p, pacer.Steps(phase.Steps, d/time.Duration(len(phase.Steps)))...)
		case phase.Rate > 0:
			p = append(p, pacer.Constant(phase.Rate, d)...)
		default:
			p = append(p, pacer.Ramp(phase.From, phase.To, d)...)
		}
	}
	return p
}

// planOf reads the scenario and applies the command line to it.
func (c *Config) planOf() (*plan, error) {
	s, err := scenario.Read(c.Scenario)
	if err != nil {
		return nil, &UsageError{err}
	}
	return c.planFor(s)
}

func (c *Config) planFor(s *scenario.Scenario) (*plan, error) {
	if c.Seed != 0 {
		s.Seed = c.Seed
	}
	if c.Arrivals != "" {
		s.Load.Arrivals = c.Arrivals
	}
	if c.Connections != 0 {
		s.Load.Connections = c.Connections
		s.Load.MaxConnections = max(s.Load.MaxConnections, c.Connections)
	}
	if c.MaxConnections != 0 {
		s.Load.MaxConnections = c.MaxConnections
	}
	if c.NewConnections || s.Visitors.Addresses == scenario.Proxy {
		*s.Load.KeepAlive = false
	}
	p := &plan{Scenario: s, profile: profileOf(s)}
	if c.Rate > 0 {
		p.profile = pacer.Constant(c.Rate, p.profile.Duration())
	}
	if c.Scale > 0 {
		p.profile = p.profile.Scaled(c.Scale)
	}
	if c.Duration > 0 {
		p.profile = p.profile.Stretched(c.Duration)
	}
	p.interval = interval(p.profile.Duration() + c.Warmup)
	if c.Warmup > 0 {
		p.warmup = (c.Warmup + p.interval - 1) / p.interval * p.interval
		p.profile = append(pacer.Constant(max(p.profile[0].From, 1), p.warmup), p.profile...)
	}
	if err := p.profile.Validate(); err != nil {
		return nil, usagef("%s: %w", c.Scenario, err)
	}
	p.duration = p.profile.Duration()
	if !c.Closed && s.Load.MaxConnections < s.Load.Connections {
		return nil, usagef("--max-connections must be at least --connections (%d), got %d", s.Load.Connections, s.Load.MaxConnections)
	}
	return p, p.hash()
}
