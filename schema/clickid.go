package schema

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// ClickIDSize and ClickIDTextSize are the lengths in bytes of a click id: raw, and as it stands in a URL.
const (
	ClickIDSize     = 39
	ClickIDTextSize = 52
)

// RawClickID is a click id as events and tables hold it:
//
//	0      id of the signing key
//	1..7   time of the click, milliseconds since the Unix epoch
//	7..15  link
//	15..23 edge
//	23..31 random
//	31..39 HMAC-SHA256 of all before it, cut to 8 bytes
//
// The code makes it prove its link, time and edge without a look-up: it can't be forged, nor moved to another
// partner. 64 bits are enough, because guesses can only be tried one by one against a running edge.
type RawClickID [ClickIDSize]byte

// ErrClickID is returned for a token that is not a click id of ours.
var ErrClickID = errors.New("not a click id of this installation")

// ClickIDs mints and reads click ids. It is safe for concurrent use.
type ClickIDs struct{ keys *Keyring }

// NewClickIDs returns a minter and reader under the installation's secrets.
func NewClickIDs(s *Secrets) *ClickIDs { return &ClickIDs{s.Keyring(PurposeClickID)} }

// Mint writes the click id of a click into id. The random number must be unpredictable and fresh per click.
func (c *ClickIDs) Mint(id *RawClickID, timeMillis int64, link uint64, edge EdgeID, random uint64) {
	binary.BigEndian.PutUint64(id[0:], uint64(timeMillis)<<8)
	id[0] = c.keys.Current()
	binary.BigEndian.PutUint64(id[7:], link)
	binary.BigEndian.PutUint64(id[15:], uint64(edge))
	binary.BigEndian.PutUint64(id[23:], random)
	c.keys.Sum(id[31:], id[:31])
}

// Check reports whether the raw click id was minted under the installation's secrets.
func (c *ClickIDs) Check(id *RawClickID) bool { return c.keys.Verify(id[0], id[31:], id[:31]) }

// Parse reads a click id from its text. It returns ErrClickID for anything that was not minted here.
func (c *ClickIDs) Parse(text []byte) (RawClickID, error) {
	var id RawClickID
	if len(text) != ClickIDTextSize {
		return RawClickID{}, ErrClickID
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(id[:], text); err != nil || n != ClickIDSize || !c.Check(&id) {
		return RawClickID{}, ErrClickID
	}
	return id, nil
}

// AppendText appends the click id as it stands in a URL: 52 characters of A-Z a-z 0-9 - and _.
func (id *RawClickID) AppendText(b []byte) []byte {
	return base64.RawURLEncoding.AppendEncode(b, id[:])
}

// String returns the text of the click id.
func (id *RawClickID) String() string { return string(id.AppendText(nil)) }

// TimeMillis returns the time of the click in milliseconds since the Unix epoch.
func (id *RawClickID) TimeMillis() int64 { return int64(binary.BigEndian.Uint64(id[0:]) << 8 >> 16) }

// Link returns the link that was clicked.
func (id *RawClickID) Link() uint64 { return binary.BigEndian.Uint64(id[7:]) }

// Edge returns the edge that took the click.
func (id *RawClickID) Edge() EdgeID { return EdgeID(binary.BigEndian.Uint64(id[15:])) }

// ConversionIDs makes the ids that conversions are answered with. It is safe for concurrent use.
type ConversionIDs struct{ keys *Keyring }

// NewConversionIDs returns the ids under the installation's secrets. They stay the same as long as the first
// secret does.
func NewConversionIDs(s *Secrets) *ConversionIDs {
	return &ConversionIDs{s.Keyring(PurposeConversion)}
}

// ID returns the id of the conversion that a program reports under an idempotency key: the same from any edge,
// for ever.
func (c *ConversionIDs) ID(program uint64, idempotencyKey []byte) (id [16]byte) {
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], program)
	c.keys.Sum(id[:], p[:], idempotencyKey)
	return id
}
