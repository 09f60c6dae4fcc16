// Package aggregator folds Kafka's partitions into ClickHouse, exactly once in effect.
//
// # Layers
//
// [Aggregator] joins a consumer group for the clicks and ledger logs. A session is one generation of that group: it
// recovers the partitions it is given, reads them with one fetcher each, hands what they read to the fold, and flushes
// what the fold says. Below it lie four leaves that know nothing of each other:
//
//   - aggregator/broker connects to Kafka, makes topics, and is the embedded broker.
//   - aggregator/warehouse connects to ClickHouse, makes tables, and is the embedded engine.
//   - aggregator/fold is the pure part: records in, facts out.
//   - aggregator/facts writes facts and reads them back.
//
// # Ownership
//
// A session's goroutine owns the fold of every partition, the batch and the visitor set; the fetchers own nothing but the
// answer that they hand over, and a fetcher waits until its answer is taken, so at most two answers per partition are in
// memory. The visitor set is opened and closed with the session: marks that were not flushed end there. Kafka's and
// ClickHouse's clients belong to the caller.
//
// # Lock order
//
// state.mu guards what Ready and Lag tell, is held for a few instructions and under no other lock. The locks of the
// visitor set are its own.
//
// # Failure
//
// Who owns a partition is only a matter of work: facts are true whoever writes them, so two owners at once, an owner that
// was thought dead, and a flush that was applied in part or twice write true rows again. The order of a flush is what
// recovery builds on (session.flush, session.recover):
//
//  1. clicks, then visitors and totals, then dead letters, then progress;
//  2. the local visitor set, which so is never ahead of progress;
//  3. the group's offsets, which nothing here reads back.
//
// Reads and writes that fail are made again until they are answered or the session ends; nothing is skipped. A partition
// whose next offset is gone from Kafka stops, alone and loudly ([Aggregator.Ready]). What no retry mends ends Run: a cluster or
// a number of partitions that is not the registered one, a log that is shorter than what was folded of it, facts of a newer
// version, a failing disk.
//
// At the end of the context the last flush has its own deadline; what it does not finish is folded again by the next
// session.
package aggregator
