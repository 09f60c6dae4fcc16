package tracker

import (
	"strings"
	"testing"

	"waymark/schema"
)

func TestParseTarget(t *testing.T) {
	f := func(uri string, want place, authority, slug, query string) {
		t.Helper()
		got := parseTarget([]byte(uri))
		if got.place != want || string(got.authority) != authority || string(got.slug) != slug || string(got.query) != query {
			t.Errorf("parseTarget(%q) = place %d, %q, %q, %q; want %d, %q, %q, %q", uri, got.place, got.authority, got.slug, got.query, want, authority, slug, query)
		}
	}
	f("/spring", placeSlug, "", "spring", "")
	f("/Spring-1/", placeSlug, "", "Spring-1", "")
	f("/spring?sid=1&x", placeSlug, "", "spring", "sid=1&x")
	f("/spring/?a", placeSlug, "", "spring", "a")
	f("/spring?u=https://x/y/", placeSlug, "", "spring", "u=https://x/y/")
	f("http://go.example/spring", placeSlug, "go.example", "spring", "")
	f("HTTPS://go.example:443/spring?a", placeSlug, "go.example:443", "spring", "a")
	f("http://go.example?a", placeUnknown, "go.example", "", "a")
	f("/", placeUnknown, "", "", "")
	f("/?a", placeUnknown, "", "", "a")
	f("/robots.txt", placeRobots, "", "", "")
	f("/favicon.ico", placeUnknown, "", "", "")
	f("/.well-known/security.txt", placeUnknown, "", "", "")
	f("/.well-known", placeUnknown, "", "", "")
	f("/v1/conversions", placeConversions, "", "", "")
	f("/v1/conversions?x", placeConversions, "", "", "x")
	f("/v1/conversions/", placeUnknown, "", "", "")
	f("/v1", placeUnknown, "", "", "")
	f("/V1/", placeUnknown, "", "", "")
	f("/v1/tag.js", placeUnknown, "", "", "")
	f("//", placeUnknown, "", "", "")
	f("//spring", placeUnknown, "", "", "")
	f("/spring//", placeUnknown, "", "", "")
	f("/a/b", placeUnknown, "", "", "")
	f("/./spring", placeUnknown, "", "", "")
	f("/spring/..", placeUnknown, "", "", "")
	f("/%73pring", placeUnknown, "", "", "")
	f("/spring%2f", placeUnknown, "", "", "")
	f("/spr\xc3\xa4ng", placeUnknown, "", "", "")
	f("/"+strings.Repeat("a", schema.MaxSlug), placeSlug, "", strings.Repeat("a", schema.MaxSlug), "")
	f("/"+strings.Repeat("a", schema.MaxSlug+1), placeUnknown, "", "", "")
	for _, bad := range []string{"", "*", "spring", "go.example:80", "ftp://go.example/spring", "http:///spring", "http://u@go.example/spring", "http://u:p@go.example/s",
		"/spring\\", "\\spring", "/spring#x", "/spring?a#b", "/spr ing", "/spring\x00", "/spring\x7f", "/spring?a\r\nb"} {
		if got := parseTarget([]byte(bad)); got.place != placeBad {
			t.Errorf("parseTarget(%q) = place %d, want %d", bad, got.place, placeBad)
		}
	}
}

func TestAppendHost(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got, ok := appendHost(nil, []byte(in))
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("appendHost(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
	f("go.example", "go.example")
	f("Go.Example.COM.", "go.example.com")
	f("Go.Example.COM.:8080", "go.example.com")
	f("localhost:7080", "localhost")
	f("127.0.0.1:80", "127.0.0.1")
	f("[::1]:80", "::1")
	f("[0:0::1]", "::1")
	f("[2001:DB8::1]", "2001:db8::1")
	f("go.example:", "go.example")
	for _, bad := range []string{"", ".", ":80", "go example", "go.example/x", "go.example:port", "go.example:123456", "u@go.example", "[::1", "[::1]x", "[1.2.3.4]", "[::1%eth0]", "g\xc3\xb6.example", "go.example,other.example", strings.Repeat("a", 300)} {
		f(bad, "")
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("/spring?sid=1", "go.example")
	f.Add("http://[::1]:80/x/", "[::1]:80")
	f.Fuzz(func(t *testing.T, uri, host string) {
		got := parseTarget([]byte(uri))
		if got.place == placeSlug {
			if s, err := schema.NormalizeSlug(string(got.slug)); err != nil && !strings.Contains(err.Error(), "reserved") {
				t.Errorf("parseTarget(%q) found the slug %q (%q): %v", uri, got.slug, s, err)
			}
		}
		mine, ok := appendHost(nil, []byte(host))
		bare := strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") // IPv6 without brackets is no Host header
		if want, err := schema.NormalizeHost(host); err == nil && !bare && len(host) <= maxHost && (!ok || string(mine) != want) {
			t.Errorf("appendHost(%q) = %q, %v; schema says %q", host, mine, ok, want)
		}
	})
}

func TestReferrerHost(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(appendReferrerHost(nil, []byte(in))); got != want {
			t.Errorf("appendReferrerHost(%q) = %q, want %q", in, got, want)
		}
	}
	f("https://Blog.Example/post?x#y", "blog.example")
	f("https://blog.example:8443", "blog.example")
	f("android-app://com.example.app/", "com.example.app")
	f("https://user:secret@blog.example/", "blog.example")
	f("https://blog.example?x", "blog.example")
	for _, none := range []string{"", "blog.example", "about:blank", "://blog.example", "https://", "https:// /", "https://b\xffg/", "javascript:alert('://')"} {
		f(none, "")
	}
}

func TestQuery(t *testing.T) {
	same := func(a, b string, want bool) {
		t.Helper()
		if got := sameKey([]byte(a), []byte(b)); got != want {
			t.Errorf("sameKey(%q, %q) = %v, want %v", a, b, got, want)
		}
	}
	same("sid", "sid", true)
	same("%73id", "sid", true)
	same("a+b", "a%20b", true)
	same("sid", "si", false)
	same("sid", "SID", false)
	same("%zz", "%zz", true)
	has := func(query, key string, want bool) {
		t.Helper()
		if got := hasKey([]byte(query), []byte(key)); got != want {
			t.Errorf("hasKey(%q, %q) = %v, want %v", query, key, got, want)
		}
	}
	has("a=1&b=2", "b", true)
	has("a=1&b", "b", true)
	has("a=b", "b", false)
	has("a=1&%62=2", "b", true)
	has("", "b", false)
	decode := func(in, want string) {
		t.Helper()
		if got := string(appendDecoded(nil, []byte(in), 8)); got != want {
			t.Errorf("appendDecoded(%q) = %q, want %q", in, got, want)
		}
	}
	decode("a%20b+c", "a b c")
	decode("%", "%")
	decode("%4", "%4")
	decode("%zz", "%zz")
	decode("0123456789", "01234567")
}
