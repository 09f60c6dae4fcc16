package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"waymark/bench/scenario"
	"waymark/bench/stack"
)

// BareConfig is what the bare server needs.
type BareConfig struct {
	Listen    string // host:port
	Host      string
	Links     int    // it knows the slugs of a scenario with so many links
	ReadyFile string // written when it listens; empty: none
}

// Bare runs the bare server until the context ends: what Waymark is measured against.
func Bare(ctx context.Context, c BareConfig) error {
	if c.Links < 1 || c.Links > 1<<20 {
		return usagef("--links must be 1 to %d, got %d", 1<<20, c.Links)
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", c.Listen, err)
	}
	slugs := make([]string, c.Links)
	for i := range slugs {
		slugs[i] = scenario.Slug(i)
	}
	server := stack.NewBare(c.Host, slugs, func(slug string) string { return landing + "/landing?link=" + slug })
	if c.ReadyFile != "" {
		b, err := json.Marshal(stack.Ready{Address: l.Addr().String()})
		if err == nil {
			err = os.WriteFile(c.ReadyFile, b, 0o644)
		}
		if err != nil {
			l.Close()
			return fmt.Errorf("cannot write --ready-file %s: %w", c.ReadyFile, err)
		}
	}
	return server.Serve(ctx, l)
}
