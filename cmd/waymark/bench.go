package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"waymark/bench"
	"waymark/bench/scenario"
	"waymark/bench/summary"
)

// exitMissed is bench's own exit code: what was measured misses a threshold, is invalid, or is slower.
const exitMissed = 99

// missedError says that a measurement is not what was asked for. It has exit code 99.
type missedError struct{ error }

func (missedError) exitCode() int { return exitMissed }

type benchCommand struct {
	Run       benchRunCommand       `cmd:"" help:"Send a scenario's clicks and conversions, and measure."`
	Edge      benchEdgeCommand      `cmd:"" help:"Measure the edge beside a bare server and nginx, interleaved."`
	Compare   benchCompareCommand   `cmd:"" help:"Compare two results, and say whether the second one is slower. Exit code 99: it is."`
	Merge     benchMergeCommand     `cmd:"" help:"Put together the results of several generators of one run."`
	Report    benchReportCommand    `cmd:"" help:"Print a result as text, page or table."`
	Scenarios benchScenariosCommand `cmd:"" help:"List the scenarios that come with bench, or print one."`
	Targets   benchTargetsCommand   `cmd:"" help:"Print a scenario's requests for vegeta or k6."`
	Program   benchProgramCommand   `cmd:"" help:"Print the program file with a scenario's links, for 'waymark admin apply'."`
	Bare      benchBareCommand      `cmd:"" hidden:"" help:"Serve what the edge is measured against: a lookup and a 302."`
}

// outcomeFlags are what is done with a result.
type outcomeFlags struct {
	Out        string `placeholder:"FILE" help:"Write the result, with raw histograms, as JSON."`
	HTML       string `placeholder:"FILE" help:"Write one page with charts that needs nothing else."`
	Thresholds string `placeholder:"FILE" help:"What must be reached, in lines such as \"corrected.p99: <= 5ms\". Exit code 99: it was not."`
}

func (f *outcomeFlags) read() (summary.Thresholds, error) {
	if f.Thresholds == "" {
		return nil, nil
	}
	b, err := os.ReadFile(f.Thresholds)
	if err != nil {
		return nil, usagef("cannot read --thresholds %s: %w", f.Thresholds, err)
	}
	t, err := summary.ParseThresholds(f.Thresholds, b)
	if err != nil {
		return nil, usageError{err}
	}
	return t, nil
}

// finish prints a result and returns what it comes to. The run's own error goes before all.
func (f *outcomeFlags) finish(out *output, r *summary.Result, runErr error, limits summary.Thresholds) error {
	if r == nil {
		return benchError(runErr)
	}
	err := r.WriteText(out.stdout)
	if f.HTML != "" {
		err = errors.Join(err, writeFile(f.HTML, r.WriteHTML))
	}
	if runErr != nil {
		return benchError(runErr)
	}
	if err != nil {
		return err
	}
	if missed := limits.Check(r); len(missed) > 0 {
		return missedError{errors.New(strings.Join(missed, "; "))}
	}
	return nil
}

// benchError gives a mistake of the user's its exit code.
func benchError(err error) error {
	var usage *bench.UsageError
	if errors.As(err, &usage) {
		return usageError{err}
	}
	return err
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// isTerminal reports whether lines may be overwritten.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// commandLine is how this process was started, with its folder left out.
func commandLine() []string {
	return append([]string{"waymark"}, os.Args[1:]...)
}

type benchRunCommand struct {
	Scenario       string        `arg:"" help:"A scenario file, or the name of one that comes with bench; see 'waymark bench scenarios'."`
	Seed           uint64        `help:"Seed of everything random (default: the scenario's)."`
	Rate           string        `placeholder:"N" help:"Requests per second, instead of the scenario's phases; max with --closed."`
	Scale          float64       `placeholder:"F" help:"Multiply every rate of the scenario."`
	Duration       time.Duration `help:"Stretch or cut the scenario to this length."`
	Warmup         time.Duration `help:"Send for so long before each round, unmeasured."`
	Arrivals       string        `enum:"even,poisson," default:"" help:"Spread of the sends: even or poisson (default: the scenario's)."`
	Connections    int           `placeholder:"N" help:"Connections at the start (default: the scenario's)."`
	MaxConnections int           `placeholder:"N" help:"As many may be opened when all are busy (default: the scenario's)."`
	Closed         bool          `help:"Closed loop: send whenever a connection is free. Finds saturation, says nothing about latency."`
	NewConnections bool          `help:"One connection per request."`
	Rounds         int           `default:"1" help:"Measure so many times; compare needs five to know the noise (default: ${default})."`
	Workers        int           `default:"1" help:"Event loops, each of which takes a core (default: ${default})."`
	Timeout        time.Duration `default:"10s" help:"Of one request (default: ${default})."`
	GiveUp         time.Duration `default:"10s" help:"End a round in which nothing is answered for so long (default: ${default})."`
	Streams        bool          `help:"Use a goroutine per connection instead of the event loop, as TLS always does."`

	Target   string `placeholder:"URL" help:"Base URL of a running tracker (default: start the whole system, and stop it afterwards)."`
	Admin    string `placeholder:"URL" help:"Admin address of the dashboard behind --target. The run makes its own program there and ends it."`
	Insecure bool   `help:"Do not verify the target's certificate."`
	Foreign  bool   `help:"The target is not Waymark: make no program, expect a 302 from every link."`
	Host     string `default:"bench.test" help:"Host header for a --foreign target (default: ${default})."`

	Engine     string `placeholder:"FILE" help:"Path of libchdb.so, for the system that is started."`
	Durability string `enum:"sync,write" default:"sync" help:"Durability of the system that is started: sync or write (default: ${default})."`
	ServerCPUs string `name:"server-cpus" placeholder:"LIST" help:"CPUs of the system that is started, such as 0 or 0-3."`
	LoadCPUs   string `name:"load-cpus" placeholder:"LIST" help:"CPUs of the generator."`
	Keep       bool   `help:"Keep the data folder of the system that is started."`
	Name       string `help:"Name of the result (default: the scenario's)."`
	outcomeFlags
}

// Run makes a run.
func (c *benchRunCommand) Run(ctx context.Context, out *output) error {
	limits, err := c.outcomeFlags.read()
	if err != nil {
		return err
	}
	rate := 0.0
	if c.Rate != "" && (c.Rate != "max" || !c.Closed) {
		if _, err := fmt.Sscanf(c.Rate, "%g", &rate); err != nil || rate <= 0 {
			return usagef("--rate must be a number of requests per second, or max with --closed, got %q", c.Rate)
		}
	}
	cfg := bench.Config{
		Scenario: c.Scenario, Seed: c.Seed, Rate: rate, Scale: c.Scale, Duration: c.Duration, Arrivals: c.Arrivals, Connections: c.Connections,
		MaxConnections: c.MaxConnections, Closed: c.Closed, NewConnections: c.NewConnections, Workers: c.Workers, Rounds: c.Rounds, Warmup: c.Warmup,
		Timeout: c.Timeout, GiveUp: c.GiveUp, Streams: c.Streams, Target: c.Target, Admin: c.Admin, Insecure: c.Insecure, Foreign: c.Foreign, Host: c.Host,
		Engine: c.Engine, Durability: c.Durability, ServerCPUs: c.ServerCPUs, LoadCPUs: c.LoadCPUs, Keep: c.Keep, Out: c.Out, Name: c.Name,
		Command: commandLine(), Progress: out.stderr, Terminal: isTerminal(out.stderr),
	}
	if cfg.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	r, err := bench.Run(ctx, cfg)
	return c.finish(out, r, err, limits)
}

type benchEdgeCommand struct {
	Servers     []string      `default:"bare,nginx,write,sync" help:"What to measure (default: ${default})."`
	Connections []int         `default:"64,256,1024" help:"Numbers of connections (default: ${default})."`
	Rounds      int           `default:"5" help:"Rounds, in each of which every server is measured once (default: ${default})."`
	Duration    time.Duration `default:"5s" help:"Of each measurement (default: ${default})."`
	Warmup      time.Duration `default:"1s" help:"Before each measurement (default: ${default})."`
	OpenLoop    bool          `default:"true" negatable:"" help:"Also measure latency, in an open loop at half of each server's saturation."`
	ServerCPUs  string        `name:"server-cpus" default:"0" help:"CPUs of the servers (default: ${default})."`
	LoadCPUs    string        `name:"load-cpus" default:"1" help:"CPUs of the generator (default: ${default})."`
	Dir         string        `placeholder:"FOLDER" help:"Where the servers' data lies, on the disk that is to be measured (default: the temporary folder)."`
	Engine      string        `placeholder:"FILE" help:"Path of libchdb.so."`
	outcomeFlags
}

// Run measures the edge.
func (c *benchEdgeCommand) Run(ctx context.Context, out *output) error {
	limits, err := c.outcomeFlags.read()
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	r, err := bench.Edge(ctx, bench.EdgeConfig{
		Binary: binary, Engine: c.Engine, Servers: c.Servers, Connections: c.Connections, Rounds: c.Rounds, Duration: c.Duration, Warmup: c.Warmup,
		OpenLoop: c.OpenLoop, ServerCPUs: c.ServerCPUs, LoadCPUs: c.LoadCPUs, Dir: c.Dir, Out: c.Out, Command: commandLine(),
		Progress: out.stderr, Terminal: isTerminal(out.stderr),
	})
	return c.finish(out, r, err, limits)
}

type benchCompareCommand struct {
	Old string `arg:"" help:"The result to compare with."`
	New string `arg:"" help:"The result to judge."`
}

// Run compares two results.
func (c *benchCompareCommand) Run(out *output) error {
	older, err := summary.Read(c.Old)
	if err != nil {
		return usageError{err}
	}
	newer, err := summary.Read(c.New)
	if err != nil {
		return usageError{err}
	}
	comparison, err := summary.Compare(older, newer)
	if err != nil {
		return usageError{err}
	}
	if err := comparison.Write(out.stdout); err != nil {
		return err
	}
	if comparison.Verdict == summary.Slower || comparison.Verdict == summary.Mixed {
		return missedError{fmt.Errorf("%s is %s than %s", c.New, comparison.Verdict, c.Old)}
	}
	return nil
}

type benchMergeCommand struct {
	Results []string `arg:"" help:"Result files of one run."`
	outcomeFlags
}

// Run merges results.
func (c *benchMergeCommand) Run(out *output) error {
	limits, err := c.outcomeFlags.read()
	if err != nil {
		return err
	}
	var results []*summary.Result
	for _, path := range c.Results {
		r, err := summary.Read(path)
		if err != nil {
			return usageError{err}
		}
		results = append(results, r)
	}
	merged, err := summary.Merge(results)
	if err != nil {
		return usageError{err}
	}
	if c.Out != "" {
		if err := merged.Write(c.Out); err != nil {
			return err
		}
	}
	return c.finish(out, merged, nil, limits)
}

type benchReportCommand struct {
	Result string `arg:"" help:"A result file."`
	Format string `enum:"text,html,table" default:"text" help:"text, html, or table: the edge figures in Markdown (default: ${default})."`
}

// Run prints a result.
func (c *benchReportCommand) Run(out *output) error {
	r, err := summary.Read(c.Result)
	if err != nil {
		return usageError{err}
	}
	switch c.Format {
	case "html":
		return r.WriteHTML(out.stdout)
	case "table":
		return r.WriteTable(out.stdout)
	}
	return r.WriteText(out.stdout)
}

type benchScenariosCommand struct {
	Name string `arg:"" optional:"" help:"Print this one."`
}

// Run lists the scenarios.
func (c *benchScenariosCommand) Run(out *output) error {
	if c.Name != "" {
		b, ok := scenario.Preset(c.Name)
		if !ok {
			return usagef("there is no scenario %q: it is one of %s", c.Name, strings.Join(scenario.Presets(), ", "))
		}
		_, err := out.stdout.Write(b)
		return err
	}
	for _, name := range scenario.Presets() {
		s, err := scenario.Read(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out.stdout, "%-12s %s\n", name, s.About)
	}
	return nil
}

type benchTargetsCommand struct {
	Scenario       string `arg:"" help:"A scenario file, or the name of one that comes with bench."`
	Format         string `enum:"vegeta,k6" default:"vegeta" help:"vegeta or k6 (default: ${default})."`
	Count          int    `default:"10000" help:"Requests (default: ${default})."`
	Seed           uint64 `help:"Seed of everything random (default: the scenario's)."`
	Base           string `default:"http://127.0.0.1:7080" placeholder:"URL" help:"Base URL of the tracker (default: ${default})."`
	Host           string `default:"bench.test" help:"Host of the links (default: ${default})."`
	CollectCookies bool   `help:"Make each visitor's first click now, leave it out, and put its cookie into the later ones."`
}

// Run prints requests.
func (c *benchTargetsCommand) Run(ctx context.Context, out *output) error {
	return benchError(bench.Targets(ctx, out.stdout, bench.TargetsConfig{Scenario: c.Scenario, Seed: c.Seed, Count: c.Count, Format: c.Format, Base: c.Base, Host: c.Host, Collect: c.CollectCookies}))
}

type benchProgramCommand struct {
	Scenario string `arg:"" help:"A scenario file, or the name of one that comes with bench."`
	Host     string `default:"bench.test" help:"Host of the links (default: ${default})."`
}

// Run prints a program file.
func (c *benchProgramCommand) Run(out *output) error {
	return benchError(bench.TargetsProgram(out.stdout, bench.TargetsConfig{Scenario: c.Scenario, Host: c.Host}))
}

type benchBareCommand struct {
	Listen    string `default:"127.0.0.1:0"`
	Host      string `default:"bench.test"`
	Links     int    `default:"1000"`
	ReadyFile string `placeholder:"FILE"`
}

// Run serves until the context ends.
func (c *benchBareCommand) Run(ctx context.Context) error {
	return benchError(bench.Bare(ctx, bench.BareConfig{Listen: c.Listen, Host: c.Host, Links: c.Links, ReadyFile: c.ReadyFile}))
}
