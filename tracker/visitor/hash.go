package visitor

import (
	"encoding/binary"
	"net/netip"

	"waymark/schema"
)

// ID is a visitor: 128 bits of a keyed hash, uniform, so that it also spreads over partitions.
type ID = [16]byte

// The bytes at which what a client says about itself is cut before it is hashed.
const (
	maxUserAgent = schema.MaxUserAgent
	maxLanguage  = 128
)

// Traits are what a visitor without a cookie is recognised by. A Traits is reused between requests: it lies on the
// heap once, so that hashing it does not allocate.
type Traits struct {
	Program        uint64
	Address        netip.Addr
	UserAgent      []byte
	AcceptLanguage []byte
	scratch        [24]byte
}

// Hasher makes visitor ids under the installation's secrets. It is safe for concurrent use.
type Hasher struct{ keys *schema.Keyring }

// NewHasher returns a hasher under the installation's secrets. Ids change when the first secret does.
func NewHasher(s *schema.Secrets) *Hasher { return &Hasher{s.Keyring(schema.PurposeVisitor)} }

// Sum writes the visitor of the traits into id. IPv6 addresses count by their /64, which is what one household or
// phone is given. It does not allocate.
func (h *Hasher) Sum(id *ID, t *Traits) {
	binary.BigEndian.PutUint64(t.scratch[:8], t.Program)
	address := t.scratch[8:]
	if t.Address.Is4() {
		v4 := t.Address.As4()
		address = address[:copy(address, v4[:])]
	} else {
		v6 := t.Address.As16()
		address = address[:copy(address, v6[:8])]
	}
	h.keys.Sum(id[:], t.scratch[:8], address, cut(t.UserAgent, maxUserAgent), cut(t.AcceptLanguage, maxLanguage))
}

func cut(b []byte, n int) []byte { return b[:min(len(b), n)] }
