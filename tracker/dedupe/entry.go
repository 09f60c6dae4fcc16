package dedupe

import (
	"encoding/binary"
	"errors"

	"waymark/schema"
)

// mark says when and where a visitor was counted in one scope: the partnership's (link 0) or a link's.
type mark struct {
	link         uint64
	timeMillis   int64
	windowMillis int64
	position     schema.Position
}

// entry holds a visitor's marks for one partnership: base is what Pebble has, pending what it will have, in the order of
// positions.
type entry struct {
	base    []mark
	pending []mark
}

// last returns the mark in force in a scope.
func (e *entry) last(link uint64) (mark, bool) {
	for i := len(e.pending) - 1; i >= 0; i-- {
		if e.pending[i].link == link {
			return e.pending[i], true
		}
	}
	return find(e.base, link)
}

func find(marks []mark, link uint64) (mark, bool) {
	for _, m := range marks {
		if m.link == link {
			return m, true
		}
	}
	return mark{}, false
}

// insert adds a pending mark in the order of positions.
func (e *entry) insert(m mark) {
	i := len(e.pending)
	for i > 0 && e.pending[i-1].position > m.position {
		i--
	}
	e.pending = append(e.pending, mark{})
	copy(e.pending[i+1:], e.pending[i:])
	e.pending[i] = m
}

// durable returns base with the pending marks up to a position applied, and how many those are.
func (e *entry) durable(upTo schema.Position) (marks []mark, n int) {
	for n < len(e.pending) && e.pending[n].position <= upTo {
		n++
	}
	if n == 0 {
		return e.base, 0
	}
	marks = append([]mark(nil), e.base...)
	for _, p := range e.pending[:n] {
		marks = replace(marks, p)
	}
	return marks, n
}

func replace(marks []mark, m mark) []mark {
	for i := range marks {
		if marks[i].link == m.link {
			marks[i] = m
			return marks
		}
	}
	return append(marks, m)
}

// first judges a claim against the mark in force: the rule of the visitor set.
func (e *entry) first(link uint64, c *Claim) bool {
	m, ok := e.last(link)
	switch {
	case !ok:
		return true
	case c.Position != 0 && m.position == c.Position:
		return true // this very click, seen again: the same answer
	case c.WindowMillis == 0:
		return false
	}
	return c.TimeMillis >= m.timeMillis && c.TimeMillis-m.timeMillis >= c.WindowMillis
}

const entryVersion = 1

var errEntry = errors.New("not an entry of the visitor set")

// appendMarks appends the encoding of marks: a version, then four varints each.
func appendMarks(b []byte, marks []mark) []byte {
	b = append(b, entryVersion)
	for _, m := range marks {
		b = binary.AppendUvarint(b, m.link)
		b = binary.AppendVarint(b, m.timeMillis)
		b = binary.AppendVarint(b, m.windowMillis)
		b = binary.AppendUvarint(b, uint64(m.position))
	}
	return b
}

// parseMarks reads what appendMarks wrote.
func parseMarks(b []byte) ([]mark, error) {
	if len(b) == 0 || b[0] != entryVersion {
		return nil, errEntry
	}
	r := reader{b: b[1:]}
	var marks []mark
	for len(r.b) > 0 && !r.failed {
		m := mark{link: r.uvarint(), timeMillis: r.varint(), windowMillis: r.varint(), position: schema.Position(r.uvarint())}
		if _, twice := find(marks, m.link); twice {
			return nil, errEntry
		}
		marks = append(marks, m)
	}
	if r.failed {
		return nil, errEntry
	}
	return marks, nil
}

type reader struct {
	b      []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.failed, n = true, len(r.b)
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.failed, n = true, len(r.b)
	}
	r.b = r.b[n:]
	return v
}
