package schema

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// Version is the version of [Header] and of the messages that follow it.
const Version = 1

// HeaderKey is the key of the Kafka record header that holds an encoded [Header].
const HeaderKey = "wm"

// HeaderSize is the number of bytes of an encoded [Header], in every version.
const HeaderSize = 28

// RecordType says which message a record's value holds.
type RecordType uint8

// The types of record. Only ticks take no number of their own.
const (
	RecordClick       RecordType = 1
	RecordConversion  RecordType = 2
	RecordLedgerEntry RecordType = 3
	RecordTick        RecordType = 4
	RecordOpen        RecordType = 5
	RecordHole        RecordType = 6
	RecordEnd         RecordType = 7
)

// EdgeID names an edge: 64 random bits, minted with its journal folder.
type EdgeID uint64

// String returns 16 hexadecimal digits.
func (e EdgeID) String() string { return fmt.Sprintf("%016x", uint64(e)) }

// ParseEdgeID reads what [EdgeID.String] wrote.
func ParseEdgeID(s string) (EdgeID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("cannot read edge id %q: want 16 hexadecimal digits", s)
	}
	return EdgeID(n), nil
}

// Epoch names one opening of a journal: 64 random bits, never 0.
type Epoch uint64

// Header says where a record came from. (Edge, Epoch, Number) names it within its partition.
type Header struct {
	Version uint8
	Type    RecordType
	Edge    EdgeID
	Epoch   Epoch
	// Number counts the records of this epoch in this partition: 1, 2, 3... For a tick, the last one sent.
	Number uint64
}

// Append appends the encoded header, HeaderSize bytes, to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, h.Version, byte(h.Type), 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Edge))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Epoch))
	return binary.BigEndian.AppendUint64(b, h.Number)
}

// ParseHeader reads an encoded header. A version that is not known is no error here: the coordinates lie at the
// same place in every version, so that the record can still be counted.
func ParseHeader(b []byte) (Header, error) {
	if len(b) != HeaderSize {
		return Header{}, fmt.Errorf("cannot read record header: got %d bytes, want %d", len(b), HeaderSize)
	}
	return Header{
		Version: b[0],
		Type:    RecordType(b[1]),
		Edge:    EdgeID(binary.BigEndian.Uint64(b[4:])),
		Epoch:   Epoch(binary.BigEndian.Uint64(b[12:])),
		Number:  binary.BigEndian.Uint64(b[20:]),
	}, nil
}
