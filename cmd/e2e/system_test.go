package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ready is the ready file, as the contract for machines names its fields.
type ready struct {
	Tracker        string   `json:"tracker"`
	Dashboard      string   `json:"dashboard"`
	Admin          string   `json:"admin"`
	Kafka          string   `json:"kafka"`
	Clickhouse     string   `json:"clickhouse"`
	PID            int      `json:"pid"`
	Links          []string `json:"links"`
	Email          string   `json:"email"`
	Password       string   `json:"password"`
	Program        string   `json:"program"`
	ConversionsKey string   `json:"conversions_key"`
	PartnerAPIKey  string   `json:"partner_api_key"`
}

// process is one running waymark.
type process struct {
	ready
	t      *testing.T
	cmd    *exec.Cmd
	output *syncBuffer
	exited chan struct{}
	took   time.Duration
}

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("WAYMARK_BINARY")
	if path == "" {
		path, _ = filepath.Abs("../../bin/waymark")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the shipped binary is needed: make build (%v)", err)
	}
	return path
}

// engineFlag returns the flag that names the embedded engine's library.
func engineFlag(t *testing.T) string {
	t.Helper()
	path := os.Getenv("WAYMARK_ENGINE")
	if path == "" {
		b, err := os.ReadFile("../../bin/engine")
		if err != nil {
			t.Fatalf("the embedded engine is needed: make build (%v)", err)
		}
		path = strings.TrimSpace(string(b))
	}
	return "--engine=" + path
}

// start runs waymark with the arguments and waits until its ready file is there. The process is ended with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := launch(t, args...)
	deadline := time.After(90 * time.Second)
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(p.readyFile())
		if err == nil {
			if err := json.Unmarshal(b, &p.ready); err != nil {
				t.Fatalf("the ready file %q is no JSON object: %v", b, err)
			}
			p.took = time.Since(begin)
			return p
		}
		select {
		case <-p.exited:
			t.Fatalf("waymark %s ended before it was ready:\n%s", strings.Join(args, " "), p.output)
		case <-deadline:
			t.Fatalf("waymark %s is not ready after 90 s:\n%s", strings.Join(args, " "), p.output)
		default:
		}
	}
}

// launch runs waymark with the arguments and a ready file, without waiting.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, output: &syncBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(binary(t), append(args, "--ready-file="+filepath.Join(t.TempDir(), "ready.json"))...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Env = append(os.Environ(), "TZ=America/St_Johns")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("waymark %s printed:\n%s", strings.Join(args, " "), p.output)
		}
	})
	return p
}

func (p *process) readyFile() string {
	return strings.TrimPrefix(p.cmd.Args[len(p.cmd.Args)-1], "--ready-file=")
}

// kill ends the process without warning.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop ends the process as an operator does, and checks that it leaves cleanly.
func (p *process) stop() {
	p.t.Helper()
	begin := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("waymark %s still runs 30 s after SIGTERM", p.cmd.Args[1])
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("waymark %s left with %d after SIGTERM, want 0", p.cmd.Args[1], code)
	}
	p.t.Logf("%s stopped in %v", p.cmd.Args[1], time.Since(begin).Round(time.Millisecond))
}

// runOnce runs waymark to its end and returns its exit code and what it printed.
func runOnce(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// upArgs are the arguments of a whole system on free ports.
func upArgs(t *testing.T, data string, more ...string) []string {
	t.Helper()
	return append([]string{"up", engineFlag(t), "--data=" + data, "--tracker-listen=127.0.0.1:0",
		"--dashboard-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}, more...)
}

// eventually waits until f returns nil, and returns how long that took.
func eventually(t *testing.T, within time.Duration, f func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > within {
			t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// noRedirects is a client that shows redirects instead of following them.
var noRedirects = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

const person = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"

// click sends a GET of a link as a person's browser would; agent tells visitors apart.
func click(url, agent string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	resp, err := noRedirects.Do(req)
	if err != nil {
		return nil, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp, nil
}

// mustClick clicks, expects a redirect and returns its target.
func mustClick(t *testing.T, url, agent string) string {
	t.Helper()
	resp, err := click(url, agent)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusFound {
		t.Fatalf("GET %s = %s, want 302", url, resp.Status)
	}
	return resp.Header.Get("Location")
}

// call sends a JSON request and decodes the answer into out; it returns the status.
func call(method, url, bearer string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	resp, err := noRedirects.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return resp.StatusCode, fmt.Errorf("%s %s answered %s: %q: %w", method, url, resp.Status, b, err)
		}
	}
	return resp.StatusCode, nil
}

type money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// summary is what the API answers; pointers tell an absent field from a zero.
type summary struct {
	Clicks   *int64           `json:"clicks"`
	Gross    *int64           `json:"gross"`
	Repeat   *int64           `json:"repeat"`
	Invalid  map[string]int64 `json:"invalid"`
	Referred int64            `json:"referred"`
	Sold     []money          `json:"sold"`
	Earned   any              `json:"earned"`
	Pending  any              `json:"pending"`
	AsOf     time.Time        `json:"data_as_of"`
}

func (s summary) sold(currency string) int64 {
	for _, m := range s.Sold {
		if m.Currency == currency {
			return m.Amount
		}
	}
	return 0
}

type link struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Kind        string `json:"kind"`
	Title       string `json:"title"`
	Destination string `json:"destination"`
	Unique      int64  `json:"unique"`
	Gross       int64  `json:"gross"`
	Enabled     bool   `json:"enabled"`
}

// partner is what a partner's API key reaches in one program.
type partner struct{ api, key string }

func (p *process) partner() partner {
	return partner{p.Dashboard + "/api/v1/programs/" + p.Program, p.PartnerAPIKey}
}

// summary reads the summary and checks that it adds up.
func (p partner) summary(t *testing.T) summary {
	t.Helper()
	var s summary
	code, err := call(http.MethodGet, p.api+"/summary", p.key, nil, &s)
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET %s/summary = %d, %v", p.api, code, err)
	}
	if s.Gross != nil {
		sum := *s.Clicks + *s.Repeat
		for _, n := range s.Invalid {
			sum += n
		}
		if sum != *s.Gross {
			t.Errorf("gross is %d, the verdicts add up to %d: %+v", *s.Gross, sum, s)
		}
	}
	return s
}

func (p partner) links(t *testing.T) []link {
	t.Helper()
	var links []link
	code, err := call(http.MethodGet, p.api+"/links", p.key, nil, &links)
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET %s/links = %d, %v", p.api, code, err)
	}
	return links
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
