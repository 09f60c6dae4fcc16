package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"waymark/bench/scenario"
	"waymark/bench/stack"
)

type hdr = hdrhistogram.Histogram

// target is what a round is sent to.
type target struct {
	url       string
	address   string // host:port
	host      string // Host header
	tls       *tls.Config
	admin     *stack.Admin     // nil: nobody to ask
	processes []*stack.Process // those that were started here
	foreign   bool
	file      scenario.ProgramFile // the program that was made here
	run       string
}

func (t *target) scenarioTarget() scenario.Target {
	return scenario.Target{Host: t.host, ConversionsKey: t.file.ConversionsKey, Run: t.run}
}

// err returns why a process of the stack has ended.
func (t *target) err() error {
	for _, p := range t.processes {
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

// landing is where the links of a run lead to. Nobody follows them.
const landing = "https://landing.bench.test"

// system is what a run works on: a stack of its own, or somebody's.
type system struct {
	config *Config
	base   target
	server *stack.Server // nil: not ours
	dir    string
}

// newSystem starts a stack, or looks at the running system.
func newSystem(ctx context.Context, c *Config) (*system, error) {
	s := &system{config: c}
	if c.Target == "" {
		return s, s.start(ctx)
	}
	u, err := url.Parse(c.Target)
	if err != nil {
		return nil, usagef("--target %s: %w", c.Target, err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	s.base = target{url: c.Target, address: net.JoinHostPort(u.Hostname(), port), host: c.Host, foreign: c.Foreign}
	s.base.tls = tlsFor(u.Scheme, u.Hostname(), c.Insecure)
	if c.Admin != "" {
		s.base.admin = stack.NewAdmin(c.Admin)
	}
	return s, s.reachable(ctx)
}

// start starts the shipped binary.
func (s *system) start(ctx context.Context) error {
	cpus, err := stack.ParseCPUs(s.config.ServerCPUs)
	if err != nil {
		return usagef("--server-cpus: %w", err)
	}
	if s.dir, err = os.MkdirTemp("", "waymark-bench-"); err != nil {
		return fmt.Errorf("cannot make a data folder: %w", err)
	}
	if s.server, err = stack.StartUp(ctx, s.config.Binary, s.dir, s.config.Durability, s.config.Engine, cpus); err != nil {
		os.RemoveAll(s.dir)
		return err
	}
	s.base = target{url: "http://" + s.server.Address, address: s.server.Address, host: "bench.test", admin: stack.NewAdmin(s.server.Ready.Admin), processes: []*stack.Process{s.server.Process}}
	return nil
}

// close stops the stack.
func (s *system) close(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := s.server.Stop(ctx)
	if !s.config.Keep {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// reachable fails with one clear line when nobody listens.
func (s *system) reachable(ctx context.Context) error {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", s.base.address)
	if err != nil {
		return fmt.Errorf("cannot reach the target %s: %w", s.base.url, err)
	}
	return c.Close()
}

// program makes a program for a round and returns what to send it to. No other program is touched.
func (s *system) program(ctx context.Context, p *plan) (*target, error) {
	t := s.base
	t.run = scenario.NewRun()
	if t.foreign {
		return &t, nil
	}
	t.host = "bench-" + t.run + ".test"
	t.file = scenario.ProgramFile{
		Key: "bench-" + t.run, Host: t.host, Destination: landing, ConversionsKey: "wmc_bench_" + secret(), APIKey: "wmp_bench_" + secret(),
		Email: "bench-" + t.run + "@bench.test",
	}
	if err := t.admin.Apply(ctx, p.Program(t.file)); err != nil {
		return nil, err
	}
	if err := t.live(ctx, scenario.Slug(p.LinkCount()-1)); err != nil {
		return nil, errors.Join(err, s.remove(ctx, p, &t))
	}
	return &t, nil
}

// remove ends the round's program: it counts no more.
func (s *system) remove(ctx context.Context, p *plan, t *target) error {
	if t.foreign || s.server != nil && s.server.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	t.file.Disabled = true
	if err := t.admin.Apply(ctx, p.Program(t.file)); err != nil {
		return fmt.Errorf("cannot remove the run's program %s: %w", t.file.Key, err)
	}
	return nil
}

func secret() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("BUG: the system has no random numbers: " + err.Error())
	}
	return hex.EncodeToString(b[:])
}

// live waits until the edge knows a link. It asks as a browser that prefetches: Waymark refuses that with 503, without a
// click, for links it knows, and answers 404 for others. What answers anything else is not Waymark.
func (t *target) live(ctx context.Context, slug string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: t.tls},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.url, "/")+"/"+slug, nil)
		if err != nil {
			return fmt.Errorf("cannot ask the target %s: %w", t.url, err)
		}
		req.Host = t.host
		req.Header.Set("Sec-Purpose", "prefetch")
		req.Header.Set("User-Agent", "waymark-bench")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("cannot reach the target %s: %w", t.url, err)
		}
		resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusServiceUnavailable:
			return nil
		case http.StatusNotFound:
		default:
			return fmt.Errorf("the target %s is not Waymark: it answers a prefetch with %s (for another server: --foreign)", t.url, resp.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the target %s does not know the run's links: is %s the admin address of its dashboard?", t.url, t.admin.URL)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
