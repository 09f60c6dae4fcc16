//go:build !race

package visitor

import (
	"net/netip"
	"testing"
)

func TestVisitorDoesNotAlloc(t *testing.T) {
	secrets := testSecrets(t, secretA)
	h, c, p := NewHasher(secrets), NewCookies(secrets), testProxies(t, "10.0.0.0/8")
	traits := &Traits{Program: 1, UserAgent: []byte("Mozilla/5.0"), AcceptLanguage: []byte("de")}
	id, memory := new(ID), new(Cookie)
	header := append([]byte("a=b; wm_v="), c.Append(nil, memory, 1, id)...)
	forwarded := [][]byte{[]byte("198.51.100.7, 10.0.0.2")}
	buf := make([]byte, 0, 64)
	socket := netip.MustParseAddr("10.0.0.1")
	n := testing.AllocsPerRun(100, func() {
		traits.Address = p.Client(socket, forwarded)
		h.Sum(id, traits)
		if !c.Find(id, memory, 1, header) {
			t.Fatal("the cookie was refused")
		}
		buf = c.Append(buf[:0], memory, 1, id)
	})
	if n != 0 {
		t.Errorf("a visitor allocates %v times, want 0", n)
	}
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher(testSecrets(b, secretA))
	traits := &Traits{Program: 1, Address: netip.MustParseAddr("192.0.2.1"), UserAgent: make([]byte, 130), AcceptLanguage: []byte("de")}
	id := new(ID)
	b.ReportAllocs()
	for b.Loop() {
		h.Sum(id, traits)
	}
}
