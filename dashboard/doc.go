// Package dashboard is the process that partners look at: pages, live updates and a JSON API. It owns the SQL database
// (catalog, accounts, ledger) and reads its numbers from ClickHouse.
//
// # Layers
//
// A request passes recovered, secured (headers, body limit), the protection against requests from other sites, the router
// and, by the route's [access], withSession or withKey. [Dashboard.routes] is the only table of routes: the tests walk it,
// and hold the OpenAPI document (openapi.yaml) against it. A handler finds the partner's own program first; what is not the
// partner's is store.ErrNotFound like what does not exist, so that nobody learns that it does.
//
//	dashboard   routes, middleware, handlers, words: turns rows and sheets into views
//	store       SQL: programs, partners, links, sessions          auth    passwords, tokens, the limit on guessing
//	report      ClickHouse: sheets, latest clicks, progress       live    who watches, and what is new
//	pages       views, templates, assets                          ledger  conversions into SQL, and out again as entries
//
// Leaves do not know each other; this package maps one's types to the next one's.
//
// # Numbers
//
// [numbers] reads progress first and then the sheets, so that what "data as of" promises is in them. A sheet is read by
// one query, so that gross = unique + repeat + invalid on every reading; the links are read by another one, because a
// summary need not pay for them, and their gross adds up to the sheet's. What cannot be read is replaced by what was last
// known (of the last few thousand partnerships), and the page says so; nothing about ClickHouse ends in an error page.
//
// # Live updates
//
// One loop (live.Hub) asks for progress every 200 ms while a page is open, then which of the watched partnerships have new
// facts, and reads the sheets of those alone. A stream renders the live parts of its page with the templates of the page;
// the script puts them in by id. A watcher holds the newest state, never a queue; a write that takes over 10 s ends the stream,
// and the browser comes back.
//
// # Ownership and order
//
// [Dashboard.Run] owns every goroutine: serving, polling, the schema check, the catalog relay and the ledger; the first to
// fail ends the others. On shutdown requests finish first, then streams end. The only locks are leaves': numbers.mu, the
// hub's, the limiters'; none is held while another is taken.
//
// # Failure
//
// ClickHouse down: last known numbers and a notice. Kafka down: pages work, changes wait in the outbox, "data as of" stands still
// and names who is silent. Database down: 503 with a page of its own. A panic is a 500, counted, and ends nothing else.
package dashboard
