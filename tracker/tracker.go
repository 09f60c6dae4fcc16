package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"waymark/schema"
	"waymark/tracker/botfilter"
	"waymark/tracker/dedupe"
	"waymark/tracker/forwarder"
	"waymark/tracker/geo"
	"waymark/tracker/journal"
	"waymark/tracker/links"
	"waymark/tracker/visitor"
)

// lane is the only one that an edge has in its dedupe set: its journal.
const lane = 0

// Tracker is one edge. Make it with New, run it once with Run.
type Tracker struct {
	config  Config
	log     *slog.Logger
	metrics *Metrics
	trouble *trouble

	journal   *journal.Journal
	set       *dedupe.Set
	links     *links.Table
	forwarder *forwarder.Forwarder
	countries *geo.Countries

	agents        *agents
	proxies       visitor.Proxies
	hasher        *visitor.Hasher
	cookies       *visitor.Cookies
	clickIDs      *schema.ClickIDs
	conversionIDs *schema.ConversionIDs

	server  *fasthttp.Server
	visits  sync.Pool
	serving atomic.Bool
	closed  atomic.Bool   // clicks of clients that outlast a stop are redirected and lost
	full    atomic.Bool   // the disk is nearly full: no flushes
	last    atomic.Uint64 // the highest position of this process's records
}

// New opens the edge's data and replays its journal. The context bounds only this. Nothing is served before Run; a
// Tracker that is not run must be closed.
func New(ctx context.Context, config Config) (*Tracker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	proxies, err := visitor.ParseProxies(config.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("--trusted-proxies: %w", err)
	}
	t := &Tracker{
		config: config, log: config.Logger, trouble: newTrouble(config.Logger), agents: newAgents(botfilter.New()), proxies: proxies,
		hasher: visitor.NewHasher(config.Secrets), cookies: visitor.NewCookies(config.Secrets),
		clickIDs: schema.NewClickIDs(config.Secrets), conversionIDs: schema.NewConversionIDs(config.Secrets),
	}
	t.visits.New = func() any { return newVisit() }
	t.server = t.newServer()
	if err := t.open(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// open opens the parts in the order in which they depend on each other.
func (t *Tracker) open(ctx context.Context) (err error) {
	c := &t.config
	open := func() float64 { return float64(t.server.GetOpenConnectionsCount()) }
	rejected := func() float64 { return float64(t.server.GetRejectedConnectionsCount()) }
	if t.metrics, err = NewMetrics(c.Registerer, open, rejected); err != nil {
		return fmt.Errorf("cannot register the tracker's metrics: %w", err)
	}
	if t.countries, err = geo.Open(c.GeoIP); err != nil {
		return fmt.Errorf("--geoip: %w", err)
	}
	if err = c.FS.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the tracker's folder (%s): %w", c.Dir, err)
	}
	if t.links, err = links.Open(t.linksConfig()); err != nil {
		return fmt.Errorf("cannot open the link table: %w", err)
	}
	if t.journal, err = journal.Open(t.journalConfig()); err != nil {
		return fmt.Errorf("cannot open the journal: %w", err)
	}
	if t.set, err = dedupe.Open(t.dedupeConfig()); err != nil {
		return fmt.Errorf("cannot open the dedupe set: %w", err)
	}
	if err = t.replay(ctx); err != nil {
		return fmt.Errorf("cannot replay the journal: %w", err)
	}
	if t.forwarder, err = t.newForwarder(); err != nil {
		return fmt.Errorf("cannot set up the forwarder: %w", err)
	}
	return nil
}

// Addr returns the address of the listener.
func (t *Tracker) Addr() net.Addr { return t.config.Listener.Addr() }

// Edge returns the id of this edge.
func (t *Tracker) Edge() schema.EdgeID { return t.journal.Edge() }

// Metrics returns the tracker's own metrics.
func (t *Tracker) Metrics() *Metrics { return t.metrics }

// Ready returns nil when clients are served and everything on this machine that a click needs works. It asks nothing
// remote.
func (t *Tracker) Ready() error {
	switch {
	case !t.serving.Load():
		return errors.New("not serving yet")
	case !t.links.Ready():
		return errors.New("the link table has not been read yet")
	case t.full.Load():
		return errors.New("the disk is nearly full")
	}
	return t.journal.Err()
}

// Close closes what Run would have closed. It is for a Tracker that is not run.
func (t *Tracker) Close() error {
	t.closed.Store(true)
	var errs []error
	errs = append(errs, ignoreClosed(t.config.Listener.Close()))
	if t.set != nil {
		errs = append(errs, t.set.Close())
	}
	if t.journal != nil {
		errs = append(errs, t.journal.Close())
	}
	if t.links != nil {
		errs = append(errs, t.links.Close())
	}
	if t.countries != nil {
		errs = append(errs, t.countries.Close())
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// replay tells the dedupe set what the journal holds beyond the set's position. A set that is ahead of its journal
// belongs to another one: it is discarded, and the whole journal is read.
func (t *Tracker) replay(ctx context.Context) error {
	from, end := t.set.Position(lane), t.journal.Synced()
	if from > end {
		t.log.Warn("the dedupe set is ahead of the journal: it is made anew", "set", from, "journal", end)
		if err := t.set.Discard(lane); err != nil {
			return err
		}
		from = 0
	}
	replayed, started := 0, time.Now()
	var click schema.Click
	for from < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		records, next, err := t.journal.Read(from, replayBytes)
		if err != nil {
			return err
		}
		for i := range records {
			if err := t.mark(&records[i], &click); err != nil {
				return err
			}
		}
		replayed += len(records)
		if next <= from {
			break
		}
		from = next
	}
	t.metrics.replayed.Set(float64(replayed))
	if replayed > 0 {
		t.log.Info("the journal was replayed", "records", replayed, "duration", time.Since(started).Round(time.Millisecond))
	}
	return t.set.Flush(lane, end)
}

const replayBytes = 1 << 20

// mark puts a journaled click's marks into the set, as its stored verdict has them.
func (t *Tracker) mark(r *schema.Record, click *schema.Click) error {
	if r.Header.Type != schema.RecordClick || r.Position <= t.set.Position(lane) {
		return nil
	}
	resetClick(click)
	if err := click.UnmarshalVT(r.Value); err != nil {
		return fmt.Errorf("cannot read the click at position %d: %w", r.Position, err)
	}
	if !click.EdgeVerdict.Valid() || len(click.Visitor) != len(visitor.ID{}) {
		return nil
	}
	id := visitor.ID(click.Visitor)
	key := dedupe.MakeKey(click.PartnershipId, &id)
	if click.EdgeVerdict == schema.Verdict_VERDICT_UNIQUE {
		t.set.Put(lane, key, 0, click.OccurredMs, click.WindowMs, r.Position)
	}
	if click.EdgeLinkUnique {
		t.set.Put(lane, key, click.LinkId, click.OccurredMs, click.WindowMs, r.Position)
	}
	return nil
}

// trouble logs the journal's errors, at most once in a while each.
type trouble struct {
	log     *slog.Logger
	last    atomic.Int64
	dropped atomic.Int64
}

const troubleEvery = 10 * time.Second

func newTrouble(log *slog.Logger) *trouble {
	t := &trouble{log: log}
	t.last.Store(math.MinInt64)
	return t
}

func (t *trouble) note(err error) {
	now, last := time.Now().UnixNano(), t.last.Load()
	if last != math.MinInt64 && now-last < int64(troubleEvery) || !t.last.CompareAndSwap(last, now) {
		t.dropped.Add(1)
		return
	}
	t.log.Error("the journal cannot be written; clicks are redirected and lost", "error", err, "more_since_last", t.dropped.Swap(0))
}
