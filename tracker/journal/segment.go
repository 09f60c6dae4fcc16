package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"waymark/schema"
)

// The format. All integers are big endian.
//
//	segment header: magic 8, length 4, checksum 4, then length bytes: version 1, edge 8, epoch 8, base 8,
//	                previous base 8, previous length 8, count 2, and count times topic 1, partition 2, epoch 8, last number 8
//	block:          magic 4, length 4, checksum 4, then length bytes: first position 8, count 4, records
//	record:         length 4 (of what follows), topic 1, partition 2, header 28, key length 2, key, value
//
// A checksum (CRC-32C) covers the length before it and the bytes after it.
const (
	segmentMagic   = "WMJRNL\x00\x01"
	segmentVersion = 1
	segmentPrefix  = 16
	blockMagic     = 0xb10c57a7
	blockPrefix    = 12
	blockHead      = 12
	recordHead     = 4 + 1 + 2 + schema.HeaderSize + 2
	maxBlock       = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(b)))
	return crc32.Update(crc32.Checksum(length[:], castagnoli), castagnoli, b)
}

// slot names a partition of a topic.
type slot struct {
	topic     schema.Topic
	partition uint16
}

// last is the last number that an epoch gave out in a slot.
type last struct {
	epoch  schema.Epoch
	number uint64
}

type segmentHeader struct {
	edge           schema.EdgeID
	epoch          schema.Epoch
	base           schema.Position
	previousBase   schema.Position
	previousLength int64
	lasts          map[slot]last
}

func (h *segmentHeader) encode(slots []slot) []byte {
	body := []byte{segmentVersion}
	body = binary.BigEndian.AppendUint64(body, uint64(h.edge))
	body = binary.BigEndian.AppendUint64(body, uint64(h.epoch))
	body = binary.BigEndian.AppendUint64(body, uint64(h.base))
	body = binary.BigEndian.AppendUint64(body, uint64(h.previousBase))
	body = binary.BigEndian.AppendUint64(body, uint64(h.previousLength))
	body = binary.BigEndian.AppendUint16(body, uint16(len(slots)))
	for _, s := range slots {
		body = append(body, byte(s.topic))
		body = binary.BigEndian.AppendUint16(body, s.partition)
		body = binary.BigEndian.AppendUint64(body, uint64(h.lasts[s].epoch))
		body = binary.BigEndian.AppendUint64(body, h.lasts[s].number)
	}
	b := append([]byte(segmentMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[8:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[12:], checksum(body))
	return append(b, body...)
}

var errHeader = errors.New("no segment header of this version")

// parseSegmentHeader reads the header at the start of a segment and returns its length.
func parseSegmentHeader(b []byte) (h segmentHeader, n int, err error) {
	if len(b) < segmentPrefix || string(b[:8]) != segmentMagic {
		return h, 0, errHeader
	}
	n = segmentPrefix + int(binary.BigEndian.Uint32(b[8:]))
	const fixed = 1 + 5*8 + 2
	if n < segmentPrefix+fixed || n > len(b) || checksum(b[segmentPrefix:n]) != binary.BigEndian.Uint32(b[12:]) {
		return h, 0, errHeader
	}
	body := b[segmentPrefix:n]
	if body[0] != segmentVersion {
		return h, 0, errHeader
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(body[1+8*i:]) }
	h = segmentHeader{schema.EdgeID(word(0)), schema.Epoch(word(1)), schema.Position(word(2)), schema.Position(word(3)), int64(word(4)), map[slot]last{}}
	slots := body[fixed:]
	const each = 1 + 2 + 8 + 8
	if count := int(binary.BigEndian.Uint16(body[fixed-2:])); len(slots) != count*each {
		return h, 0, errHeader
	}
	for ; len(slots) > 0; slots = slots[each:] {
		s := slot{schema.Topic(slots[0]), binary.BigEndian.Uint16(slots[1:])}
		h.lasts[s] = last{schema.Epoch(binary.BigEndian.Uint64(slots[3:])), binary.BigEndian.Uint64(slots[11:])}
	}
	return h, n, nil
}

// appendRecord appends a record as it stands in a block.
func appendRecord(b []byte, s slot, h schema.Header, key, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(recordHead-4+len(key)+len(value)))
	b = append(b, byte(s.topic))
	b = binary.BigEndian.AppendUint16(b, s.partition)
	b = h.Append(b)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, key...)
	return append(b, value...)
}

// startBlock appends room for the head of a block, which sealBlock fills in.
func startBlock(b []byte) []byte { return append(b, make([]byte, blockPrefix+blockHead)...) }

// sealBlock fills in the head of a block that holds count records from position first.
func sealBlock(b []byte, first schema.Position, count int) {
	binary.BigEndian.PutUint64(b[blockPrefix:], uint64(first))
	binary.BigEndian.PutUint32(b[blockPrefix+8:], uint32(count))
	binary.BigEndian.PutUint32(b, blockMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-blockPrefix))
	binary.BigEndian.PutUint32(b[8:], checksum(b[blockPrefix:]))
}

// block is a block that was read: its records lie in body.
type block struct {
	first schema.Position
	count int
	size  int
	body  []byte
}

func (b *block) last() schema.Position { return b.first + schema.Position(b.count) - 1 }

var errBlock = errors.New("no whole block")

// parseBlock reads the block at the start of b, and checks every record's frame.
func parseBlock(b []byte) (block, error) {
	if len(b) < blockPrefix+blockHead || binary.BigEndian.Uint32(b) != blockMagic {
		return block{}, errBlock
	}
	length := int(binary.BigEndian.Uint32(b[4:]))
	if length < blockHead || length > maxBlock || blockPrefix+length > len(b) || checksum(b[blockPrefix:blockPrefix+length]) != binary.BigEndian.Uint32(b[8:]) {
		return block{}, errBlock
	}
	out := block{
		first: schema.Position(binary.BigEndian.Uint64(b[blockPrefix:])),
		count: int(binary.BigEndian.Uint32(b[blockPrefix+8:])),
		size:  blockPrefix + length,
		body:  b[blockPrefix+blockHead : blockPrefix+length],
	}
	n := 0
	for rest := out.body; len(rest) > 0; n++ {
		_, size, err := parseRecord(rest)
		if err != nil {
			return block{}, err
		}
		rest = rest[size:]
	}
	if n != out.count || n == 0 {
		return block{}, errBlock
	}
	return out, nil
}

// parseRecord reads the record at the start of b. Key and value point into b.
func parseRecord(b []byte) (r schema.Record, size int, err error) {
	if len(b) < recordHead {
		return r, 0, errBlock
	}
	size = 4 + int(binary.BigEndian.Uint32(b))
	keyLength := int(binary.BigEndian.Uint16(b[recordHead-2:]))
	if size > len(b) || size < recordHead+keyLength {
		return r, 0, errBlock
	}
	if r.Header, err = schema.ParseHeader(b[7 : 7+schema.HeaderSize]); err != nil {
		return r, 0, err
	}
	r.Topic, r.Partition = schema.Topic(b[4]), binary.BigEndian.Uint16(b[5:])
	r.Key = b[recordHead : recordHead+keyLength : recordHead+keyLength]
	r.Value = b[recordHead+keyLength : size : size]
	return r, size, nil
}

const segmentSuffix = ".wal"

func segmentName(base schema.Position) string {
	return fmt.Sprintf("%016x%s", uint64(base), segmentSuffix)
}

func parseSegmentName(name string) (schema.Position, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return schema.Position(n), err == nil
}
