// Package facts writes the rows of the fold to ClickHouse and reads them back when a partition changes hands.
//
// A row is true of a prefix of its log, whoever writes it and however often. So a write that failed, or whose answer was
// lost, is simply made again with the same rows, until it is answered or the caller gives up; nothing has to be known of
// what the failed one did. What has an order is the tables: clicks before visitors and totals, because a visitor that is
// ahead of progress is right only beside the verdicts that came before it; and progress last ([Store.Write], then
// [Store.WriteProgress]).
package facts
