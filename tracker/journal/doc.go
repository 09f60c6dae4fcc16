// Package journal is the truth of an edge: an append-only log of numbered events, in checksummed segments.
//
// [Journal.Append] gives a record its number and position and copies it into the group that is being gathered. One
// goroutine, the committer, owns the active segment: it writes a group as one block and syncs it, and whatever was
// appended meanwhile is the next group. There is no linger: an idle journal commits a lone record at once, and a busy
// one gathers as many as arrive during one fsync. [Journal.Wait] blocks until a record is as durable as the journal
// promises.
//
// # Files
//
// A segment is named after the position before its first record and begins with a header: edge, epoch, that position, for
// every partition the epoch and number of its last record so far, and the length up to which the segment before counts.
// Blocks follow, each with a checksum and the position of its first record, so that a damaged block can be passed over.
//
// # Failure
//
// After a write or fsync fails, nobody knows what is on disk behind the last synced byte. The segment is sealed there,
// the records of the failed groups are given up (their numbers are used again, their positions are not), and appends are
// refused until a new segment could be begun. What was answered already under [Write] is written again to the new one.
//
// [Open] cuts a torn tail, and passes over damaged blocks: they are copied aside, counted, and the numbers that are
// missing are declared by hole records.
//
// Lock order: Journal.mu, then nothing. The committer takes it only to swap groups and to publish.
package journal
