// Package report reads what partners see from ClickHouse: typed queries over the facts that the aggregator wrote.
//
// Every row of totals says what was true after the first v records of a log's partition, so each query takes the newest
// v of each key and sums over logs and partitions. A sheet is read by one query, and so are a partnership's links; ClickHouse
// answers one query from one set of parts, so what belongs together adds up, also while clicks come in.
package report
