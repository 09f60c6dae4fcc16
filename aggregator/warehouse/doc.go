// Package warehouse connects to ClickHouse: to a server by its address, or to ClickHouse's own engine in this process.
//
// The embedded engine is libchdb.so, loaded without cgo. [Engine] is an http.Handler that speaks the part of
// ClickHouse's HTTP interface that clickhouse-go uses, so that the same client code runs in both cases: in process
// it is reached through [Engine.Transport], and `waymark clickhouse --listen` serves the same handler to other processes.
//
// The npm package that holds the library is pinned by package-lock.json and fetched by fetch.sh, which also says where
// it is kept; [DefaultLibrary] knows the same place.
package warehouse
