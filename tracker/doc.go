// Package tracker is the edge: it answers clicks with redirects, takes conversions from merchants, and keeps both in a
// journal that is sent to Kafka. It needs nothing but its own disk.
//
// # Layers
//
// The server (server.go) cuts a request into a visit: parseTarget finds the slug, appendHost the host, links.Table the
// target. Tracker.take (click.go) judges the visit: Tracker.signals collects every reason not to count it, decide picks
// the first; a valid visit is judged by dedupe.Set. It mints the click id and appends the event to journal.Journal.
// Tracker.answer waits until the record is as durable as Config.Durability says, and redirects. appendLocation
// (destination.go) is the only place where anything of a request reaches a Location header. Record feeds visits that are
// handed in through the same take.
//
// Tracker.report (conversions.go) does the same for conversions, which always wait for the fsync. What it answers is a
// function of the request alone: the id of a conversion comes from its program and idempotency key, and what counts is
// the ledger's business.
//
// The leaf packages own one idea each: journal and forwarder the way to Kafka, dedupe who was counted, links the catalog,
// visitor who is behind a request, botfilter robots and previews, geo countries and devices; agents remembers what the last
// two read out of a user agent.
//
// # Ownership
//
// New opens the parts, Run owns their goroutines (links.Table.Follow, forwarder.Forwarder.Run, Tracker.keepSet,
// Tracker.watchDisk and the server), and shutdown waits for all of them before it closes the parts. A visit belongs to
// one request and comes from a pool; its slices point into the request until reset. The events are encoded before the
// handler returns, so nothing keeps a request's memory.
//
// # Lock order
//
// A shard of dedupe.Set (held from Begin to Commit or Abort), then the journal's mutex (inside Append). Holding the
// shard over Append is what gives the set and the journal one order: of two clicks of one visitor the one with the lower
// position is the unique one. Nothing waits for a disk under either lock. The locks of links.Table and of
// geo.Countries are leaves.
//
// # Failures
//
// The journal cannot be written: the redirect goes out all the same, the mark is taken back, and
// waymark_tracker_unjournaled_total counts the loss; conversions are answered 503, so that merchants send them again.
// The disk is nearly full: dedupe.Set is not flushed (Tracker.watchDisk), because Pebble ends the process when it cannot
// write; its marks stay in memory and are replayed from the journal at the next start. The process dies: New replays the
// journal from the set's position by the stored verdicts (Tracker.replay); a set that is ahead of its journal is made
// anew. Kafka is away: the journal grows to Config.JournalMax, and is trimmed behind what Kafka has acknowledged and the
// set has stored. A handler panics: the client gets a 500, and nothing else notices. Ready says no for what is wrong on
// this machine, and never for what is wrong elsewhere. A client outlasts a stop: it is redirected, and counted as
// unjournaled.
package tracker
