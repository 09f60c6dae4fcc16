package tracker

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"waymark/schema"
)

// TestFullDisk: while the journal's disk takes nothing, redirects go on, the losses are counted, leave no mark and take
// no number; conversions are refused; when there is space again everything is journaled again.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		write := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo || op.Kind == errorfs.OpCreate
		if full.Load() && write && strings.Contains(op.Path, "journal") {
			return errorfs.ErrInjected
		}
		return nil
	})
	e := startEdge(t, func(c *Config) { c.FS = errorfs.Wrap(c.FS, inject) })
	visit := func(n int) *http.Response {
		return e.get("GET", testHost, "/spring", fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", n))
	}
	visit(1)
	full.Store(true)
	const lost = 5
	for n := range lost {
		resp := visit(2 + n)
		if resp.StatusCode != http.StatusFound || !strings.Contains(resp.Header.Get("Location"), "wm_cid=") {
			t.Errorf("with a full disk a click is answered %s to %q", resp.Status, resp.Header.Get("Location"))
		}
	}
	if got := e.value(e.metrics.unjournaled); got != lost {
		t.Errorf("metrics say %v unjournaled clicks, want %d", got, lost)
	}
	if e.Ready() == nil {
		t.Error("ready with a journal that takes nothing")
	}
	if resp, answer := e.post(testKey, `{"type":"lead","customer_key":"c","idempotency_key":"k"}`); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("with a full disk a conversion is answered %s %s", resp.Status, answer)
	}
	full.Store(false)
	for start := time.Now(); e.Ready() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("10 s after there was space again: %v", e.Ready())
		}
	}
	visit(2)
	visit(1)
	clicks := e.clicks()
	var verdicts []schema.Verdict
	for _, c := range clicks {
		verdicts = append(verdicts, c.EdgeVerdict)
	}
	if len(clicks) != 3 || verdicts[0] != unique || verdicts[1] != unique || verdicts[2] != repeat {
		t.Errorf("journaled %v; want the click before, the first again as unique, and a repeat", verdicts)
	}
	numbers := map[string]bool{}
	for _, r := range e.records(schema.RecordClick) {
		key := fmt.Sprint(r.Partition, r.Header.Epoch, r.Header.Number)
		if numbers[key] {
			t.Errorf("number %d of partition %d was given twice", r.Header.Number, r.Partition)
		}
		numbers[key] = true
	}
}

// TestLateClient: a click that outlasts a stop is redirected all the same, and counted as lost.
func TestLateClient(t *testing.T) {
	e := startEdge(t, nil)
	e.close()
	ctx := requestOf(t, "GET /spring HTTP/1.1", "Host: go.example", "User-Agent: "+person)
	if e.handle(ctx); ctx.Response.StatusCode() != http.StatusFound || e.value(e.metrics.unjournaled) != 1 {
		t.Errorf("after the stop a click is answered %d, %v unjournaled; want a redirect and 1", ctx.Response.StatusCode(), e.value(e.metrics.unjournaled))
	}
}

// TestNearlyFullDisk: below MinFree the dedupe set is left alone, and the tracker says that it is not ready.
func TestNearlyFullDisk(t *testing.T) {
	e := startEdge(t, nil)
	e.full.Store(true)
	if e.Ready() == nil {
		t.Error("ready with a disk that is nearly full")
	}
	before := e.set.Position(lane)
	e.get("GET", testHost, "/spring")
	if err := e.flush(); err != nil || e.set.Position(lane) != before || e.value(e.metrics.passedOver) == 0 {
		t.Errorf("flush = %v at %d, before %d; want it passed over", err, e.set.Position(lane), before)
	}
}

// TestPowerCut cuts the power at random moments, with some of what was not synced. What was answered is there, every
// visitor was counted once, and goes on being so.
func TestPowerCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const rounds, visitors = 12, 30
	for round := range rounds {
		fs := vfs.NewCrashableMem()
		seedLinks(t, fs, "edge/links")
		config := newConfig(t, fs)
		e := runEdge(t, config)
		answered := 0
		for range 20 + r.IntN(60) {
			e.get("GET", testHost, "/spring", fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", r.IntN(visitors)))
			if answered++; r.IntN(10) == 0 {
				if err := e.flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range r.IntN(20) { // not waited for: may be lost
			if _, err := e.Record(t.Context(), Visit{Time: time.Now(), Host: testHost, Slug: "spring", UserAgent: person, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(visitors))})}); err != nil {
				t.Fatal(err)
			}
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[round%3], RNG: r})
		e.close()
		again := runEdge(t, newConfig(t, clone))
		for n := range visitors {
			again.get("GET", testHost, "/spring", fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", n))
		}
		clicks := again.clicks()
		if len(clicks) < answered+visitors {
			t.Errorf("round %d: %d clicks after the power cut, %d were answered", round, len(clicks)-visitors, answered)
		}
		counted := map[string]int{}
		for _, c := range clicks {
			if c.EdgeVerdict == unique {
				counted[string(c.Visitor)]++
			}
		}
		for id, n := range counted {
			if n != 1 {
				t.Errorf("round %d: visitor %x was counted %d times", round, id, n)
			}
		}
		if len(counted) != visitors {
			t.Errorf("round %d: %d visitors were counted, want %d", round, len(counted), visitors)
		}
		again.close()
	}
}

// TestForeignSet: a dedupe set that is ahead of its journal is another one's, and is made anew.
func TestForeignSet(t *testing.T) {
	fs := vfs.NewMem()
	seedLinks(t, fs, "edge/links")
	e := runEdge(t, newConfig(t, fs))
	for n := range 10 {
		e.get("GET", testHost, "/spring", fmt.Sprintf("X-Forwarded-For: 10.0.0.%d", n))
	}
	e.close()
	if err := fs.RemoveAll("edge/journal"); err != nil {
		t.Fatal(err)
	}
	again := runEdge(t, newConfig(t, fs))
	again.get("GET", testHost, "/spring", "X-Forwarded-For: 10.0.0.1")
	if c := again.clicks(); len(c) != 1 || c[0].EdgeVerdict != unique {
		t.Errorf("with a new journal the first click is %v, want unique", c[0].EdgeVerdict.Label())
	}
}
