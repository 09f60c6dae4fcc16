// Package schema is the language that Waymark's processes share: the events in Kafka and in the journal, the
// verdicts, the identifiers and signed tokens, the names of topics, the catalog's records and the rows of
// ClickHouse. Processes meet only in these, so nothing here knows a process, a connection or a clock, and the
// package imports only the standard library and protobuf.
//
// An event travels as one Kafka record: a [Header] of fixed size in the record's header [HeaderKey], and a
// protobuf message as its value. The header alone is enough to count the record, so a payload that nobody can
// read still advances the watermark of its edge.
//
// The messages are declared in events.proto and catalog.proto. Fields may be added; a number is never reused
// and a meaning never changes, because journals, logs and goldens hold the bytes.
package schema

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --go-vtproto_out=. --go-vtproto_opt=paths=source_relative,features=marshal+unmarshal+size events.proto catalog.proto
