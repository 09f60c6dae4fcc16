// Package fold turns the records of one partition of a log into facts: which clicks count, what every total is after the
// first v records, when every visitor was last counted, and which records are still missing.
//
// The fold is pure: what it says of the first v records depends on those records and on [Version] alone; not on a clock, a
// catalog, the order of a map, how the records came in batches, who folds them or how often. So every row it emits is
// true for ever, and rows that two owners write at once agree.
//
// A [Partition] is driven in four steps by its owner, who does all reading and writing:
//
//	need := p.Stage(records) // decodes; says which rows of totals must be read back first
//	p.Load(...)              // hands them in
//	p.Apply()                // folds
//	p.Emit(&batch)           // the rows that have changed since the last Emit
//
// The visitor set is tracker/dedupe's, the same that the edges judge with, in a lane of its own per partition.
//
// What a record may be, and what becomes of it:
//
//   - A click, or an entry of the ledger: accepted if its number is above its epoch's watermark or in an open gap, else
//     dropped as a duplicate.
//   - A tick: moves the edge's tick if nothing of the edge is missing.
//   - The opening of an epoch: names the epoch before and its last number, so that a lost tail shows as a gap.
//   - A hole: closes the gap of numbers that are known to be lost.
//   - The end of an edge's part in the log: its tick no longer counts.
//   - Anything else, and what cannot be read: a [DeadLetter]. It advances the watermark by its header, so that it
//     holds nobody up, and leaves with its coordinates and the reason.
package fold

// Version is the version of the rules of this package. It changes when any record could be judged or counted in another
// way than before.
const Version = 1
