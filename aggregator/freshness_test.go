package aggregator_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"waymark/aggregator/fold"
	"waymark/schema"
)

// TestFreshness holds the delay from a click's acknowledgement by Kafka to its row in totals, while ticks come in as they
// do when nothing else happens.
func TestFreshness(t *testing.T) {
	_, conn := cluster(t, t.TempDir())
	ch := engine(t)
	a, _ := start(t, config(conn, ch, t.TempDir()))
	wait(t, 10*time.Second, a.Ready)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for p := 1; p < 4; p++ {
				produce(t, conn.Client, clickLog, p, []fold.Record{{Header: schema.Header{Version: 1, Type: schema.RecordTick, Edge: 1, Epoch: 1}.Append(nil)}})
			}
			time.Sleep(500 * time.Millisecond)
		}
	}()
	var delays []time.Duration
	for i, rec := range history(1, 30) {
		produce(t, conn.Client, clickLog, 0, []fold.Record{rec})
		begin := time.Now()
		wait(t, 5*time.Second, func() error {
			if n := number(t, ch, "SELECT max(v) FROM progress WHERE log = 'waymark.clicks.1' AND partition = 0"); n != uint64(i+1) {
				return context.DeadlineExceeded
			}
			return nil
		})
		delays = append(delays, time.Since(begin))
		time.Sleep(time.Duration(i*37%200) * time.Millisecond)
	}
	cancel()
	<-done
	slices.Sort(delays)
	median := delays[len(delays)/2]
	t.Logf("median %s, worst %s", median, delays[len(delays)-1])
	// Far above what it takes, because a test machine has more to do.
	if limit := time.Second; median > limit {
		t.Errorf("the median click was stored %s after it lay in Kafka, want less than %s", median, limit)
	}
}

// TestSteadyStream holds that records that never pause do not put the flush off.
func TestSteadyStream(t *testing.T) {
	_, conn := cluster(t, t.TempDir())
	ch := engine(t)
	cfg := config(conn, ch, t.TempDir())
	cfg.FlushInterval = 100 * time.Millisecond
	a, _ := start(t, cfg)
	wait(t, 10*time.Second, a.Ready)
	log := history(1, 2000)
	seen := map[uint64]bool{}
	for begin, i := time.Now(), 0; time.Since(begin) < 3*time.Second && i < len(log); i++ {
		produce(t, conn.Client, clickLog, 0, log[i:i+1])
		if i%20 == 0 {
			seen[number(t, ch, "SELECT max(v) FROM progress WHERE log = 'waymark.clicks.1' AND partition = 0")] = true
		}
	}
	if len(seen) < 4 {
		t.Errorf("progress stood at %d different places in a steady stream, want at least 4", len(seen))
	}
}
