// Package bench is `waymark bench`: load that can be trusted. It starts the shipped binary, or takes a running
// system, makes a program of its own there, sends a scenario's clicks and conversions to it, and keeps what came of them.
//
// Layers, each a package that knows none of the others: pacer says when to send, scenario what to send and what it must
// have been counted as, generator sends and times, stack starts and measures processes, summary is the result file
// and everything that is read out of it. This package puts them together: a Config becomes one Result of one or more
// rounds, each with a program of its own, so that no visitor of one round is known in the next.
//
// Two clocks are kept for every click. The corrected latency starts at the moment at which the schedule wanted the
// request sent, whether or not a connection was free; the service latency starts when it was sent. A send more than 5 ms
// behind its schedule is late, and a round with more than 0.1 % of them is invalid and says whose fault it was: the
// generator's, or that of a server which held every connection.
//
// What was measured survives what ends a run early: each interval is appended to a .partial file as it ends, disk for
// the final file is set aside at the start, and a result that is not whole says why in its "partial" field.
package bench
