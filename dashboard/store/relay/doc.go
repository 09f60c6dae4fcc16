// Package relay sends the catalog's outbox to the compacted Kafka topic that edges follow.
//
// One relay at a time works, under a lease in SQL. It sends each change as soon as it is made, in the order of the
// versions. Beside that, once after it took the lease, it reads the topic to the end found then and sends again every
// record whose newest version in the topic is not the one in SQL: after a crash before the acknowledgement, on a new or
// shortened topic, or when a relay that had lost its lease sent an old record behind a newer one.
package relay
