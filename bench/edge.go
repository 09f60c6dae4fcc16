package bench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"waymark/bench/scenario"
	"waymark/bench/stack"
	"waymark/bench/summary"
)

//go:embed edge.yaml
var edgeScenario []byte

// EdgeConfig is what `waymark bench edge` needs.
type EdgeConfig struct {
	Binary      string
	Engine      string
	Servers     []string      // bare, nginx, write, sync (default: all)
	Connections []int         // (default: 64, 256, 1024)
	Rounds      int           // (default 5)
	Duration    time.Duration // of each measurement (default 5 s)
	Warmup      time.Duration // before each (default 1 s)
	OpenLoop    bool          // also measure latency, at half of each server's own saturation
	ServerCPUs  string        // (default 0)
	LoadCPUs    string        // (default 1)
	Dir         string        // where the servers' data lies, on the disk that is to be measured (default: the temporary folder)
	Out         string
	Command     []string
	Progress    io.Writer
	Terminal    bool
}

// Defaults fills in what was left out.
func (c *EdgeConfig) Defaults() {
	if len(c.Servers) == 0 {
		c.Servers = []string{"bare", "nginx", "write", "sync"}
	}
	if len(c.Connections) == 0 {
		c.Connections = []int{64, 256, 1024}
	}
	set(&c.Rounds, 5)
	set(&c.Duration, 5*time.Second)
	set(&c.Warmup, time.Second)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
}

// Validate names the first setting that cannot be.
func (c *EdgeConfig) Validate() error {
	for _, s := range c.Servers {
		if !slices.Contains([]string{"bare", "nginx", "write", "sync"}, s) {
			return usagef("--servers must be of bare, nginx, write and sync, got %q", s)
		}
	}
	for _, n := range c.Connections {
		if n < 1 || n > 100_000 {
			return usagef("--connections must be 1 to 100000, got %d", n)
		}
	}
	if c.Rounds < 1 || c.Duration <= 0 || c.Warmup < 0 {
		return usagef("--rounds and --duration must be positive, got %d and %v", c.Rounds, c.Duration)
	}
	server, err := stack.ParseCPUs(c.ServerCPUs)
	if err != nil {
		return usagef("--server-cpus: %w", err)
	}
	load, err := stack.ParseCPUs(c.LoadCPUs)
	if err != nil {
		return usagef("--load-cpus: %w", err)
	}
	for _, cpu := range server {
		if slices.Contains(load, cpu) {
			return usagef("--server-cpus %s and --load-cpus %s must not overlap: the generator would be measured", c.ServerCPUs, c.LoadCPUs)
		}
	}
	return nil
}

// edge is a measurement of several servers side by side.
type edge struct {
	config   EdgeConfig
	scenario func() (*scenario.Scenario, error)
	dir      string
	cpus     []int
	seed     string // data folder of a system that has the links
	file     scenario.ProgramFile
	series   map[string]*summary.Series
	order    []string
}

// Edge measures the servers one after another, in every round each of them once, so that what changes on the machine in
// the meantime meets all of them.
func Edge(ctx context.Context, c EdgeConfig) (*summary.Result, error) {
	c.Defaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := &edge{config: c, series: map[string]*summary.Series{}, scenario: func() (*scenario.Scenario, error) { return scenario.Parse("edge.yaml", edgeScenario) }}
	e.cpus, _ = stack.ParseCPUs(c.ServerCPUs)
	load, _ := stack.ParseCPUs(c.LoadCPUs)
	result := newResult(&Config{Command: c.Command}, "edge")
	if err := stack.Pin(load); err != nil {
		return nil, err
	}
	out, err := newPartial(c.Out)
	if err != nil {
		return nil, err
	}
	if e.dir, err = os.MkdirTemp(c.Dir, "waymark-edge-"); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a data folder: %w", err), out.discard())
	}
	err = e.rounds(ctx, out)
	err = errors.Join(err, os.RemoveAll(e.dir))
	for _, name := range e.order {
		result.Series = append(result.Series, *e.series[name])
	}
	if len(result.Series) == 0 {
		return nil, errors.Join(err, out.discard())
	}
	if err != nil {
		result.Partial = err.Error()
	}
	return result, errors.Join(err, out.finish(result))
}

func (e *edge) rounds(ctx context.Context, out *partial) error {
	if slices.Contains(e.config.Servers, "write") || slices.Contains(e.config.Servers, "sync") {
		if err := e.prepare(ctx); err != nil {
			return err
		}
	}
	for round := range e.config.Rounds {
		for _, server := range e.config.Servers {
			fmt.Fprintf(e.config.Progress, "round %d of %d: %s\n", round+1, e.config.Rounds, server)
			if err := e.server(ctx, server, out); err != nil {
				return fmt.Errorf("%s, round %d: %w", server, round+1, err)
			}
		}
	}
	return nil
}

// prepare makes a data folder whose edge knows the links: the whole system runs once, until its edge has them.
func (e *edge) prepare(ctx context.Context) error {
	e.seed = filepath.Join(e.dir, "seed")
	if err := os.Mkdir(e.seed, 0o755); err != nil {
		return fmt.Errorf("cannot make a data folder: %w", err)
	}
	s, err := e.scenario()
	if err != nil {
		return err
	}
	server, err := stack.StartUp(ctx, e.config.Binary, e.seed, "sync", e.config.Engine, nil)
	if err != nil {
		return err
	}
	e.file = scenario.ProgramFile{Key: "bench-edge", Host: edgeHost, Destination: landing, ConversionsKey: "wmc_bench_" + secret(), Email: "edge@bench.test"}
	t := target{url: "http://" + server.Address, host: edgeHost, admin: stack.NewAdmin(server.Ready.Admin)}
	err = t.admin.Apply(ctx, s.Program(e.file))
	if err == nil {
		err = t.live(ctx, scenario.Slug(s.LinkCount()-1))
	}
	return errors.Join(err, stop(ctx, server))
}

const edgeHost = "go.bench.test"

func stop(ctx context.Context, s *stack.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return s.Stop(ctx)
}

// start starts one of the servers on a fresh folder.
func (e *edge) start(ctx context.Context, name, dir string) (*stack.Server, error) {
	switch name {
	case "bare":
		s, err := e.scenario()
		if err != nil {
			return nil, err
		}
		return stack.StartBare(ctx, e.config.Binary, dir, edgeHost, s.LinkCount(), e.cpus)
	case "nginx":
		return stack.StartNginx(ctx, dir, edgeHost, landing+"/landing?link=0", e.cpus)
	}
	for _, part := range []string{"tracker", "secrets"} { // what an edge needs of the folder, the rest is the others'
		if err := copyTree(filepath.Join(dir, "data", part), filepath.Join(e.seed, "data", part)); err != nil {
			return nil, fmt.Errorf("cannot copy the edge's data: %w", err)
		}
	}
	return stack.StartTracker(ctx, e.config.Binary, dir, name, e.cpus)
}

func copyTree(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.CopyFS(to, os.DirFS(from))
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// server measures one server at every number of connections.
func (e *edge) server(ctx context.Context, name string, out *partial) error {
	dir := filepath.Join(e.dir, "server")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a data folder: %w", err)
	}
	server, err := e.start(ctx, name, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	t := &target{url: "http://" + server.Address, address: server.Address, host: edgeHost, processes: []*stack.Process{server.Process}, foreign: true, run: "edge"}
	if server.Ready.Admin != "" {
		t.admin = stack.NewAdmin(server.Ready.Admin)
	}
	for _, connections := range e.config.Connections {
		saturation, err := e.measure(ctx, name, t, out, Config{Connections: connections, Closed: true})
		if err == nil && e.config.OpenLoop {
			_, err = e.measure(ctx, name, t, out, Config{Connections: connections, MaxConnections: connections, Rate: saturation / 2})
		}
		if err != nil {
			return errors.Join(err, stop(ctx, server), os.RemoveAll(dir))
		}
	}
	return errors.Join(stop(ctx, server), os.RemoveAll(dir))
}

// measure makes one round of a series and returns its throughput.
func (e *edge) measure(ctx context.Context, name string, t *target, out *partial, c Config) (float64, error) {
	c.Duration, c.Warmup, c.Arrivals = e.config.Duration, e.config.Warmup, "poisson"
	c.ServerCPUs, c.LoadCPUs = e.config.ServerCPUs, e.config.LoadCPUs
	c.Progress, c.Terminal = e.config.Progress, e.config.Terminal
	c.Defaults()
	s, err := e.scenario()
	if err != nil {
		return 0, err
	}
	p, err := c.planFor(s)
	if err != nil {
		return 0, err
	}
	loop := summary.Open
	if c.Closed {
		loop = summary.Closed
	}
	key := fmt.Sprintf("%s, %s loop, %d connections", name, loop, c.Connections)
	series := e.series[key]
	if series == nil {
		described := seriesOf(&c, p, t)
		described.Name, described.Server, described.Durability, described.Target = key, name, "", "a server of the run's own"
		if name == "write" || name == "sync" {
			described.Server, described.Durability = "waymark", name
		}
		series = &described
		e.series[key] = series
		e.order = append(e.order, key)
	}
	r := &round{config: &c, plan: p, target: t, out: out, closed: c.Closed}
	measured, err := r.run(ctx)
	endProgress(&c)
	if len(measured.Intervals) > 0 {
		series.Rounds = append(series.Rounds, *measured)
	}
	if measured.Counts.Failed() > 0 && err == nil && c.Closed {
		err = fmt.Errorf("%d of %d requests failed: %v, %v", measured.Counts.Failed(), measured.Counts.Sent, measured.Counts.Errors, measured.Counts.Statuses)
	}
	return float64(measured.Counts.Answered) * 1e9 / float64(max(measured.DurationNS, 1)), err
}
