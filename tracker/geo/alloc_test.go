//go:build !race

package geo

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestParseAgentDoesNotAlloc(t *testing.T) {
	ua := []byte("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	if n := testing.AllocsPerRun(100, func() { ParseAgent(ua) }); n != 0 {
		t.Errorf("ParseAgent allocates %v times, want 0", n)
	}
}

func TestCountryDoesNotAlloc(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	if err := os.WriteFile(path, mmdb("GeoLite2-Country", "DE"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	addr := netip.MustParseAddr("1.2.3.4")
	if n := testing.AllocsPerRun(100, func() { c.Country(addr) }); n != 0 {
		t.Errorf("a remembered country allocates %v times, want 0", n)
	}
}
