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
//
// # The program file
//
// [Store.Apply] takes YAML of this form. Of what is marked with an asterisk, a first application needs it; everything
// else may be left out, and then stays as it is or gets the value shown. Lists of keys, hosts, groups, partners and links only
// ever add: what the file leaves out is left as it is and named.
//
//	programs:
//	  - key: summit                        # * how the API names it
//	    name: Summit Cloud                 # *
//	    state: active                      # or disabled
//	    hosts: [go.summit.example]         # * new links are made on the first one
//	    allowed_destinations: []           # shop.example, "*.shop.example/plans", "http://localhost:8080"
//	    windows: {cookie: lifetime, hash: 24h}
//	    features: {links: on, cookies: on}
//	    fallback_url: ""                   # where customers of disabled links go
//	    opt_out_param: ""                  # requests that carry it never count
//	    excluded_networks: []              # nor do those from here: 192.0.2.0/24
//	    click_id_param: ""                 # empty: wm_cid
//	    partner_param: ""                  # empty: none
//	    passthrough: []                    # query keys that are handed on
//	    timezone: UTC
//	    conversion_keys: []                # bearer keys of the conversions API; only their hashes are stored
//	    groups:
//	      - key: creators                  # *
//	        name: Creators                 # *
//	        offers: []                     # in words
//	        default_links:                 # up to 3; the first one's slug is the partner key
//	          - {title: Home page, destination: "https://shop.example/"}
//	    partners:
//	      - email: partner@mail.example    # * the same address in two programs is one partner
//	        name: A Partner                # *
//	        group: creators                # *
//	        key: partner                   # * unique in the program, and for ever
//	        state: active                  # or disabled
//	        password: ""                   # only its hash is stored
//	        api_keys: []                   # only their hashes are stored
//	        links:                         # up to 50 custom ones
//	          - {slug: spring, destination: "https://shop.example/spring", title: Spring, enabled: on}
package store
