// Package links is the edge's own copy of the catalog: which link leads where, for every host and slug, and which
// program a bearer key belongs to. It answers from memory, keeps its records in Pebble beside the offset of the catalog
// topic up to which they are true, and follows that topic when Kafka is there. The last good state stays in force.
//
// Records may come in any order: a link is served from the moment its program and partnership are known. Readers take one
// shard's read lock for a map look-up; writers hold it for the same. Lock order: Table.mu, then one shard's.
package links
