package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"waymark/bench/scenario"
)

// TargetsConfig is what `waymark bench targets` needs.
type TargetsConfig struct {
	Scenario string
	Seed     uint64 // 0: the scenario's
	Count    int
	Format   string // vegeta or k6
	Base     string // base URL of the tracker
	Host     string // of the links
	// Collect sends the first click of every visitor to Base itself, leaves it out, and puts the cookie that it earned into
	// the later ones.
	Collect bool
}

// toolTarget is one request for somebody else's tool.
type toolTarget struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

// Targets writes a scenario's requests for another tool: vegeta's http format, or a k6 script.
func Targets(ctx context.Context, w io.Writer, c TargetsConfig) error {
	if c.Format != "vegeta" && c.Format != "k6" {
		return usagef("--format must be vegeta or k6, got %q", c.Format)
	}
	if c.Count < 1 || c.Count > 10_000_000 {
		return usagef("--count must be 1 to 10000000, got %d", c.Count)
	}
	s, err := scenario.Read(c.Scenario)
	if err != nil {
		return &UsageError{err}
	}
	if c.Seed != 0 {
		s.Seed = c.Seed
	}
	if s.Visitors.Addresses == scenario.Proxy {
		return usagef("--scenario %s speaks the PROXY protocol, which %s cannot", c.Scenario, c.Format)
	}
	buffered := bufio.NewWriter(w)
	if c.Format == "k6" {
		err = writeK6(ctx, buffered, &c, s)
	} else {
		err = eachTarget(ctx, &c, s, func(_ int, t *toolTarget) error { return writeVegeta(buffered, t) })
	}
	if err != nil {
		return err
	}
	return buffered.Flush()
}

// headerOrder is the order in which headers are written.
var headerOrder = []string{"Host", "User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Sec-Purpose", "X-Forwarded-For", "Cookie"}

// TargetsProgram writes the program file that a scenario's links need, for `waymark admin apply`.
func TargetsProgram(w io.Writer, c TargetsConfig) error {
	s, err := scenario.Read(c.Scenario)
	if err != nil {
		return &UsageError{err}
	}
	_, err = w.Write(s.Program(scenario.ProgramFile{Key: "bench", Host: c.Host, Destination: landing, ConversionsKey: "wmc_bench_" + secret(), Email: "bench@bench.test"}))
	return err
}

// eachTarget reads the source's own requests, so that other tools send the same ones.
func eachTarget(ctx context.Context, c *TargetsConfig, s *scenario.Scenario, f func(int, *toolTarget) error) error {
	src := scenario.NewSource(scenario.NewSite(s, scenario.Target{Host: c.Host}), 0, 1)
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	var b []byte
	for n := range c.Count {
		var sent scenario.Sent
		b, sent = src.Next(b[:0])
		if c.Collect && sent.First() {
			if err := collect(ctx, client, c, src, b, sent); err != nil {
				return err
			}
			continue
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return fmt.Errorf("cannot write request %d: %w", n, err)
		}
		t := &toolTarget{Method: r.Method, URL: strings.TrimSuffix(c.Base, "/") + r.URL.Path, Headers: map[string]string{"Host": r.Host}}
		for _, name := range headerOrder {
			if v := r.Header.Get(name); v != "" {
				t.Headers[name] = v
			}
		}
		if err := f(n, t); err != nil {
			return err
		}
	}
	return nil
}

// collect makes a visitor's first click and hands its cookie to the source.
func collect(ctx context.Context, client *http.Client, c *TargetsConfig, src *scenario.Source, b []byte, sent scenario.Sent) error {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return fmt.Errorf("cannot write request %d: %w", sent.Number, err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, strings.TrimSuffix(c.Base, "/")+r.URL.Path, nil)
	if err != nil {
		return usagef("--base %s: %w", c.Base, err)
	}
	req.Host, req.Header = r.Host, r.Header
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot collect cookies from %s: %w", c.Base, err)
	}
	resp.Body.Close()
	if resp.StatusCode != sent.Status {
		return fmt.Errorf("cannot collect cookies from %s: it answers %s with %s; does it know the scenario's links? 'waymark bench program' prints their file", c.Base, r.URL.Path, resp.Status)
	}
	src.Done(sent, &scenario.Answer{Answered: true, Status: resp.StatusCode, Cookie: []byte(resp.Header.Get("Set-Cookie"))})
	return nil
}

func writeVegeta(w io.Writer, t *toolTarget) error {
	if _, err := fmt.Fprintf(w, "%s %s\n", t.Method, t.URL); err != nil {
		return err
	}
	for _, name := range headerOrder {
		if v, ok := t.Headers[name]; ok {
			if _, err := fmt.Fprintf(w, "%s: %s\n", name, v); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

const (
	k6Head = `// Made by "waymark bench targets --format k6". Each request is sent once, in order, over all virtual users:
//   k6 run --vus 64 --iterations %d targets.js
import http from 'k6/http';
import exec from 'k6/execution';

const targets = [
`
	k6Tail = `];

export default function () {
  const t = targets[exec.scenario.iterationInTest %%% targets.length];
  http.request(t.method, t.url, null, { headers: t.headers, redirects: 0, jar: null });
}
`
)

func writeK6(ctx context.Context, w io.Writer, c *TargetsConfig, s *scenario.Scenario) error {
	if _, err := fmt.Fprintf(w, k6Head, c.Count); err != nil {
		return err
	}
	err := eachTarget(ctx, c, s, func(_ int, t *toolTarget) error {
		b, err := json.Marshal(t)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "  %s,\n", b)
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, k6Tail)
	return err
}
