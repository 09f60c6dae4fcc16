package visitor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"

	"waymark/schema"
)

// CookieName is the name of the visitor cookie, and CookieTextSize the length of its value in bytes.
const (
	CookieName     = "wm_v"
	CookieTextSize = 44
)

// cookieSize is the length of a cookie before base64: id of the signing key, visitor, code of 16 bytes.
const cookieSize = 1 + 16 + 16

// maxCandidates bounds how many cookies of our name in one request are checked.
const maxCandidates = 4

// Cookie is the working memory of one request's cookie: it lies on the heap once, so that signing and checking do not
// allocate. It is not safe for concurrent use.
type Cookie struct {
	raw     [cookieSize]byte
	program [8]byte
}

// Cookies signs and reads visitor cookies under the installation's secrets. A cookie belongs to one program: it is
// worth nothing in another. It is safe for concurrent use.
type Cookies struct{ keys *schema.Keyring }

// NewCookies returns a signer and reader of cookies. Every secret of the file still reads; the first one signs.
func NewCookies(s *schema.Secrets) *Cookies { return &Cookies{s.Keyring(schema.PurposeCookie)} }

// Append appends the cookie value of a visitor of a program to dst: CookieTextSize bytes of A-Z a-z 0-9 - and _.
func (c *Cookies) Append(dst []byte, m *Cookie, program uint64, id *ID) []byte {
	binary.BigEndian.PutUint64(m.program[:], program)
	m.raw[0] = c.keys.Current()
	copy(m.raw[1:], id[:])
	c.keys.Sum(m.raw[17:], m.program[:], m.raw[:17])
	return base64.RawURLEncoding.AppendEncode(dst, m.raw[:])
}

// Parse reads a cookie value into id and reports whether it was signed here for this program.
func (c *Cookies) Parse(id *ID, m *Cookie, program uint64, text []byte) bool {
	if len(text) != CookieTextSize {
		return false
	}
	for _, b := range text {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '-' && b != '_' {
			return false
		}
	}
	n, err := base64.RawURLEncoding.Strict().Decode(m.raw[:], text)
	if err != nil || n != cookieSize {
		return false
	}
	binary.BigEndian.PutUint64(m.program[:], program)
	if !c.keys.Verify(m.raw[0], m.raw[17:], m.program[:], m.raw[:17]) {
		return false
	}
	copy(id[:], m.raw[1:17])
	return true
}

// Find reads the first valid visitor cookie of a Cookie header into id and reports whether there is one.
func (c *Cookies) Find(id *ID, m *Cookie, program uint64, header []byte) bool {
	candidates := 0
	for len(header) > 0 && candidates < maxCandidates {
		var pair []byte
		pair, header, _ = bytes.Cut(header, semicolon)
		name, value, ok := bytes.Cut(trim(pair), equals)
		if !ok || string(name) != CookieName {
			continue
		}
		candidates++
		if c.Parse(id, m, program, value) {
			return true
		}
	}
	return false
}

var (
	semicolon = []byte(";")
	equals    = []byte("=")
)
