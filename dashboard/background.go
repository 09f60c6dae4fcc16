package dashboard

import (
	"context"

	"waymark/dashboard/pages"
)

// background adds the work that no request asks for.
func (d *Dashboard) background(work map[string]func(context.Context) error) {
}

// booked returns the latest signups and sales of a partnership, newest first.
func (d *Dashboard) booked(ctx context.Context, partnership uint64) ([]pages.Activity, error) {
	return nil, nil
}
