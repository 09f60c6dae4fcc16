package visitor

import (
	"net/netip"
	"strings"
	"testing"

	"waymark/schema"
)

const (
	secretA = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	secretB = "2 f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

func testSecrets(t testing.TB, lines ...string) *schema.Secrets {
	t.Helper()
	s, err := schema.ParseSecrets([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testProxies(t testing.TB, list ...string) Proxies {
	t.Helper()
	p, err := ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClient(t *testing.T) {
	f := func(trusted, socket, want string, lines ...string) {
		t.Helper()
		var networks []string
		if trusted != "" {
			networks = strings.Split(trusted, ",")
		}
		var values [][]byte
		for _, l := range lines {
			values = append(values, []byte(l))
		}
		got := testProxies(t, networks...).Client(netip.MustParseAddr(socket), values)
		if got != netip.MustParseAddr(want) {
			t.Errorf("trusting %q, socket %s, X-Forwarded-For %q: got %v, want %s", trusted, socket, lines, got, want)
		}
	}
	// Nobody trusted: the header is a client's own words.
	f("", "192.0.2.1", "192.0.2.1", "198.51.100.7")
	f("", "::ffff:192.0.2.1", "192.0.2.1", "198.51.100.7")
	// The socket is no proxy of ours.
	f("10.0.0.0/8", "192.0.2.1", "192.0.2.1", "198.51.100.7")
	// One trusted proxy: only the entry that it added counts, whatever stands left of it.
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "198.51.100.7")
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "203.0.113.9, 198.51.100.7")
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "10.0.0.5, 203.0.113.9,198.51.100.7")
	f("10.0.0.0/8", "::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7")
	f("10.0.0.1", "10.0.0.1", "198.51.100.7", "198.51.100.7")
	// Two trusted proxies, on one line or two.
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "203.0.113.9, 198.51.100.7, 10.0.0.2")
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "203.0.113.9, 198.51.100.7", "10.0.0.2")
	// A proxy that added nothing, or nonsense, is itself the client that is known.
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "198.51.100.7, unknown")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.2", "198.51.100.7, _hidden, 10.0.0.2")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "198.51.100.7,")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "0.0.0.0")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "fe80::1%eth0")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "198.51.100.7:")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "198.51.100.7:port")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "[198.51.100.7]:80")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "[2001:db8::7")
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.1", "010.0.0.1")
	// Ports and IPv6.
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "198.51.100.7:4711")
	f("10.0.0.0/8", "10.0.0.1", "2001:db8::7", "2001:db8::7")
	f("10.0.0.0/8", "10.0.0.1", "2001:db8::7", "[2001:db8::7]:4711")
	f("2001:db8::/32,10.0.0.0/8", "10.0.0.1", "198.51.100.7", "198.51.100.7, 2001:DB8::1")
	f("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "::ffff:198.51.100.7")
	// The walk is bounded.
	f("10.0.0.0/8", "10.0.0.1", "10.0.0.2", strings.Repeat("10.0.0.2,", 5000)+"10.0.0.2")
}

func TestParseProxiesBadInput(t *testing.T) {
	for _, bad := range []string{"", "10.0.0.0/33", "proxy.example", "10.0.0.0/8/8", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		if p, err := ParseProxies([]string{bad}); err == nil {
			t.Errorf("ParseProxies(%q) = %v, want an error", bad, p)
		}
	}
}

func FuzzClient(f *testing.F) {
	f.Add("203.0.113.9, 198.51.100.7, 10.0.0.2", "[::1]:80")
	f.Add("unknown,,", "1.2.3.4:99999999")
	p := testProxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, first, second string) {
		socket := netip.MustParseAddr("192.0.2.1")
		lines := [][]byte{[]byte(first), []byte(second)}
		if got := p.Client(socket, lines); got != socket {
			t.Errorf("a socket that is not trusted became %v by %q, %q", got, first, second)
		}
		if got := p.Client(netip.MustParseAddr("10.0.0.1"), lines); !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("Client(%q, %q) = %v, want a plain address", first, second, got)
		}
	})
}

func sum(h *Hasher, tr Traits) (id ID) {
	h.Sum(&id, &tr)
	return id
}

func TestHash(t *testing.T) {
	h := NewHasher(testSecrets(t, secretA))
	base := Traits{Program: 1, Address: netip.MustParseAddr("192.0.2.1"), UserAgent: []byte("a"), AcceptLanguage: []byte("b")}
	want := sum(h, base)
	if got := sum(NewHasher(testSecrets(t, secretA, secretB)), base); got != want {
		t.Errorf("an old secret behind the first changes the visitor: %x, want %x", got, want)
	}
	differs := func(what string, change func(*Traits)) {
		t.Helper()
		other := base
		change(&other)
		if sum(h, other) == want {
			t.Errorf("another %s is the same visitor", what)
		}
	}
	differs("program", func(tr *Traits) { tr.Program = 2 })
	differs("address", func(tr *Traits) { tr.Address = netip.MustParseAddr("192.0.2.2") })
	differs("user agent", func(tr *Traits) { tr.UserAgent = []byte("ab") })
	differs("language", func(tr *Traits) { tr.AcceptLanguage = nil })
	differs("split of agent and language", func(tr *Traits) { tr.UserAgent, tr.AcceptLanguage = []byte("ab"), nil })
	if sum(NewHasher(testSecrets(t, secretB)), base) == want {
		t.Error("another secret gives the same visitor")
	}
	v6 := func(addr string) ID {
		other := base
		other.Address = netip.MustParseAddr(addr)
		return sum(h, other)
	}
	if v6("2001:db8:0:1::1") != v6("2001:db8:0:1:ffff::2") {
		t.Error("two addresses of one /64 are two visitors")
	}
	if v6("2001:db8:0:1::1") == v6("2001:db8:0:2::1") {
		t.Error("two /64 are one visitor")
	}
}

func TestCookie(t *testing.T) {
	c := NewCookies(testSecrets(t, secretA))
	id := ID{1, 2, 3, 255}
	text := c.Append(nil, &Cookie{}, 7, &id)
	if len(text) != CookieTextSize {
		t.Fatalf("cookie %q has %d bytes, want %d", text, len(text), CookieTextSize)
	}
	f := func(what string, c *Cookies, program uint64, header string, want bool) {
		t.Helper()
		var got ID
		if ok := c.Find(&got, &Cookie{}, program, []byte(header)); ok != want || (ok && got != id) {
			t.Errorf("%s: Find(%d, %q) = %x, %v; want %v", what, program, header, got, ok, want)
		}
	}
	cookie := CookieName + "=" + string(text)
	f("alone", c, 7, cookie, true)
	f("among others", c, 7, "a=b; "+cookie+"; c=d", true)
	f("behind a bad one", c, 7, CookieName+"=bad; "+cookie, true)
	f("after rotation", NewCookies(testSecrets(t, secretB, secretA)), 7, cookie, true)
	f("of a secret that is gone", NewCookies(testSecrets(t, secretB)), 7, cookie, false)
	f("of another program", c, 8, cookie, false)
	f("under another name", c, 7, "x"+cookie, false)
	f("nothing", c, 7, "", false)
	f("cut", c, 7, cookie[:len(cookie)-1], false)
	f("quoted", c, 7, CookieName+`="`+string(text)+`"`, false)
	f("behind many bad ones", c, 7, strings.Repeat(CookieName+"=bad; ", 5)+cookie, false)
	for i := range text {
		forged := append([]byte(nil), text...)
		forged[i] ^= 1
		f("forged", c, 7, CookieName+"="+string(forged), false)
	}
}

func FuzzCookie(f *testing.F) {
	c := NewCookies(testSecrets(f, secretA))
	id := ID{9}
	f.Add([]byte("wm_v=" + string(c.Append(nil, &Cookie{}, 7, &id))))
	f.Add([]byte("wm_v=;;=; wm_v"))
	f.Fuzz(func(t *testing.T, header []byte) {
		var got ID
		if !c.Find(&got, &Cookie{}, 7, header) {
			return
		}
		if text := c.Append(nil, &Cookie{}, 7, &got); !strings.Contains(string(header), CookieName+"="+string(text)) {
			t.Errorf("Find(%q) = %x, whose cookie %q is not in it", header, got, text)
		}
	})
}
