// Package store is the dashboard's SQL database: programs, partners, links and accounts, the outbox of the catalog, and
// the tables of the ledger. It runs on SQLite and on PostgreSQL with the same statements.
//
// SQL is the truth of the catalog. Every change that edges must know writes a [schema.CatalogRecord] with a new, higher
// version into catalog_outbox in the same transaction; waymark/dashboard/store/relay sends those to Kafka. Rows of links
// are never removed, which is how a slug is never used twice.
//
// All writes go through [Store.Update], one at a time: over the single writing connection on SQLite, under an advisory
// lock on PostgreSQL. Versions and ids are therefore given out in the order in which they become visible. Reads use
// their own connections and never wait for a writer.
package store
