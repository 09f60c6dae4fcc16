package generator

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server answers every request after the delay that its function gives, and keeps how long it really took.
type server struct {
	address  string
	accepted atomic.Int64
	delay    func(n int64) time.Duration
	answer   string
	served   atomic.Int64

	mu    sync.Mutex
	taken []time.Duration // guarded by mu
}

func newServer(t *testing.T, answer string, delay func(n int64) time.Duration) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: l.Addr().String(), delay: delay, answer: answer}
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); running.Wait() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			running.Go(func() { s.serve(c) })
		}
	}()
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		for line, err := r.ReadString('\n'); line != "\r\n"; line, err = r.ReadString('\n') {
			if err != nil {
				return
			}
		}
		start := time.Now()
		if d := s.delay(s.served.Add(1) - 1); d > 0 {
			time.Sleep(d)
		}
		if _, err := io.WriteString(c, s.answer); err != nil || strings.Contains(s.answer, "Connection: close") || !strings.HasPrefix(s.answer, "HTTP/1.1") {
			return
		}
		s.mu.Lock()
		s.taken = append(s.taken, time.Since(start))
		s.mu.Unlock()
	}
}

const redirect = "HTTP/1.1 302 Found\r\nLocation: https://shop.example/?wm_cid=x\r\nSet-Cookie: wm_v=1\r\nContent-Length: 0\r\n\r\n"

func at(d time.Duration) func(int64) time.Duration { return func(int64) time.Duration { return d } }

// one sends the same request again and again.
type one struct {
	sent, done atomic.Int64
	pause      time.Duration
	responses  func(*Request, *Response)
	later      []time.Duration
}

func (s *one) Next(q *Request) {
	q.Bytes = append(q.Bytes[:0], "GET /a HTTP/1.1\r\nHost: test\r\n\r\n"...)
	q.Status, q.Tag = 302, uint64(s.sent.Add(1))
	time.Sleep(s.pause)
}
func (s *one) Done(q *Request, p *Response) {
	s.done.Add(1)
	if s.responses != nil {
		s.responses(q, p)
	}
}
func (s *one) LaterAt() (time.Duration, bool) {
	if len(s.later) == 0 {
		return 0, false
	}
	return s.later[0], true
}
func (s *one) NextLater(q *Request) {
	q.Bytes = append(q.Bytes[:0], "POST /later HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"...)
	q.Status = 302
	s.later = s.later[1:]
}
func (s *one) Now(time.Duration) {}

func even(rate float64, d time.Duration) func(int) Schedule {
	return func(int) Schedule {
		i := 0.0
		return func() (time.Duration, bool) {
			at := time.Duration(i / rate * 1e9)
			i++
			return at, at < d
		}
	}
}

// measure runs and returns all intervals merged, and how many there were.
func measure(t *testing.T, c Config) (*Interval, int, error) {
	t.Helper()
	total, n := NewInterval(), 0
	c.OnInterval = func(v *Interval) error {
		if v.Index != n {
			t.Errorf("interval %d came as number %d", v.Index, n)
		}
		n++
		total.Merge(v)
		return nil
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	err := Run(context.Background(), c)
	return total, n, err
}

// engines runs a test on both engines.
func engines(t *testing.T, f func(t *testing.T, streams bool)) {
	for name, streams := range map[string]bool{"loop": false, "streams": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, streams)
		})
	}
}

func TestHistogramsAgreeWithKnownDelays(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		// In every hundred requests 85 take 100 ms, 12 take 200 ms, 3 take 400 ms.
		s := newServer(t, redirect, func(n int64) time.Duration {
			switch n = n * 37 % 100; {
			case n < 85:
				return 100 * time.Millisecond
			case n < 97:
				return 200 * time.Millisecond
			}
			return 400 * time.Millisecond
		})
		var total *Interval
		for try := 1; ; try++ { // another process may take the cores for a moment
			s.mu.Lock()
			s.taken = nil
			s.mu.Unlock()
			var err error
			total, _, err = measure(t, Config{Target: s.address, Connections: 200, Duration: 2 * time.Second, Streams: streams,
				Source: func(int) Source { return &one{} }, Schedule: even(500, 2*time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			wrong := disagree(total, slices.Clone(s.taken))
			s.mu.Unlock()
			if wrong == "" {
				break
			}
			if try == 4 {
				t.Fatal(wrong)
			}
		}
		if total.Outcomes[Answered] != 1000 || total.Statuses[302] != 1000 || total.Sent != 1000 {
			t.Errorf("sent %d, outcomes %v, want 1000 answers", total.Sent, total.Outcomes)
		}
	})
}

// disagree compares the histograms with what the server took, and with what it was told to take.
func disagree(total *Interval, taken []time.Duration) string {
	slices.Sort(taken)
	for quantile, want := range map[float64]time.Duration{50: 100 * time.Millisecond, 92: 200 * time.Millisecond, 99: 400 * time.Millisecond} {
		for name, h := range map[string]int64{"corrected": total.Corrected.ValueAtQuantile(quantile), "service": total.Service.ValueAtQuantile(quantile)} {
			really := float64(taken[int(math.Ceil(quantile/100*float64(len(taken))))-1])
			for _, w := range []float64{float64(want), really} {
				if off := math.Abs(float64(h)-w) / w; off > 0.02 {
					return fmt.Sprintf("%s p%v is %v, want %v: off by %.1f %%", name, quantile, time.Duration(h), time.Duration(w), 100*off)
				}
			}
		}
	}
	return ""
}

// TestFreeze is coordinated omission: a server that stands still for two seconds meets a generator with few connections.
func TestFreeze(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		var began atomic.Int64
		s := newServer(t, redirect, func(int64) time.Duration {
			began.CompareAndSwap(0, time.Now().UnixNano())
			since := time.Duration(time.Now().UnixNano() - began.Load())
			if since > time.Second && since < 3*time.Second {
				return 3*time.Second - since
			}
			return 0
		})
		total, _, err := measure(t, Config{Target: s.address, Connections: 4, Duration: 4 * time.Second, Streams: streams,
			Source: func(int) Source { return &one{} }, Schedule: even(300, 4*time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		corrected, service := time.Duration(total.Corrected.ValueAtQuantile(99)), time.Duration(total.Service.ValueAtQuantile(99))
		// Half of the sends fall into the freeze; the p99 request waited for all but 2 % of it.
		if corrected < 1800*time.Millisecond || corrected > 2300*time.Millisecond {
			t.Errorf("corrected p99 is %v, want about 1.96s: the freeze must show", corrected)
		}
		if service > 500*time.Millisecond {
			t.Errorf("service p99 is %v: only 4 of %d requests were frozen", service, total.Sent)
		}
		if total.Late < 500 || total.LateBusy < total.Late*9/10 {
			t.Errorf("%d late sends, %d of them for want of a connection; want about 600, nearly all", total.Late, total.LateBusy)
		}
	})
}

// TestMoreConnections is the same freeze with connections to spare: every send keeps its schedule.
func TestMoreConnections(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := newServer(t, redirect, at(300*time.Millisecond))
		total, _, err := measure(t, Config{Target: s.address, Connections: 2, MaxConnections: 500, Duration: time.Second, Streams: streams,
			Source: func(int) Source { return &one{} }, Schedule: even(200, time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		if total.Outcomes[Answered] != 200 || total.LateBusy > 0 {
			t.Errorf("outcomes %v, %d sends lacked a connection; want 200 answers, 0", total.Outcomes, total.LateBusy)
		}
		if total.Connects < 40 || total.Connects > 200 {
			t.Errorf("%d connections were opened, want about 60", total.Connects)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := newServer(t, redirect, at(10*time.Millisecond))
		source := &one{}
		total, n, err := measure(t, Config{Target: s.address, Connections: 8, Duration: 500 * time.Millisecond, Interval: 100 * time.Millisecond, Streams: streams,
			Source: func(int) Source { return source }})
		if err != nil {
			t.Fatal(err)
		}
		if total.Sent != source.sent.Load() || total.Outcomes[Answered] != total.Sent || source.done.Load() != total.Sent || s.served.Load() != total.Sent {
			t.Errorf("source gave %d, sent %d, answered %d, handed back %d, served %d; want all equal", source.sent.Load(), total.Sent, total.Outcomes[Answered], source.done.Load(), s.served.Load())
		}
		if total.Sent < 8 || total.Sent > 8*51 {
			t.Errorf("8 connections sent %d requests of 10 ms in 500 ms, want at most 408", total.Sent)
		}
		if n < 5 || s.accepted.Load() != 8 {
			t.Errorf("%d intervals, %d connections, want at least 5 and 8", n, s.accepted.Load())
		}
	})
}

func TestNewConnections(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		for _, answer := range []string{redirect, strings.Replace(redirect, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)} {
			s := newServer(t, answer, at(0))
			total, _, err := measure(t, Config{Target: s.address, Connections: 4, MaxConnections: 50, NewConnection: true, Duration: 400 * time.Millisecond, Streams: streams,
				Source: func(int) Source { return &one{} }, Schedule: even(500, 400*time.Millisecond)})
			if err != nil {
				t.Fatal(err)
			}
			if total.Outcomes[Answered] != 200 || s.accepted.Load() != 200 || total.Connects != 200 {
				t.Errorf("outcomes %v, %d connections accepted, %d counted, want 200 of each", total.Outcomes, s.accepted.Load(), total.Connects)
			}
		}
	})
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://shop.example/")
		w.WriteHeader(302)
	}))
	defer s.Close()
	total, _, err := measure(t, Config{Target: s.Listener.Addr().String(), TLS: &tls.Config{InsecureSkipVerify: true}, Connections: 3, Duration: 300 * time.Millisecond,
		Source: func(int) Source { return &one{} }, Schedule: even(100, 300*time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	if total.Statuses[302] != 30 || total.Unexpected != 0 {
		t.Errorf("%d answers with 302 over TLS, %d unexpected, outcomes %v; want 30", total.Statuses[302], total.Unexpected, total.Outcomes)
	}
}

func TestOutcomes(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		f := func(what, answer string, delay time.Duration, want Outcome, status int) {
			t.Helper()
			s := newServer(t, answer, at(delay))
			total, _, err := measure(t, Config{Target: s.address, Connections: 8, Duration: 100 * time.Millisecond, Timeout: 300 * time.Millisecond, Streams: streams,
				Source: func(int) Source { return &one{} }, Schedule: even(50, 100*time.Millisecond)})
			if err != nil {
				t.Fatal(err)
			}
			if total.Outcomes[want] != 5 || status > 0 && total.Statuses[status] != 5 {
				t.Errorf("%s: outcomes %v, want 5 %v", what, total.Outcomes, want)
			}
			if unexpected := total.Unexpected; (unexpected == 5) != (want == Answered && status != 302) {
				t.Errorf("%s: %d unexpected answers", what, unexpected)
			}
		}
		f("redirect", redirect, 0, Answered, 302)
		f("another status", "HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nhello", 0, Answered, 503)
		f("chunked", "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, Answered, 404)
		f("until the end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", 0, Answered, 200)
		f("cut in the head", "HTTP/1.0 302 Fo", 0, Closed, 0)
		f("no HTTP", "220 mail.example ESMTP\r\n", 0, Malformed, 0)
		f("too slow", redirect, time.Second, TimedOut, 0)
	})
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, _, err = measure(t, Config{Target: address, Connections: 2, Duration: time.Second, Source: func(int) Source { return &one{} }, Schedule: even(10, time.Second)})
	if err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("a run against %s, where nobody listens, ended with %v, want an error that names it", address, err)
	}
}

// TestServerDies ends the server in mid-run: the run goes on, counts, and gives up.
func TestServerDies(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }))
		time.AfterFunc(300*time.Millisecond, func() { s.CloseClientConnections(); s.Close() })
		start := time.Now()
		total, _, err := measure(t, Config{Target: s.Listener.Addr().String(), Connections: 4, Duration: 20 * time.Second, GiveUp: 500 * time.Millisecond,
			Interval: 100 * time.Millisecond, Streams: streams, Source: func(int) Source { return &one{} }, Schedule: even(200, 20*time.Second)})
		if !errors.Is(err, ErrGaveUp) {
			t.Errorf("the run ended with %v, want %v", err, ErrGaveUp)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("giving up took %v", took)
		}
		if total.Outcomes[Answered] == 0 || total.Outcomes[Refused] == 0 {
			t.Errorf("outcomes %v, want some answered and some refused", total.Outcomes)
		}
	})
}

// TestLateGenerator makes the source slow: those sends are late, and no server is to blame.
func TestLateGenerator(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := newServer(t, redirect, at(0))
		total, _, err := measure(t, Config{Target: s.address, Connections: 50, Duration: 200 * time.Millisecond, Streams: streams,
			Source: func(int) Source { return &one{pause: 10 * time.Millisecond} }, Schedule: even(200, 200*time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		if total.Late < 30 || total.LateBusy > 0 {
			t.Errorf("%d of 40 sends are late, %d for want of a connection; want nearly all, 0", total.Late, total.LateBusy)
		}
		if d := time.Duration(total.SendDelay.Max()); d < 100*time.Millisecond {
			t.Errorf("the last send was %v behind, want about 200ms", d)
		}
	})
}

func TestLaterRequests(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := newServer(t, redirect, at(0))
		source := &one{later: []time.Duration{50 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond}}
		total, _, err := measure(t, Config{Target: s.address, Connections: 2, Duration: 300 * time.Millisecond, Streams: streams,
			Source: func(int) Source { return source }, Schedule: even(50, 300*time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		if total.LaterSent != 3 || total.LaterEnd[Answered] != 3 || total.Later.TotalCount() != 3 || total.Sent != 15 {
			t.Errorf("%d later requests sent, ends %v, %d clicks; want 3 answered and 15", total.LaterSent, total.LaterEnd, total.Sent)
		}
	})
}

func TestSourceSeesAnswers(t *testing.T) {
	engines(t, func(t *testing.T, streams bool) {
		s := newServer(t, redirect, at(0))
		var wrong atomic.Value
		source := &one{responses: func(q *Request, p *Response) {
			if p.Outcome != Answered || p.Status != 302 || string(p.Location) != "https://shop.example/?wm_cid=x" || string(p.Cookie) != "wm_v=1" {
				wrong.Store(fmt.Sprintf("request %d: %v %d %q %q", q.Tag, p.Outcome, p.Status, p.Location, p.Cookie))
			}
		}}
		if _, _, err := measure(t, Config{Target: s.address, Connections: 3, Duration: 200 * time.Millisecond, Streams: streams, Source: func(int) Source { return source }}); err != nil {
			t.Fatal(err)
		}
		if w := wrong.Load(); w != nil {
			t.Error(w)
		}
	})
}

// TestRefusedInterval is a disk that fills up: the run ends early, with its cause.
func TestRefusedInterval(t *testing.T) {
	s := newServer(t, redirect, at(0))
	full := errors.New("no space left on device")
	n := 0
	start := time.Now()
	err := Run(context.Background(), Config{Target: s.address, Workers: 2, Connections: 4, Duration: 30 * time.Second, Interval: 50 * time.Millisecond,
		Source: func(int) Source { return &one{} }, Schedule: even(100, 30*time.Second),
		OnInterval: func(*Interval) error {
			if n++; n >= 3 {
				return full
			}
			return nil
		}})
	if !errors.Is(err, full) || time.Since(start) > 15*time.Second {
		t.Errorf("the run ended after %v with %v, want %v at once", time.Since(start), err, full)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Target: "x:1", Workers: 1, Connections: 1, Duration: 1}
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := good
		change(&c)
		c.Defaults()
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Validate(%+v) = %v, want an error with %q", c, err, want)
		}
	}
	f("", func(*Config) {})
	f("--workers", func(c *Config) { c.Workers = 0 })
	f("--connections", func(c *Config) { c.Workers = 3 })
	f("--duration", func(c *Config) { c.Duration = -1 })
	f("--max-connections", func(c *Config) { c.MaxConnections = 1e7 })
	f("--timeout", func(c *Config) { c.Timeout = -1 })
}

func TestShare(t *testing.T) {
	for n := range 50 {
		for workers := 1; workers < 8; workers++ {
			sum := 0
			for i := range workers {
				sum += share(n, i, workers)
			}
			if sum != n {
				t.Errorf("shares of %d over %d workers add up to %s", n, workers, strconv.Itoa(sum))
			}
		}
	}
}
