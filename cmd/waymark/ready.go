package main

import (
	"context"
	"fmt"
	"time"
)

// poll calls condition until it returns nil. It ends early with the context's error, or with that of failed, which
// reports what makes waiting pointless.
func poll(ctx context.Context, what string, failed func() error, condition func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if failure := failed(); failure != nil {
			return failure
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting until %s: %w", what, err)
		case <-tick.C:
		}
	}
}
