//go:build !race

package botfilter

import "testing"

func TestMatchDoesNotAlloc(t *testing.T) {
	f := New()
	for _, ua := range []string{"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", lines(t, "people.txt")[0]} {
		b := []byte(ua)
		if n := testing.AllocsPerRun(100, func() { f.Match(b) }); n != 0 {
			t.Errorf("Match(%q) allocates %v times, want 0", ua, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	f := New()
	ua := []byte(lines(b, "people.txt")[0])
	b.SetBytes(int64(len(ua)))
	b.ReportAllocs()
	for b.Loop() {
		f.Match(ua)
	}
}
