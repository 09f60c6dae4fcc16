package tracker

import (
	"net/url"
	"strings"
	"testing"

	"waymark/tracker/links"
)

func testVisit(passthrough ...string) *visit {
	v := newVisit()
	program := &links.Program{}
	for _, name := range passthrough {
		program.Passthrough = append(program.Passthrough, []byte(name))
	}
	v.target = &links.Target{Program: program}
	return v
}

func TestAppendLocation(t *testing.T) {
	own := ours{clickIDParam: []byte("wm_cid"), clickID: []byte("ID")}
	v := testVisit("ref", "a b")
	f := func(destination, request, want string) {
		t.Helper()
		if got := string(appendLocation(nil, []byte(destination), own, []byte(request), v.allows)); got != want {
			t.Errorf("appendLocation(%q, %q) = %q, want %q", destination, request, got, want)
		}
	}
	f("https://shop.example", "", "https://shop.example?wm_cid=ID")
	f("https://shop.example/", "", "https://shop.example/?wm_cid=ID")
	f("https://shop.example/?", "", "https://shop.example/?wm_cid=ID")
	f("https://shop.example/?a=1", "", "https://shop.example/?a=1&wm_cid=ID")
	f("https://shop.example/?a=1&", "", "https://shop.example/?a=1&wm_cid=ID")
	f("https://shop.example/#top", "", "https://shop.example/?wm_cid=ID#top")
	f("https://shop.example/#/r?x=1", "sid=2", "https://shop.example/?wm_cid=ID&sid=2#/r?x=1")
	f("https://shop.example/?a=1#top?b", "", "https://shop.example/?a=1&wm_cid=ID#top?b")
	// Only what is allowed is handed on.
	f("https://shop.example/", "sid=a&sid1=b&sid5=c&sid6=d&x=y&utm_source=s&utm_=no&ref=r&a%20b=z&UTM_source=no", "https://shop.example/?wm_cid=ID&sid=a&sid1=b&sid5=c&utm_source=s&ref=r&a%20b=z")
	// The destination's own keys win, in any spelling.
	f("https://shop.example/?sid=own&ref=1", "sid=a&%73id=b&ref=2&utm_term=t", "https://shop.example/?sid=own&ref=1&wm_cid=ID&utm_term=t")
	f("https://shop.example/?%73id=own", "sid=a", "https://shop.example/?%73id=own&wm_cid=ID")
	f("https://shop.example/?wm_cid=own", "sid=a", "https://shop.example/?wm_cid=own&sid=a")
	// The first of a name counts, and nobody hands in a click id.
	f("https://shop.example/", "sid=a&sid=b&%73id=c", "https://shop.example/?wm_cid=ID&sid=a")
	f("https://shop.example/?", "wm_cid=forged&sid=a", "https://shop.example/?wm_cid=ID&sid=a")
	// What could be read in two ways is encoded.
	f("https://shop.example/", "sid=a'\"<>\\^`{|}\xff[]", "https://shop.example/?wm_cid=ID&sid=a%27%22%3C%3E%5C%5E%60%7B%7C%7D%FF%5B%5D")
	f("https://shop.example/", "sid=%zz%4&sid1=%41+%0d%0a", "https://shop.example/?wm_cid=ID&sid=%25zz%254&sid1=%41+%0d%0a")
	f("https://shop.example/", "sid=https://evil.example/?a", "https://shop.example/?wm_cid=ID&sid=https://evil.example/?a")
	f("https://shop.example/", "sid&sid1=&&=x", "https://shop.example/?wm_cid=ID&sid=&sid1=")
	// The cap: what does not fit is left out whole.
	long := strings.Repeat("x", maxPassthrough)
	f("https://shop.example/", "sid="+long+"&sid1=b", "https://shop.example/?wm_cid=ID&sid1=b")

	own = ours{clickIDParam: []byte("cid"), clickID: []byte("ID"), partnerParam: []byte("via"), partner: []byte("a b&c")}
	f("https://shop.example/", "via=x", "https://shop.example/?cid=ID&via=a%20b%26c")
	f("https://shop.example/?via=own", "", "https://shop.example/?via=own&cid=ID")
	own = ours{clickIDParam: []byte("wm_cid"), clickID: []byte("ID")}
	f("https://shop.example/?wm_cid=own&", "sid=a&sid=b", "https://shop.example/?wm_cid=own&sid=a")
}

func FuzzAppendLocation(f *testing.F) {
	f.Add("/a?b=c#d", "sid=1&utm_x=%zz")
	f.Add("?sid=", "sid=1&sid1=\r\n#\x00")
	own := ours{clickIDParam: []byte("wm_cid"), clickID: []byte("ID")}
	v := testVisit()
	f.Fuzz(func(t *testing.T, rest, request string) {
		destination := "https://shop.example/" + url.PathEscape(rest)
		if u, err := url.Parse("https://shop.example/" + rest); err == nil && u.Host == "shop.example" && u.User == nil {
			destination = u.String()
		}
		got := string(appendLocation(nil, []byte(destination), own, []byte(request), v.allows))
		if i := strings.IndexFunc(strings.TrimPrefix(got, destination), func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
			t.Errorf("appendLocation(%q, %q) = %q holds a control character", destination, request, got)
		}
		base, _, _ := strings.Cut(destination, "#")
		if !strings.HasPrefix(got, base) {
			t.Errorf("appendLocation(%q, %q) = %q does not begin with the destination", destination, request, got)
		}
		u, err := url.Parse(got)
		if err != nil || u.Host != "shop.example" {
			t.Errorf("appendLocation(%q, %q) = %q: %v", destination, request, got, err)
		}
		if len(got) > len(destination)+len("?wm_cid=ID")+maxPassthrough {
			t.Errorf("appendLocation(%q, %q) has %d bytes", destination, request, len(got))
		}
	})
}
