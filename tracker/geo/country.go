package geo

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/oschwald/geoip2-golang/v2"
)

// Countries finds the country of an address in an MMDB file (GeoLite2-Country, GeoIP2-City and the like). The zero
// value knows none. It is safe for concurrent use.
type Countries struct {
	db *geoip2.Reader

	mu   sync.RWMutex
	seen map[netip.Prefix][]byte
}

// maxSeen bounds how many networks are remembered.
const maxSeen = 1 << 16

// Open opens an MMDB file, which must hold countries; path "" opens nothing and finds nothing.
func Open(path string) (*Countries, error) {
	if path == "" {
		return &Countries{}, nil
	}
	db, err := geoip2.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open country database (%s): %w", path, err)
	}
	if _, err := db.Country(netip.IPv4Unspecified()); err != nil {
		return nil, fmt.Errorf("cannot use country database (%s): %w", path, err)
	}
	return &Countries{db: db, seen: map[netip.Prefix][]byte{}}, nil
}

// Country returns the ISO 3166 code of an address's country, nil if it is not known. The result must not be changed.
// It allocates only for a network (an IPv4 /24, an IPv6 /48) that it has not seen before: nobody moves to another
// country within one often enough to matter for a count by country.
func (c *Countries) Country(addr netip.Addr) []byte {
	if c.db == nil || !addr.IsValid() {
		return nil
	}
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return nil
	}
	c.mu.RLock()
	code, ok := c.seen[network]
	c.mu.RUnlock()
	if ok {
		return code
	}
	if record, err := c.db.Country(addr); err == nil && len(record.Country.ISOCode) == 2 {
		code = []byte(record.Country.ISOCode)
	}
	c.mu.Lock()
	if len(c.seen) >= maxSeen {
		clear(c.seen)
	}
	c.seen[network] = code
	c.mu.Unlock()
	return code
}

// Close closes the file.
func (c *Countries) Close() error {
	if c.db == nil {
		return nil
	}
	return c.db.Close()
}
