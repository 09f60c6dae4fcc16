package tracker

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"waymark/schema"
)

const (
	unique      = schema.Verdict_VERDICT_UNIQUE
	repeat      = schema.Verdict_VERDICT_REPEAT
	disabled    = schema.Verdict_VERDICT_DISABLED
	excluded    = schema.Verdict_VERDICT_EXCLUDED
	headOnly    = schema.Verdict_VERDICT_HEAD
	emptyUA     = schema.Verdict_VERDICT_EMPTY_UA
	preview     = schema.Verdict_VERDICT_PREVIEW
	bot         = schema.Verdict_VERDICT_BOT
	subresource = schema.Verdict_VERDICT_SUBRESOURCE
)

// TestVerdicts sends sets of headers, each of a visitor of its own, and reads the verdict and all signals back from the
// journal.
func TestVerdicts(t *testing.T) {
	e := startEdge(t, nil)
	n := 0
	f := func(method, host, path string, verdict schema.Verdict, signals []schema.Verdict, headers ...string) {
		t.Helper()
		n++
		resp := e.get(method, host, path, append(headers, fmt.Sprintf("X-Forwarded-For: 10.1.0.%d", n))...)
		clicks := e.clicks()
		if len(clicks) != n {
			t.Fatalf("%s %s %q: %d clicks in the journal, want %d", method, path, headers, len(clicks), n)
		}
		c := clicks[n-1]
		var want uint32
		for _, v := range signals {
			want |= signal(v)
		}
		if c.EdgeVerdict != verdict || c.Signals != want {
			t.Errorf("%s %s %q: %s with signals %b, want %s with %b", method, path, headers, c.EdgeVerdict.Label(), c.Signals, verdict.Label(), want)
		}
		if got := len(resp.Cookies()) > 0; got != (verdict.Valid() && host == testHost) {
			t.Errorf("%s %s %q (%s): cookie %v", method, path, headers, verdict.Label(), got)
		}
		if id := strings.Contains(resp.Header.Get("Location"), "cid="); id == (verdict == disabled) {
			t.Errorf("%s %s %q (%s): Location %q", method, path, headers, verdict.Label(), resp.Header.Get("Location"))
		}
	}
	get := func(path string, verdict schema.Verdict, signals []schema.Verdict, headers ...string) {
		t.Helper()
		f("GET", testHost, path, verdict, signals, headers...)
	}
	agent := func(ua string) string { return "User-Agent: " + ua }
	type set = []schema.Verdict

	get("/spring", unique, nil)
	get("/spring", unique, nil, "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site")
	get("/spring", unique, nil, "Sec-Purpose: ", "Purpose: other", "X-Moz: x", "X-Purpose: y")
	get("/spring", unique, nil, "Sec-GPC: 0")
	for _, dest := range []string{"image", "iframe", "script", "style", "empty", "frame", "embed", "object", "audio", "video", "font", "worker", "IMAGE"} {
		get("/spring", subresource, set{subresource}, "Sec-Fetch-Dest: "+dest)
	}
	f("HEAD", testHost, "/spring", headOnly, set{headOnly})
	get("/spring", bot, set{bot}, agent("curl/8.9.1"))
	get("/spring", bot, set{bot}, agent("Go-http-client/1.1"))
	get("/spring", bot, set{bot}, agent("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"))
	get("/spring", preview, set{preview}, agent("WhatsApp/2.23.20.0 A"))
	get("/spring", preview, set{preview, bot}, agent("Twitterbot/1.0"))
	get("/spring", preview, set{preview, bot}, agent("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"))
	get("/spring", emptyUA, set{emptyUA}, agent(""))
	get("/spring", emptyUA, set{emptyUA}, agent(" \t "))
	get("/spring", unique, nil, agent("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/530.0.0.0]"))
	get("/spring?nocount", excluded, set{excluded})
	get("/spring?a=1&nocount=0", excluded, set{excluded})
	get("/off", disabled, set{disabled})
	// Several at once: the first in the order decides, all are kept.
	f("HEAD", testHost, "/off?nocount=1", disabled, set{disabled, excluded, headOnly, preview, bot, subresource}, agent("Twitterbot/1.0"), "Sec-Fetch-Dest: image")
	f("HEAD", testHost, "/spring?nocount=1", excluded, set{excluded, headOnly, emptyUA, subresource}, agent(""), "Sec-Fetch-Dest: image")
	f("HEAD", testHost, "/spring", headOnly, set{headOnly, bot}, agent("curl/8.9.1"))
	get("/spring", bot, set{bot, subresource}, agent("curl/8.9.1"), "Sec-Fetch-Dest: image")
	f("GET", "two.example", "/spring", unique, nil)
	f("GET", "two.example", "/off", disabled, set{disabled})

	// An excluded network is told by the client's address, not the proxy's.
	e.get("GET", testHost, "/spring", "X-Forwarded-For: 203.0.113.9")
	if c := e.clicks()[n]; c.EdgeVerdict != excluded {
		t.Errorf("a visit from an excluded network is %s", c.EdgeVerdict.Label())
	}
	var all float64
	for v := schema.Verdict(1); int(v) < schema.NumVerdicts; v++ {
		all += e.outcome(outcome(v))
	}
	if int(all) != n+1 {
		t.Errorf("the outcomes of clicks add up to %v, want %d", all, n+1)
	}
}

func TestDisabledLinks(t *testing.T) {
	e := startEdge(t, nil)
	if resp := e.get("GET", testHost, "/off?sid=a"); resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "https://shop.example/over" {
		t.Errorf("a disabled link = %s to %q, want the program's fallback", resp.Status, resp.Header.Get("Location"))
	}
	if resp := e.get("GET", "two.example", "/off"); resp.StatusCode != http.StatusGone || resp.Header.Get("Cache-Control") != "private, no-store" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a disabled link without fallback = %s %v, want a plain page", resp.Status, resp.Header)
	}
}

func TestPrefetch(t *testing.T) {
	e := startEdge(t, nil)
	for _, header := range []string{"Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Sec-Purpose: Prefetch;anonymous-client-ip", "Purpose: prefetch", "X-Moz: prefetch", "X-Purpose: preview"} {
		for _, path := range []string{"/spring", "/off"} {
			resp := e.get("GET", testHost, path, header)
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Cache-Control") != "no-store" || len(resp.Cookies()) != 0 || resp.Header.Get("Location") != "" {
				t.Errorf("GET %s with %q = %s %v, want 503, no-store and nothing else", path, header, resp.Status, resp.Header)
			}
		}
	}
	if n := len(e.clicks()); n != 0 {
		t.Errorf("prefetches made %d clicks, want 0", n)
	}
	if got := e.outcome(outcomePrefetch); got != 12 {
		t.Errorf("metrics say %v prefetches, want 12", got)
	}
}

func TestNoClicks(t *testing.T) {
	e := startEdge(t, nil)
	f := func(method, host, path string, status int) {
		t.Helper()
		if resp := e.get(method, host, path); resp.StatusCode != status {
			t.Errorf("%s %s%s = %s, want %d", method, host, path, resp.Status, status)
		}
	}
	f("GET", testHost, "/", 404)
	f("GET", testHost, "/nothing", 404)
	f("GET", "elsewhere.example", "/spring", 404)
	f("GET", testHost, "/favicon.ico", 404)
	f("GET", testHost, "/robots.txt", 200)
	f("GET", testHost, "/.well-known/x", 404)
	f("GET", testHost, "/v1/", 404)
	f("GET", testHost, "/v1/tag.js", 404)
	f("GET", testHost, "/spring/summer", 404)
	f("GET", testHost, "/%73pring", 404)
	f("GET", testHost, "/spring%5c", 404)
	f("POST", testHost, "/spring", 405)
	f("PUT", testHost, "/", 405)
	f("DELETE", testHost, "/nothing", 405)
	f("OPTIONS", testHost, "/spring", 405)
	f("GET", testHost, "/v1/conversions", 405)
	if resp := e.get("PATCH", testHost, "/spring"); resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("405 says Allow: %q", resp.Header.Get("Allow"))
	}
	if n := len(e.clicks()); n != 0 {
		t.Errorf("%d clicks were journaled, want 0", n)
	}
}
