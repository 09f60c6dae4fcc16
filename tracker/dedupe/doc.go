// Package dedupe is the exact set of visitors that were counted. It answers one question, atomically: is this the first
// time that this visitor counts, for the partnership and for the link?
//
// A [Set] has three layers. Marks that are not yet durable live in memory, beside the state they change. Below them a
// Bloom filter answers "certainly new" without touching disk. Pebble holds the exact set and confirms every "maybe", so
// a false positive costs a look-up, never a click. [Set.Flush] moves marks to Pebble, together with the position of the
// journal or log that they are true of, in one synced batch: the set on disk is always that of a whole prefix.
//
// The edge and the aggregator's fold use the same set. A lane is one sequence of positions: the edge has one, its journal;
// the fold has one per Kafka partition.
//
// Lock order: Set.flushing, then one shard's mutex. A [Txn] holds its shard's mutex from Begin to Commit or Abort; the
// journal's mutex may be taken meanwhile. No two shards are ever locked at once.
package dedupe
