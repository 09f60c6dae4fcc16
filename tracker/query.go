package tracker

import "bytes"

// The longest passthrough that is appended to a destination, in bytes, and how many of a request's parameters are
// looked at.
const (
	maxPassthrough = 2048
	maxParameters  = 64
)

// cutParameter cuts the first key=value off a query. Both stay encoded.
func cutParameter(query []byte) (key, value, rest []byte) {
	pair := query
	if i := bytes.IndexByte(query, '&'); i >= 0 {
		pair, rest = query[:i], query[i+1:]
	}
	if i := bytes.IndexByte(pair, '='); i >= 0 {
		return pair[:i], pair[i+1:], rest
	}
	return pair, nil, rest
}

// decoded is a walk over the bytes that an encoded key or value stands for.
type decoded struct{ rest []byte }

// next returns the next byte; ok is false at the end.
func (d *decoded) next() (c byte, ok bool) {
	if len(d.rest) == 0 {
		return 0, false
	}
	c = d.rest[0]
	if c == '%' && len(d.rest) >= 3 && isHex(d.rest[1]) && isHex(d.rest[2]) {
		c = unhex(d.rest[1])<<4 | unhex(d.rest[2])
		d.rest = d.rest[3:]
		return c, true
	}
	d.rest = d.rest[1:]
	if c == '+' {
		c = ' '
	}
	return c, true
}

func isHex(c byte) bool {
	c = toLower(c)
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return toLower(c) - 'a' + 10
}

// isKey reports whether an encoded key stands for name.
func isKey[T string | []byte](key []byte, name T) bool {
	d := decoded{key}
	for i := range len(name) {
		if c, ok := d.next(); !ok || c != name[i] {
			return false
		}
	}
	return len(d.rest) == 0
}

// sameKey reports whether two encoded keys stand for the same name.
func sameKey(a, b []byte) bool {
	da, db := decoded{a}, decoded{b}
	for {
		ca, okA := da.next()
		cb, okB := db.next()
		if ca != cb || okA != okB {
			return false
		}
		if !okA {
			return true
		}
	}
}

// hasKey reports whether an encoded query holds a key, encoded or not.
func hasKey(query, key []byte) bool {
	for len(query) > 0 {
		var have []byte
		if have, _, query = cutParameter(query); sameKey(have, key) {
			return true
		}
	}
	return false
}

// appendDecoded appends what an encoded value stands for, limit bytes at most.
func appendDecoded(dst, value []byte, limit int) []byte {
	d := decoded{value}
	for range limit {
		c, ok := d.next()
		if !ok {
			break
		}
		dst = append(dst, c)
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

// appendSafe appends an encoded key or value in a form that is safe in a URL and in a header: what is encoded stays as
// it is, what should have been is.
func appendSafe(dst, encoded []byte) []byte {
	for i, c := range encoded {
		safe := querySafe[c]
		if c == '%' {
			safe = i+2 < len(encoded) && isHex(encoded[i+1]) && isHex(encoded[i+2])
		}
		if safe {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}

// querySafe are the bytes that may stand in a key or value of a query: unreserved ones, and those that separate
// nothing there.
var querySafe = func() (safe [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$()*+,;:@/?") {
		safe[c] = true
	}
	return safe
}()
