package geo

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// mmdb builds the smallest database: IPv4 addresses below 128.0.0.0 are in the country, all others nowhere.
func mmdb(kind, country string) []byte {
	text := func(s string) []byte { return append([]byte{0x40 | byte(len(s))}, s...) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	uint16Of := func(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0xa2}, n) }
	uint32Of := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xc4}, n) }
	record := join([]byte{0xe1}, text("country"), []byte{0xe1}, text("iso_code"), text(country))
	metadata := join([]byte{0xe9},
		text("node_count"), uint32Of(1), text("record_size"), uint16Of(24), text("ip_version"), uint16Of(4),
		text("database_type"), text(kind), text("languages"), []byte{0x00, 0x04},
		text("binary_format_major_version"), uint16Of(2), text("binary_format_minor_version"), uint16Of(0),
		text("build_epoch"), []byte{0x04, 0x02, 0x65, 0, 0, 0}, text("description"), []byte{0xe0})
	tree := []byte{0, 0, 17, 0, 0, 1} // left: the record at 0 of the data section; right: nothing
	return join(tree, make([]byte, 16), record, []byte("\xab\xcd\xefMaxMind.com"), metadata)
}

func TestCountry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	if err := os.WriteFile(path, mmdb("GeoLite2-Country", "DE"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := func(addr, want string) {
		t.Helper()
		for range 2 { // read, then remembered
			if got := string(c.Country(netip.MustParseAddr(addr))); got != want {
				t.Errorf("Country(%s) = %q, want %q", addr, got, want)
			}
		}
	}
	f("1.2.3.4", "DE")
	f("127.255.255.255", "DE")
	f("128.0.0.1", "")
	f("2001:db8::1", "")
	if got := c.Country(netip.Addr{}); got != nil {
		t.Errorf("Country of no address = %q, want none", got)
	}
}

func TestCountryBadFiles(t *testing.T) {
	none, err := Open("")
	if err != nil || none.Country(netip.MustParseAddr("1.2.3.4")) != nil {
		t.Errorf("Open of nothing = %v, want no error and no countries", err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("not a database"), "asn": mmdb("GeoLite2-ASN", "DE"), "cut": mmdb("GeoLite2-Country", "DE")[:30]} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Open(path); err == nil {
			t.Errorf("Open of a file that is %s = %v, want an error", name, c)
		}
	}
	if _, err := Open(filepath.Join(dir, "missing")); err == nil {
		t.Error("Open of no file: want an error")
	}
}
