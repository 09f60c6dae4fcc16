package tracker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// exchange writes bytes to the edge and returns the statuses of what it answers until it closes or falls silent, which
// takes a while only before as many answers as are expected.
func (e *edge) exchange(request string, expected int) (statuses []int, err error) {
	conn, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(conn, request) // the edge may close before it has read everything
	}()
	r := bufio.NewReader(conn)
	for {
		patience := 500 * time.Millisecond
		if len(statuses) >= expected {
			patience = 10 * time.Millisecond
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			conn.Close()
			<-sent
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err) || len(statuses) > 0 {
				return statuses, nil
			}
			return nil, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, err
		}
		statuses = append(statuses, resp.StatusCode)
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// TestRawHTTP sends what no browser would. After each a canary is answered as if it were alone.
func TestRawHTTP(t *testing.T) {
	e := startEdge(t, nil)
	clicks := 0
	f := func(request string, want ...int) {
		t.Helper()
		got, err := e.exchange(request, len(want))
		shown := request[:min(len(request), 120)]
		if err != nil {
			t.Errorf("%q: %v", shown, err)
			return
		}
		for i, status := range got {
			if status == 302 {
				clicks++
			}
			if i < len(want) && status != want[i] && want[i] != 0 {
				t.Errorf("%q is answered %v, want %v", shown, got, want)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q is answered %v, want %v", shown, got, want)
		}
		canary, err := e.exchange("GET /spring HTTP/1.1\r\nHost: go.example\r\nUser-Agent: x\r\nConnection: close\r\n\r\n", 1)
		if clicks++; err != nil || !slices.Equal(canary, []int{302}) {
			t.Fatalf("after %q the canary is answered %v, %v", shown, canary, err)
		}
	}
	head := "Host: go.example\r\nUser-Agent: x\r\n"
	// As it should be, in all its forms.
	f("GET /spring HTTP/1.1\r\n"+head+"\r\n", 302)
	f("GET /spring HTTP/1.0\r\n"+head+"\r\n", 302)
	f("GET http://go.example/spring HTTP/1.1\r\n"+head+"\r\n", 302)
	f("GET http://go.example/spring HTTP/1.1\r\nHost: other.example\r\n\r\n", 302)
	f("GET http://other.example/spring HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET /spring HTTP/1.1\r\nHost: GO.example.:80\r\n\r\n", 302)
	f(strings.Repeat("GET /spring HTTP/1.1\r\n"+head+"\r\n", 3), 302, 302, 302)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 3\r\n\r\nabcGET /spring HTTP/1.1\r\n"+head+"\r\n", 302, 302)
	f("\r\nGET /spring HTTP/1.1\r\n"+head+"\r\n", 302)
	// Smuggling: two lengths, lengths that are none, hidden headers.
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: -1\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: +3\r\n\r\nabc", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 3x\r\n\r\nabc", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 99999999999999999999\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400)
	f("GET /spring HTTP/1.0\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+" folded: yes\r\n\r\n", 302)
	f("GET /spring HTTP/1.1\r\n"+head+"X: a\r\n b\r\n\r\n", 302)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length:\r\n 3\r\n\r\nabc", 302)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 1\r\n 2\r\n\r\nabcdefghijkl", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /spring HTTP/1.1\r\n"+head+"\r\n", 302)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /spring HTTP/1.1\r\n"+head+"\r\n", 302, 302)
	f("GET /spring HTTP/1.1\r\n"+head+": empty\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"no colon\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"X: a\x00b\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"X\x00: a\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400)
	// Hosts.
	f("GET /spring HTTP/1.1\r\nUser-Agent: x\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost:\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Host: other.example\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\n"+head+"Host: go.example\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: go.example/x\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: u@go.example\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: go.example, other.example\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: go.example:port\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: [::1\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: [::1]\r\n\r\n", 404)
	f("GET /spring HTTP/1.1\r\nHost: "+strings.Repeat("a", 300)+"\r\n\r\n", 400)
	f("GET /spring HTTP/1.1\r\nHost: go.example.evil.example\r\n\r\n", 404)
	// Targets and methods.
	f("GET http://u:p@go.example/spring HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET spring HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET * HTTP/1.1\r\n"+head+"\r\n", 400)
	f("OPTIONS * HTTP/1.1\r\n"+head+"\r\n", 405)
	f("CONNECT go.example:443 HTTP/1.1\r\n"+head+"\r\n", 405)
	f("TRACE /spring HTTP/1.1\r\n"+head+"\r\n", 405)
	f("BREW /spring HTTP/1.1\r\n"+head+"\r\n", 405)
	f("get /spring HTTP/1.1\r\n"+head+"\r\n", 405)
	f("G\x00T /spring HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET  /spring HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /spring\r\n"+head+"\r\n", 400)
	f("GET /spring HTTP/2.0\r\n"+head+"\r\n", 0)
	f("GET /spring HTTP/1.1.1\r\n"+head+"\r\n", 400)
	f("GET /spring\tHTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /spr\x00ing HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /spr\x7fing HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /spring\\ HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /spring#top HTTP/1.1\r\n"+head+"\r\n", 400)
	f("GET /../spring HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET //spring HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET //evil.example/spring HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET /\xff HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET /spring?\xff=\xfe HTTP/1.1\r\n"+head+"\r\n", 302)
	f("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400)
	f("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	f("GET /spring HTTP/1.1\nHost: go.example\nUser-Agent: x\n\n")
	// Long lines.
	f("GET /spring?a="+strings.Repeat("b", 64<<10)+" HTTP/1.1\r\n"+head+"\r\n", 431)
	f("GET /"+strings.Repeat("b", 8<<10)+" HTTP/1.1\r\n"+head+"\r\n", 404)
	f("GET /spring?sid="+strings.Repeat("b", 8<<10)+" HTTP/1.1\r\n"+head+"\r\n", 302)
	f("GET /spring HTTP/1.1\r\n"+head+strings.Repeat("X: y\r\n", 2000)+"\r\n", 302)
	f("POST /v1/conversions HTTP/1.1\r\n"+head+"Content-Length: 70000\r\n\r\n"+strings.Repeat("x", 70000), 413)
	f("POST /v1/conversions HTTP/1.1\r\n"+head+"Content-Length: 1000000000\r\n\r\n", 413)

	if n := len(e.clicks()); n != clicks {
		t.Errorf("%d clicks are in the journal, %d were redirected", n, clicks)
	}
}

// TestHeaderSizes: what browsers send is taken, what nobody sends is refused and counted.
func TestHeaderSizes(t *testing.T) {
	e := startEdge(t, nil)
	for _, c := range []struct{ kilobytes, status int }{{1, 302}, {4, 302}, {8, 302}, {15, 302}, {17, 431}, {64, 431}, {500, 431}} {
		for _, name := range []string{"Cookie: a=", "X-Long: "} {
			value := bytes.Repeat([]byte("v"), c.kilobytes<<10)
			got, err := e.exchange(fmt.Sprintf("GET /spring HTTP/1.1\r\nHost: go.example\r\n%s%s\r\n\r\n", name, value), 1)
			if err != nil || !slices.Equal(got, []int{c.status}) {
				t.Errorf("%s with %d KB is answered %v, %v; want %d", name, c.kilobytes, got, err, c.status)
			}
		}
	}
	if got := e.value(e.metrics.refusals[refusedHeader]); got != 6 {
		t.Errorf("metrics say %v headers were too large, want 6", got)
	}
}

// TestSlowClients: clients that send a byte now and then are cut, others are served meanwhile.
func TestSlowClients(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.ReadTimeout = 300 * time.Millisecond })
	const slow = 200
	cut := make(chan time.Duration, slow)
	for range slow {
		conn, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer conn.Close()
			started := time.Now()
			for _, c := range []byte("GET /spring HTTP/1.1\r\nHost: go.example\r\nX: " + strings.Repeat("x", 1000)) {
				if _, err := conn.Write([]byte{c}); err != nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			cut <- time.Since(started)
		}()
	}
	for range 50 {
		if resp := e.get("GET", testHost, "/spring"); resp.StatusCode != 302 {
			t.Errorf("beside slow clients a click is answered %s", resp.Status)
		}
	}
	for range slow {
		if took := <-cut; took > 5*time.Second {
			t.Errorf("a slow client was cut after %v, want soon after 300 ms", took)
		}
	}
	if got := e.value(e.metrics.refusals[refusedTimeout]); got != slow {
		t.Errorf("metrics say %v timeouts, want %d", got, slow)
	}
}

// TestPanic: a handler that panics answers 500, and the edge lives on.
func TestPanic(t *testing.T) {
	e := startEdge(t, nil)
	e.hasher = nil
	if resp := e.get("GET", testHost, "/spring"); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("a panic is answered %s, want 500", resp.Status)
	}
	if resp := e.get("GET", testHost, "/nothing"); resp.StatusCode != http.StatusNotFound || e.outcome(outcomePanic) != 1 {
		t.Errorf("after a panic: %s, %v panics counted", resp.Status, e.outcome(outcomePanic))
	}
}

// requestOf reads a request as the server does: its first line and headers.
func requestOf(t testing.TB, lines ...string) *fasthttp.RequestCtx {
	t.Helper()
	ctx := &fasthttp.RequestCtx{}
	ctx.Init2(fakeConn{}, quietLogger{quiet()}, false)
	if err := ctx.Request.Read(bufio.NewReader(strings.NewReader(strings.Join(lines, "\r\n") + "\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
	return ctx
}

type fakeConn struct{ net.Conn }

var fakeAddr net.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}

func (fakeConn) RemoteAddr() net.Addr { return fakeAddr }
func (fakeConn) LocalAddr() net.Addr  { return fakeAddr }
