package botfilter

import "bytes"

// row is one pattern of a list: parts, joined by NUL, that follow each other with anything between them.
type row struct {
	text       string
	signal     Signal
	start, end bool
	// browser says that the pattern is also looked for in what looks like a person's browser.
	browser bool
}

// pattern is a row that is ready to be looked for: its longest part finds it, the others confirm it.
type pattern struct {
	row
	key           []byte
	before, after [][]byte
}

// index finds patterns in a text by the first three bytes of their keys: most places of a text are passed with one
// look at a bit set of 4 KB. It is immutable and safe for concurrent use, and does not allocate.
type index struct {
	// fold says that keys are in lower case and match letters of any case.
	fold    bool
	bits    [1 << (gramBits - 6)]uint64
	buckets map[uint32][]pattern
}

const (
	gramSize = 3
	gramBits = 15
)

func gram(a, b, c byte) uint32  { return uint32(a) | uint32(b)<<8 | uint32(c)<<16 }
func gramHash(gram uint32) uint { return uint(gram * 0x9E3779B1 >> (32 - gramBits)) }

// newIndex returns an index of rows. Each must hold a part of at least gramSize bytes.
func newIndex(rows []row, fold bool) *index {
	x := &index{fold: fold, buckets: map[uint32][]pattern{}}
	for _, r := range rows {
		parts := bytes.Split([]byte(r.text), []byte{0})
		key := 0
		for i, part := range parts {
			if len(part) > len(parts[key]) {
				key = i
			}
		}
		p := pattern{row: r, key: parts[key], before: parts[:key], after: parts[key+1:]}
		if len(p.key) < gramSize {
			panic("BUG: a pattern is too short: " + r.text)
		}
		g := gram(p.key[0], p.key[1], p.key[2])
		h := gramHash(g)
		x.bits[h>>6] |= 1 << (h & 63)
		x.buckets[g] = append(x.buckets[g], p)
	}
	return x
}

// match returns the signals of all patterns in ua. With browser, only of those that are looked for in browsers.
func (x *index) match(ua []byte, browser bool) Signal {
	var found Signal
	for i := 0; i+gramSize <= len(ua); i++ {
		a, b, c := ua[i], ua[i+1], ua[i+2]
		if x.fold {
			a, b, c = lower(a), lower(b), lower(c)
		}
		g := gram(a, b, c)
		if h := gramHash(g); x.bits[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		bucket := x.buckets[g]
		for j := range bucket {
			p := &bucket[j]
			if found|p.signal != found && (!browser || p.browser) && p.at(ua, i, x.fold) {
				found |= p.signal
			}
		}
	}
	return found
}

// at reports whether the pattern matches with its key at place i of ua.
func (p *pattern) at(ua []byte, i int, fold bool) bool {
	end := i + len(p.key)
	if end > len(ua) || !equal(ua[i:end], p.key, fold) {
		return false
	}
	rest := ua[:i]
	for n, part := range p.before {
		at := bytes.Index(rest, part)
		if at < 0 || n == 0 && p.start && at != 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	if p.start && len(p.before) == 0 && i != 0 {
		return false
	}
	rest = ua[end:]
	for _, part := range p.after {
		at := bytes.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return !p.end || len(rest) == 0 || len(p.after) > 0 && bytes.HasSuffix(ua, p.after[len(p.after)-1])
}

func equal(text, key []byte, fold bool) bool {
	if !fold {
		return string(text) == string(key)
	}
	for i, c := range text {
		if lower(c) != key[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
