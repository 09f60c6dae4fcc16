// Package ledger reads the conversions log into SQL, decides alone what counts once, whose customer somebody is and what
// is credited for it, and tells the ledger log.
//
// One ledger at a time works, under a lease in SQL that every one of its transactions checks. The records of all partitions
// of the conversions log go through one goroutine; a transaction holds the offsets, the watermarks of the edges (numbers
// at or below one and in no open gap are duplicates), the conversions, their entries, and the entries' records in the
// outbox. Anything that fails in it ends the session; the next one starts from what SQL holds.
//
// # What is credited
//
// A conversion counts once per id, which is made of program and idempotency key; another one under the same id is kept as
// a conflict and does not count. A click id credits the owner of its link when it was minted here, the link belongs to
// the conversion's program, and the click lies at most [Config.Window] before the conversion. It may lie up to a day
// after it, because merchants report dates and have clocks of their own.
//
// A customer belongs to whom the first signup's click credits; when that one credits nobody, to whom the first lead or
// sale with a click credits. A customer is referred when the signup is credited, by its own click or by an earlier
// touch. Sales and refunds of a customer are credited to its owner from the click on. "First" goes by the time at which
// things happened, so the outcome is the same in whatever order the partitions deliver them: when an earlier one arrives
// later, entries are reversed and made anew. Entries are never changed.
//
// # The outbox
//
// The outbox is an edge: it has an id, an epoch per session, numbers per partition of the ledger log, an open record in
// each, and ticks. Its records lie in SQL until Kafka has acknowledged them, and are sent again byte for byte. A tick's
// time is the least tick over all edges and partitions of the conversions log, and follows the entries that it covers.
package ledger
