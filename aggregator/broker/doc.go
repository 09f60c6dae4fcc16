// Package broker connects Waymark to Kafka: addresses to clients, the topics that must exist, and the embedded broker for
// one machine. Everything else speaks to Kafka through the clients that [Connect] returns, so that an embedded broker
// and a cluster differ only in their address.
package broker
