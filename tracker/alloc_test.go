//go:build !race

package tracker

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

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

// perGroup is what the journal allocates for a group of records, however many they are. One click at a time makes groups
// of one; under load it is shared by as many as arrive during a write.
const perGroup = 2

func TestClickDoesNotAlloc(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Durability = "write" })
	first := e.get("GET", testHost, "/spring", "X-Forwarded-For: 198.51.100.7")
	cookie := "Cookie: a=b; " + strings.SplitN(first.Header.Get("Set-Cookie"), ";", 2)[0]
	base := []string{"Accept-Language: de-DE,de;q=0.9", "Referer: https://blog.example/post", "X-Forwarded-For: 203.0.112.9, 198.51.100.7", "Sec-Fetch-Dest: document"}
	f := func(what, uri string, status int, want float64, headers ...string) {
		t.Helper()
		ctx := requestOf(t, append(append([]string{"GET " + uri + " HTTP/1.1", "Host: go.example:80"}, headers...), base...)...)
		serve := func() {
			ctx.Response.Reset()
			e.handle(ctx)
		}
		if serve(); ctx.Response.StatusCode() != status {
			t.Fatalf("%s: status %d, want %d", what, ctx.Response.StatusCode(), status)
		}
		for range 100 {
			serve()
		}
		if n := testing.AllocsPerRun(500, serve); n > want {
			t.Errorf("%s: %v allocations per click, want at most %v", what, n, want)
		}
	}
	const agent = "User-Agent: " + person
	f("repeat by hash", "/spring?sid=a&sid3=b%20c&utm_source=letter", 302, perGroup, agent)
	f("repeat by cookie", "/spring", 302, perGroup, agent, cookie)
	f("robot", "/spring", 302, perGroup, "User-Agent: curl/8.9.1")
	f("disabled", "/off", 302, perGroup, agent)
	f("unknown slug", "/nothing", 404, 0, agent)
	f("unknown place", "/a/b", 404, 0, agent)
	f("prefetch", "/spring", 503, 0, agent, "Sec-Purpose: prefetch;prerender")
}
