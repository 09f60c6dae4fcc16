package schema

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Topic is one of Waymark's Kafka topics, apart from its generation.
type Topic uint8

// The topics. Clicks are partitioned by visitor and conversions by conversion id (see [PartitionOf]).
const (
	TopicClicks Topic = iota + 1
	TopicConversions
	TopicCatalog
	TopicLedger
	TopicDeadLetters
)

var topicNames = [...]string{TopicClicks: "clicks", TopicConversions: "conversions", TopicCatalog: "catalog", TopicLedger: "ledger", TopicDeadLetters: "dlq"}

// String returns the topic's name without prefix and generation.
func (t Topic) String() string {
	if int(t) < len(topicNames) && t > 0 {
		return topicNames[t]
	}
	return "topic" + strconv.Itoa(int(t))
}

// Log is one generation of a topic. It never changes its number of partitions.
type Log struct {
	Topic      Topic
	Generation uint32
}

// String returns the name of the Kafka topic, for example waymark.clicks.1.
func (l Log) String() string {
	return "waymark." + l.Topic.String() + "." + strconv.FormatUint(uint64(l.Generation), 10)
}

// ParseLog reads what [Log.String] wrote.
func ParseLog(s string) (Log, error) {
	parts := strings.Split(s, ".")
	if len(parts) == 3 && parts[0] == "waymark" {
		for t, name := range topicNames {
			if name == "" || name != parts[1] {
				continue
			}
			if g, err := strconv.ParseUint(parts[2], 10, 32); err == nil && g > 0 {
				return Log{Topic(t), uint32(g)}, nil
			}
		}
	}
	return Log{}, fmt.Errorf("cannot read log name %q: want waymark.<topic>.<generation>", s)
}

// PartitionOf returns the partition of a key that is uniform over its first 8 bytes, as visitors and conversion
// ids are. The partitions must be > 0, and are fixed for a log's life.
func PartitionOf(key *[16]byte, partitions int) int {
	return int(binary.BigEndian.Uint64(key[:8]) % uint64(partitions))
}

// CatalogKey returns the Kafka key of a catalog record: its kind and id, or "" for a record without entity.
func (r *CatalogRecord) CatalogKey() string {
	switch e := r.GetEntity().(type) {
	case *CatalogRecord_Program:
		return "program/" + strconv.FormatUint(e.Program.GetId(), 10)
	case *CatalogRecord_Partnership:
		return "partnership/" + strconv.FormatUint(e.Partnership.GetId(), 10)
	case *CatalogRecord_Link:
		return "link/" + strconv.FormatUint(e.Link.GetId(), 10)
	}
	return ""
}
