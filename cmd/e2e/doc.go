// Package e2e tests the whole system from outside: it starts the shipped binary, as users do, learns its addresses
// from the ready file, and believes only what the addresses answer.
//
// WAYMARK_BINARY names the binary (default: bin/waymark of this checkout), WAYMARK_ENGINE the embedded engine's
// library, WAYMARK_CHROMIUM the browser. `make test` sets all three.
package e2e
