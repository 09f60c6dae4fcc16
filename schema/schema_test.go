package schema

import (
	"strings"
	"testing"
)

func testSecrets(t testing.TB, lines ...string) *Secrets {
	t.Helper()
	s, err := ParseSecrets([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	secretA = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	secretB = "2 f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

func TestHeaderRoundTrip(t *testing.T) {
	want := Header{Version, RecordClick, 0x1122334455667788, 0x99, 1<<63 + 7}
	b := want.Append(nil)
	if got, err := ParseHeader(b); err != nil || got != want {
		t.Errorf("ParseHeader(%x) = %+v, %v; want %+v", b, got, err, want)
	}
	for _, n := range []int{0, HeaderSize - 1, HeaderSize + 1} {
		if h, err := ParseHeader(make([]byte, n)); err == nil {
			t.Errorf("ParseHeader of %d bytes = %+v, want an error", n, h)
		}
	}
}

func TestClickID(t *testing.T) {
	ids := NewClickIDs(testSecrets(t, secretA))
	var id RawClickID
	const ms, link, edge = 1_790_000_000_123, 1<<60 + 5, EdgeID(0xfedcba9876543210)
	ids.Mint(&id, ms, link, edge, 42)
	got, err := ids.Parse([]byte(id.String()))
	if err != nil || got != id || got.TimeMillis() != ms || got.Link() != link || got.Edge() != edge {
		t.Fatalf("Parse(%s) = %v (%d, %d, %v), %v; want what was minted", id.String(), got, got.TimeMillis(), got.Link(), got.Edge(), err)
	}
	for i := range id {
		forged := id
		forged[i] ^= 1
		if _, err := ids.Parse([]byte(forged.String())); err == nil {
			t.Errorf("a click id with byte %d changed was accepted", i)
		}
	}
	rotated := NewClickIDs(testSecrets(t, secretB, secretA))
	if _, err := rotated.Parse([]byte(id.String())); err != nil {
		t.Errorf("after rotation the old click id is refused: %v", err)
	}
	if _, err := NewClickIDs(testSecrets(t, secretB)).Parse([]byte(id.String())); err == nil {
		t.Error("a click id of a secret that is gone was accepted")
	}
}

func FuzzClickIDParse(f *testing.F) {
	ids := NewClickIDs(testSecrets(f, secretA))
	var id RawClickID
	ids.Mint(&id, 1, 2, 3, 4)
	f.Add([]byte(id.String()))
	f.Add([]byte("AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ids.Parse(text)
		if err == nil && got.String() != string(text) {
			t.Errorf("Parse(%q) accepted a text that is not its own: %s", text, got.String())
		}
	})
}

func TestSecretsBadInput(t *testing.T) {
	for _, in := range []string{"", "# only a comment", "x 00", "1 00", secretA + "\n" + secretA, "256 " + secretA[2:], secretA + "ff"} {
		if _, err := ParseSecrets([]byte(in)); err == nil {
			t.Errorf("ParseSecrets(%q): want an error", in)
		}
	}
}

func TestConversionIDIsStable(t *testing.T) {
	a, b := NewConversionIDs(testSecrets(t, secretA)), NewConversionIDs(testSecrets(t, secretA))
	if a.ID(1, []byte("k")) != b.ID(1, []byte("k")) {
		t.Error("two edges give one conversion two ids")
	}
	if a.ID(1, []byte("k")) == a.ID(2, []byte("k")) || a.ID(1, []byte("k")) == a.ID(1, []byte("l")) {
		t.Error("two conversions share an id")
	}
}

func TestNormalizeSlug(t *testing.T) {
	f := func(in, want string, ok bool) {
		t.Helper()
		got, err := NormalizeSlug(in)
		if (err == nil) != ok || (ok && got != want) {
			t.Errorf("NormalizeSlug(%q) = %q, %v; want %q, ok %v", in, got, err, want, ok)
		}
	}
	f("Spring-Sale", "spring-sale", true)
	f("a", "a", true)
	f(strings.Repeat("a", 64), strings.Repeat("a", 64), true)
	f(strings.Repeat("a", 65), "", false)
	for _, bad := range []string{"", "a b", "a/b", "ä", "a.b", "v1", "V1", "\x00", "a_b"} {
		f(bad, "", false)
	}
}

func TestNormalizeHost(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got, err := NormalizeHost(in)
		if (err == nil) != (want != "") || got != want {
			t.Errorf("NormalizeHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	f("Go.Example.COM.", "go.example.com")
	f("localhost:7080", "localhost")
	f("127.0.0.1:80", "127.0.0.1")
	f("[::1]:80", "::1")
	f("[0:0::1]", "::1")
	for _, bad := range []string{"", "a b", "a/b", "-a.com", "a..b", "host:port", "[::1", "2130706433", "0x7f.0x1", "exa\tmple", "::1%eth0", "ex%41mple.com"} {
		f(bad, "")
	}
}

func TestCheckDestination(t *testing.T) {
	var rules []DestinationRule
	for _, s := range []string{"shop.example", "*.wide.example", "http://localhost:8080", "paths.example/plans"} {
		r, err := ParseDestinationRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	for _, good := range []string{"https://shop.example", "https://shop.example/a/b?x=1#f", "https://SHOP.example/", "https://shop.example./", "https://a.wide.example/",
		"http://localhost:8080/x", "https://paths.example/plans", "https://paths.example/plans/pro", "https://shop.example/a%20b"} {
		if err := CheckDestination(good, rules); err != nil {
			t.Errorf("CheckDestination(%q) = %v, want nil", good, err)
		}
	}
	for _, bad := range []string{"", "shop.example", "//shop.example", "http://shop.example", "https://evil.example", "https://shop.example@evil.example",
		"https://shop.example:444/", "https://u:p@shop.example/", "javascript:alert(1)", "https:/shop.example", "https:shop.example", "https://shop.example\\@evil.example",
		"https:\\\\shop.example", "https://shop.example/\r\nSet-Cookie: a=b", "https://shop.example/\x00", "https://wide.example/", "https://evilwide.example",
		"https://paths.example/plansx", "https://paths.example/plans/../x", "https://paths.example/plans/%2e%2e/x", "https://paths.example/plans%2f..",
		"https://shop.example:/", "HTTPS://shop.example/", "https://" + strings.Repeat("a", 3000), "https://shöp.example/"} {
		if err := CheckDestination(bad, rules); err == nil {
			t.Errorf("CheckDestination(%q) = nil, want an error", bad)
		}
	}
	for _, bad := range []string{"", "ftp://x.example", "a b", "x.example/%2f", "*", "*."} {
		if _, err := ParseDestinationRule(bad); err == nil {
			t.Errorf("ParseDestinationRule(%q): want an error", bad)
		}
	}
}

func FuzzCheckDestination(f *testing.F) {
	r, _ := ParseDestinationRule("shop.example")
	f.Add("https://shop.example/x")
	f.Add("https://shop.example\\@evil.example")
	f.Fuzz(func(t *testing.T, dest string) {
		if CheckDestination(dest, []DestinationRule{r}) != nil {
			return
		}
		rest := strings.ToLower(strings.TrimPrefix(dest, "https://"))
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		if rest != "shop.example" && rest != "shop.example." {
			t.Errorf("CheckDestination accepted %q, whose authority is %q", dest, rest)
		}
	})
}

func TestQuarter(t *testing.T) {
	f := func(in, want int64) {
		t.Helper()
		if got := Quarter(in); got != want {
			t.Errorf("Quarter(%d) = %d, want %d", in, got, want)
		}
	}
	f(0, 0)
	f(QuarterMillis-1, 0)
	f(QuarterMillis, QuarterMillis)
	f(-1, -QuarterMillis)
	f(-QuarterMillis, -QuarterMillis)
}

func TestLogRoundTrip(t *testing.T) {
	for topic := TopicClicks; topic <= TopicDeadLetters; topic++ {
		want := Log{topic, 3}
		if got, err := ParseLog(want.String()); err != nil || got != want {
			t.Errorf("ParseLog(%q) = %v, %v; want %v", want.String(), got, err, want)
		}
	}
	for _, bad := range []string{"", "waymark.clicks", "waymark.clicks.0", "x.clicks.1", "waymark.nothing.1", "waymark..1"} {
		if l, err := ParseLog(bad); err == nil {
			t.Errorf("ParseLog(%q) = %v, want an error", bad, l)
		}
	}
}
