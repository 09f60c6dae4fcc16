// Package forwarder sends an edge's journal to Kafka: each partition in order, with one request in flight, and only what
// is on disk. A record whose request failed is sent again byte for byte; duplicates in the log do no harm, because every
// record carries its number. A Kafka outage of any length costs journal space only.
//
// One goroutine reads the journal in rounds. A round's records are split by partition and the partitions are sent side by
// side; the next round begins when all of this one are acknowledged. Twice a second each partition gets a tick that
// says up to which time everything of this edge has been sent. Its time is taken first, then the journal's end, and the
// tick goes out only when everything up to that end is acknowledged: a tick never claims what is still on its way.
package forwarder
