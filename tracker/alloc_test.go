//go:build !race

package tracker

import (
	"strings"
	"testing"
)

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
