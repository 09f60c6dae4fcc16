package tracker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"waymark/schema"
)

const (
	flushEvery = 200 * time.Millisecond
	diskEvery  = time.Second
)

// Run serves clients until the context ends, and then stops gracefully: no new connections, running requests are
// finished, the journal is synced and, as far as DrainTimeout allows, forwarded; the dedupe set is flushed; everything
// is closed. It begins to serve when the link table is ready.
func (t *Tracker) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group sync.WaitGroup
	failed := make(chan error, 4)
	start := func(name string, run func(context.Context) error) {
		group.Go(func() {
			if err := run(work); err != nil && work.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("cannot follow the catalog", t.followCatalog)
	start("cannot forward the journal", t.forwarder.Run)
	start("cannot keep the dedupe set", t.keepSet)
	start("cannot watch the disk", t.watchDisk)

	err := t.awaitLinks(ctx, failed)
	served := make(chan error, 1)
	if err == nil && ctx.Err() == nil {
		go func() { served <- t.server.Serve(t.config.Listener) }()
		t.serving.Store(true)
		t.log.Info("the tracker serves", "address", t.Addr().String(), "edge", t.Edge().String())
		select {
		case <-ctx.Done():
		case err = <-failed:
		case err = <-served:
			served <- nil
		}
	}
	return errors.Join(err, t.shutdown(served, stop, &group))
}

// awaitLinks waits until the link table is ready: at once with a copy on disk, else when the catalog has been read to
// the end that it had.
func (t *Tracker) awaitLinks(ctx context.Context, failed chan error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !t.links.Ready() {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
	}
	return nil
}

// shutdown stops what runs, upstream first. Its steps have their own deadlines: the context that ended Run is over.
func (t *Tracker) shutdown(served chan error, stop context.CancelFunc, group *sync.WaitGroup) error {
	var errs []error
	step := func(name string, bound time.Duration, do func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		started := time.Now()
		err := do(ctx)
		t.log.Info("tracker stop", "step", name, "duration", time.Since(started).Round(time.Millisecond), "error", err)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if t.serving.Swap(false) {
		step("finish requests", t.config.DrainTimeout, t.server.ShutdownWithContext)
		errs = append(errs, <-served)
	}
	step("sync the journal", t.config.DrainTimeout, t.Sync)
	step("forward the journal", t.config.DrainTimeout, t.forwarder.Drain)
	stop()
	group.Wait()
	step("flush the dedupe set", t.config.DrainTimeout, func(context.Context) error { return t.flush() })
	return errors.Join(append(errs, t.Close())...)
}

// keepSet moves the marks of durable clicks to disk, and frees the journal of what is neither needed for them nor for
// Kafka.
func (t *Tracker) keepSet(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := t.flush(); err != nil {
			t.metrics.flushErrors.Inc()
			t.log.Error("cannot flush the dedupe set", "error", err)
			continue
		}
		if err := t.journal.Trim(min(t.set.Position(lane), t.forwarder.Acked())); err != nil {
			t.log.Error("cannot trim the journal", "error", err)
		}
	}
}

// flush flushes the dedupe set up to what the journal has synced, unless the disk is nearly full: Pebble ends the
// process when it cannot write. What is not flushed is replayed at the next start.
func (t *Tracker) flush() error {
	if t.full.Load() {
		t.metrics.passedOver.Inc()
		return nil
	}
	synced := t.journal.Synced()
	if synced == t.set.Position(lane) {
		return nil
	}
	t.metrics.flushes.Inc()
	return t.set.Flush(lane, synced)
}

// watchDisk keeps t.full true while less than MinFree bytes of the disk are free.
func (t *Tracker) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		if usage, err := t.config.FS.GetDiskUsage(t.config.Dir); err == nil {
			full := usage.AvailBytes < t.config.MinFree
			if t.full.Swap(full) != full {
				t.log.Warn("free space on the disk has crossed its bound", "free", usage.AvailBytes, "bound", t.config.MinFree, "full", full)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sync waits until everything that was recorded before is durable.
func (t *Tracker) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- t.journal.WaitSynced(schema.Position(t.last.Load())) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
