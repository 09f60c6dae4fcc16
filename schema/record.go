package schema

// Position is a place in an edge's journal, or an offset + 1 in a partition of Kafka: a number that grows with every
// record and never goes back. 0 is before the first.
type Position uint64

// Record is one event as it lies in a journal and in Kafka.
type Record struct {
	Topic     Topic
	Partition uint16
	Position  Position
	Header    Header
	Key       []byte
	Value     []byte
}
