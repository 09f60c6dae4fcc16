package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waymark/dashboard/store"
	"waymark/dashboard/store/storetest"
	"waymark/schema"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	conversionsTopic = "waymark.conversions.1"
	ledgerTopic      = "waymark.ledger.1"
	partitions       = 2
)

const file = `programs:
  - key: summit
    name: Summit
    hosts: [go.summit.example]
    allowed_destinations: [shop.example]
    groups: [{key: all, name: All, default_links: [{destination: "https://shop.example/"}]}]
    partners:
      - {email: a@partner.example, name: A, group: all, key: a}
      - {email: b@partner.example, name: B, group: all, key: b}
  - key: harbor
    name: Harbor
    hosts: [go.harbor.example]
    allowed_destinations: [shop.example]
    groups: [{key: all, name: All, default_links: [{destination: "https://shop.example/"}]}]
    partners:
      - {email: a@partner.example, name: A, group: all, key: a}
`

// now is when the tests' conversions happen.
var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// world is a database, a broker and the edges' secrets.
type world struct {
	t         testing.TB
	store     *store.Store
	kafka     *kafka.Client
	secrets   *schema.Secrets
	clicks    *schema.ClickIDs
	ids       *schema.ConversionIDs
	summit    uint64
	harbor    uint64
	a, b      store.Partnership
	aHarbor   store.Partnership
	linkA     uint64
	linkB     uint64
	linkOther uint64
}

// onPostgres makes the databases of the tests under TestPostgres.
var onPostgres func(testing.TB) string

// TestPostgres runs what the other tests do on SQLite against PostgreSQL.
func TestPostgres(t *testing.T) {
	server := storetest.Start(t)
	onPostgres = server.Database
	t.Run("Credit", TestCredit)
	t.Run("Once", TestOneKeyManyTimes)
	t.Run("Poison", TestPoison)
	t.Run("Epochs", TestHoleAndNewEpoch)
	t.Run("Late", TestDuplicateAndLateRecords)
	t.Run("Faults", TestFaults)
	t.Run("Latency", TestLatencyAndLatest)
}

func location(t testing.TB) string {
	if strings.HasPrefix(t.Name(), "TestPostgres/") {
		return onPostgres(t)
	}
	return filepath.Join(t.TempDir(), "waymark.db")
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, conversionsTopic), kfake.SeedTopics(1, ledgerTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	transport := &kafka.Transport{MetadataTTL: 200 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	w.kafka = &kafka.Client{Addr: kafka.TCP(c.ListenAddrs()...), Transport: transport}
	if w.store, err = store.Open(context.Background(), store.Config{URL: location(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	if _, err := w.store.Apply(context.Background(), []byte(file), store.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if w.secrets, err = schema.ParseSecrets([]byte(schema.FormatSecret(1, &[32]byte{1}))); err != nil {
		t.Fatal(err)
	}
	w.clicks, w.ids = schema.NewClickIDs(w.secrets), schema.NewConversionIDs(w.secrets)
	w.summit, w.a, w.linkA = w.member("a@partner.example", "summit")
	_, w.b, w.linkB = w.member("b@partner.example", "summit")
	w.harbor, w.aHarbor, w.linkOther = w.member("a@partner.example", "harbor")
	return w
}

func (w *world) member(email, program string) (uint64, store.Partnership, uint64) {
	w.t.Helper()
	partner, err := w.store.PartnerByEmail(context.Background(), email)
	if err != nil {
		w.t.Fatal(err)
	}
	p, s, err := w.store.Membership(context.Background(), partner.ID, program)
	if err != nil {
		w.t.Fatal(err)
	}
	links, err := w.store.Links(context.Background(), s.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.ID, s, links[0].ID
}

// click mints the id of a click on a link, so long before now.
func (w *world) click(link uint64, ago time.Duration) []byte {
	var id schema.RawClickID
	w.clicks.Mint(&id, now.Add(-ago).UnixMilli(), link, 7, rand.Uint64())
	return id[:]
}

// conversion returns one that happened so long before now.
func (w *world) conversion(typ schema.ConversionType, key, customer string, click []byte, amount int64, ago time.Duration) *schema.Conversion {
	id := w.ids.ID(w.summit, []byte(key))
	c := &schema.Conversion{ProgramId: w.summit, Id: id[:], Type: typ, ClickId: click, CustomerKey: customer, Amount: amount,
		OccurredMs: now.Add(-ago).UnixMilli(), ReceivedMs: now.UnixMilli(), IdempotencyKey: key}
	if amount != 0 {
		c.Currency = "USD"
	}
	return c
}

// run runs a ledger until the returned function is called or the test ends.
func (w *world) run(db Database, k *kafka.Client) (*Ledger, func()) {
	w.t.Helper()
	l, err := New(Config{Database: db, Kafka: k, ClickIDs: w.clicks, ConversionPartitions: partitions, TickEvery: 50 * time.Millisecond, Lease: 2 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(stop)
	return l, stop
}

// edge is a tracker's side of the conversions log.
type edge struct {
	w       *world
	id      schema.EdgeID
	epoch   schema.Epoch
	numbers [partitions]uint64
}

func (w *world) edge(id uint64) *edge {
	e := &edge{w: w, id: schema.EdgeID(id), epoch: schema.Epoch(id << 8)}
	for p := range partitions {
		e.put(p, e.record(p, schema.RecordOpen, &schema.Open{OpenedMs: 1}))
	}
	return e
}

type marshaler interface{ MarshalVT() ([]byte, error) }

// record numbers a record.
func (e *edge) record(partition int, typ schema.RecordType, m marshaler) kafka.Record {
	value, err := m.MarshalVT()
	if err != nil {
		e.w.t.Fatal(err)
	}
	if typ != schema.RecordTick {
		e.numbers[partition]++
	}
	return kafka.Record{Value: kafka.NewBytes(value), Headers: []kafka.Header{{Key: schema.HeaderKey,
		Value: schema.Header{Version: 1, Type: typ, Edge: e.id, Epoch: e.epoch, Number: e.numbers[partition]}.Append(nil)}}}
}

func (e *edge) put(partition int, records ...kafka.Record) {
	e.w.t.Helper()
	response, err := e.w.kafka.Produce(context.Background(), &kafka.ProduceRequest{Topic: conversionsTopic, Partition: partition,
		RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
	if err != nil || response.Error != nil {
		e.w.t.Fatal(err, response)
	}
}

func (e *edge) send(c ...*schema.Conversion) {
	e.w.t.Helper()
	for _, c := range c {
		p := schema.PartitionOf((*[16]byte)(c.Id), partitions)
		e.put(p, e.record(p, schema.RecordConversion, c))
	}
}

// tick says in all partitions that everything up to a time is sent.
func (e *edge) tick(millis int64) {
	e.w.t.Helper()
	for p := range partitions {
		e.put(p, e.record(p, schema.RecordTick, &schema.Tick{TimeMs: millis}))
	}
}

// sums are a partnership's numbers.
type sums struct {
	Referred int64
	Sold     map[string]int64
}

func (s *sums) add(e *schema.LedgerEntry) {
	s.Referred += e.Count
	if e.Kind == schema.EntryKind_ENTRY_SOLD {
		if s.Sold == nil {
			s.Sold = map[string]int64{}
		}
		if s.Sold[e.Currency] += e.Amount; s.Sold[e.Currency] == 0 {
			delete(s.Sold, e.Currency)
		}
	}
}

// topic is what a fold would make of the ledger log.
type topic struct {
	sums    map[uint64]sums
	entries int
	tick    int64
}

// read folds the ledger log as aggregators do, and fails when a number misses or two records share one.
func (w *world) read() topic {
	w.t.Helper()
	found := topic{sums: map[uint64]sums{}}
	type at struct {
		source
		number uint64
	}
	seen := map[at]string{}
	lasts := map[source]uint64{}
	for _, rec := range w.records(ledgerTopic, 0) {
		h, err := schema.ParseHeader(rec.header)
		if err != nil {
			w.t.Fatal(err)
		}
		from := source{h.Edge, h.Epoch}
		if h.Type == schema.RecordTick {
			var tick schema.Tick
			if err := tick.UnmarshalVT(rec.value); err != nil || h.Number > lasts[from] {
				w.t.Fatalf("tick %v names number %d after %d (%v)", &tick, h.Number, lasts[from], err)
			}
			found.tick = max(found.tick, tick.TimeMs)
			continue
		}
		key := at{from, h.Number}
		if value, ok := seen[key]; ok {
			if value != string(rec.value) {
				w.t.Fatalf("two records of %v are number %d", from, h.Number)
			}
			continue
		}
		seen[key] = string(rec.value)
		if h.Number != lasts[from]+1 {
			w.t.Fatalf("number %d of %v follows %d", h.Number, from, lasts[from])
		}
		lasts[from] = h.Number
		switch h.Type {
		case schema.RecordOpen:
			var o schema.Open
			if err := o.UnmarshalVT(rec.value); err != nil || h.Number != 1 {
				w.t.Fatalf("open record is number %d (%v)", h.Number, err)
			}
			if last := lasts[source{h.Edge, schema.Epoch(o.PreviousEpoch)}]; o.PreviousEpoch != 0 && last != o.PreviousLast {
				w.t.Fatalf("open record says that the epoch before ended at %d, and it ended at %d", o.PreviousLast, last)
			}
		case schema.RecordLedgerEntry:
			var e schema.LedgerEntry
			if err := e.UnmarshalVT(rec.value); err != nil {
				w.t.Fatal(err)
			}
			s := found.sums[e.PartnershipId]
			s.add(&e)
			found.sums[e.PartnershipId] = s
			found.entries++
		}
	}
	return found
}

func (w *world) records(topic string, partition int) []record {
	w.t.Helper()
	var all []record
	for offset := int64(0); ; {
		response, err := w.kafka.Fetch(context.Background(), &kafka.FetchRequest{Topic: topic, Partition: partition, Offset: offset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Millisecond})
		if err != nil || response.Error != nil {
			w.t.Fatal(err, response)
		}
		if offset >= response.HighWatermark {
			return all
		}
		for {
			rec, err := response.Records.ReadRecord()
			if err != nil {
				break
			}
			if rec.Offset < offset {
				continue
			}
			offset = rec.Offset + 1
			r := record{offset: rec.Offset}
			if r.value, err = kafka.ReadAll(rec.Value); err != nil {
				w.t.Fatal(err)
			}
			for _, h := range rec.Headers {
				r.header = append([]byte(nil), h.Value...)
			}
			all = append(all, r)
		}
	}
}

// settled waits until the ledger has taken in and sent everything that was put into the conversions log, which a tick of
// every edge at that time says, and returns the ledger log.
func (w *world) settled(edges ...*edge) topic {
	w.t.Helper()
	millis := lastTick.add()
	for _, e := range edges {
		e.tick(millis)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		found := w.read()
		if found.tick >= millis {
			return found
		}
		if time.Now().After(end) {
			w.t.Fatalf("the ledger's tick stands at %d after 30 s, want %d", found.tick, millis)
		}
	}
}

type clock struct {
	mu sync.Mutex
	n  int64
}

var lastTick clock

func (c *clock) add() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return now.UnixMilli() + c.n
}

// booked returns the sums of SQL's entries.
func (w *world) booked() map[uint64]sums {
	w.t.Helper()
	rows, err := w.store.Reader().QueryContext(context.Background(), `SELECT partnership_id, kind, count, amount, currency FROM ledger_entries`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	all := map[uint64]sums{}
	for rows.Next() {
		var e schema.LedgerEntry
		if err := rows.Scan(&e.PartnershipId, &e.Kind, &e.Count, &e.Amount, &e.Currency); err != nil {
			w.t.Fatal(err)
		}
		s := all[e.PartnershipId]
		s.add(&e)
		all[e.PartnershipId] = s
	}
	return all
}

func (w *world) count(query string) (n int) {
	w.t.Helper()
	if err := w.store.Reader().QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

var errFault = errors.New("injected fault")

// faults decides by chance what goes wrong: nothing, a failure, or a failure that has taken effect.
type faults struct {
	mu     sync.Mutex
	random *rand.Rand
	every  int
	hits   int
}

func (f *faults) next() (before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.random.IntN(f.every) {
	case 0:
		f.hits++
		return true, false
	case 1:
		f.hits++
		return false, true
	}
	return false, false
}

// faultyDatabase fails before a transaction, in it, or after its commit.
type faultyDatabase struct {
	*store.Store
	faults *faults
}

func (d *faultyDatabase) Update(ctx context.Context, fn func(*sql.Tx) error) error {
	before, after := d.faults.next()
	err := d.Store.Update(ctx, func(tx *sql.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if before {
			return fmt.Errorf("before commit: %w", errFault)
		}
		return nil
	})
	if err == nil && after {
		return fmt.Errorf("after commit: %w", errFault)
	}
	return err
}

// faultyKafka loses requests to produce, or their answers.
type faultyKafka struct {
	kafka.RoundTripper
	faults *faults
}

func (k *faultyKafka) RoundTrip(ctx context.Context, addr net.Addr, req protocol.Message) (protocol.Message, error) {
	if _, ok := req.(*produce.Request); !ok {
		return k.RoundTripper.RoundTrip(ctx, addr, req)
	}
	before, after := k.faults.next()
	if before {
		return nil, errFault
	}
	response, err := k.RoundTripper.RoundTrip(ctx, addr, req)
	if err == nil && after {
		return nil, errFault
	}
	return response, err
}
