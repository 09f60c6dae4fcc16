package journal

import (
	"bytes"
	"fmt"
	"io"

	"waymark/schema"
)

// cursorCount is how many readers may go through the journal side by side without searching for their place.
const cursorCount = 4

// cursor remembers where in a segment the records behind a position begin.
type cursor struct {
	after   schema.Position
	segment *segment
	offset  int64
}

// Read returns synced records behind a position, in order, and the position of the last one: where to go on. It returns
// no records when there are none yet. atMost bounds what is read at once, in bytes, but for a single larger block. The
// records are the caller's.
func (j *Journal) Read(from schema.Position, atMost int) ([]schema.Record, schema.Position, error) {
	for {
		s, offset, size, end := j.place(from)
		if s == nil {
			return nil, from, nil
		}
		if offset >= size { // a segment without records
			from = end
			continue
		}
		content, err := j.readAt(s.name, offset, int(min(size-offset, int64(atMost))))
		if err != nil {
			return nil, from, err
		}
		if len(content) >= blockPrefix && int64(len(content)) < size-offset {
			if b := peekSize(content); b > len(content) && int64(b) <= size-offset {
				if content, err = j.readAt(s.name, offset, b); err != nil {
					return nil, from, err
				}
			}
		}
		records, last, used := parseBlocks(content, from, int(size-offset))
		if offset+int64(used) == size {
			last = max(last, end) // the positions that were given up are passed as well
		}
		j.remember(cursor{last, s, offset + int64(used)})
		if len(records) > 0 {
			return records, last, nil
		}
		if used == 0 {
			return nil, from, fmt.Errorf("cannot read journal segment %s at byte %d: no whole block", s.name, offset)
		}
		from = last
	}
}

// parseBlocks reads the whole blocks of a part of a segment, which has left bytes from there, and returns their records
// behind a position and how far it came. Damage is passed over; a block that goes on behind the part is left for later.
func parseBlocks(content []byte, from schema.Position, left int) (records []schema.Record, last schema.Position, used int) {
	last = from
	for used < len(content) {
		b, err := parseBlock(content[used:])
		if err != nil {
			if size := peekSize(content[used:]); size > len(content)-used && size <= left-used {
				break // the rest of it has not been read
			}
			next := bytes.Index(content[used+1:], blockStart)
			if next >= 0 {
				used += 1 + next
				continue
			}
			if used = len(content); used < left {
				used -= len(blockStart) - 1 // the start of a block may be cut in two
			}
			break
		}
		position := b.first
		for rest := b.body; len(rest) > 0; position++ {
			r, size, err := parseRecord(rest)
			if err != nil {
				break // parseBlock has read it already
			}
			if position > from {
				r.Position = position
				records = append(records, r)
			}
			rest = rest[size:]
		}
		last = max(last, b.last())
		used += b.size
	}
	return records, last, used
}

// peekSize returns the size that a block at the start of b claims to have.
func peekSize(b []byte) int {
	if len(b) < blockPrefix || !bytes.HasPrefix(b, blockStart) {
		return blockPrefix
	}
	n := int(uint32(b[4])<<24 | uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7]))
	return blockPrefix + min(n, maxBlock)
}

// place returns the segment and offset where records behind a position may begin, how much of the segment counts, and its
// last position; nil if all records are before it.
func (j *Journal) place(from schema.Position) (s *segment, offset, size int64, last schema.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.last <= from {
			continue
		}
		for _, c := range j.cursors {
			if c.segment == s && c.after == from && c.offset < s.size {
				return s, c.offset, s.size, s.last
			}
		}
		return s, s.header, s.size, s.last
	}
	return nil, 0, 0, 0
}

func (j *Journal) remember(c cursor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.cursors {
		if j.cursors[i].segment == c.segment && j.cursors[i].after == c.after {
			j.cursors[i] = c
			return
		}
	}
	j.cursors[j.cursorsTaken%cursorCount] = c
	j.cursorsTaken++
}

func (j *Journal) readAt(name string, offset int64, n int) ([]byte, error) {
	file, err := j.fs.Open(j.path(name))
	if err != nil {
		return nil, fmt.Errorf("cannot open journal segment %s: %w", name, err)
	}
	defer file.Close()
	content := make([]byte, n)
	if _, err := file.ReadAt(content, offset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("cannot read journal segment %s: %w", name, err)
	}
	return content, nil
}
