package relay

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"waymark/dashboard/store"
	"waymark/schema"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const topic = "waymark.catalog.1"

const file = `programs:
  - key: summit
    name: Summit
    hosts: [go.summit.example]
    allowed_destinations: [shop.example]
    groups: [{key: all, name: All, default_links: [{destination: "https://shop.example/"}]}]
    partners: [{email: a@partner.example, name: A, group: all, key: a}]
`

func cluster(t *testing.T) (*kfake.Cluster, *kafka.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	transport := &kafka.Transport{MetadataTTL: 200 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	return c, &kafka.Client{Addr: kafka.TCP(c.ListenAddrs()...), Transport: transport}
}

func database(t *testing.T) (*store.Store, store.Partnership) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: filepath.Join(t.TempDir(), "waymark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Apply(t.Context(), []byte(file), store.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	partner, err := s.PartnerByEmail(t.Context(), "a@partner.example")
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := s.Membership(t.Context(), partner.ID, "summit")
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// start runs a relay until the returned function is called or the test ends.
func start(t *testing.T, s *store.Store, k *kafka.Client) (*Relay, func()) {
	t.Helper()
	r := New(Config{Store: s, Kafka: k, Lease: 4 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return r, stop
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about in 15 s", what)
		}
	}
}

// inSync waits until the relay has sent everything.
func inSync(t *testing.T, s *store.Store, r *Relay) {
	t.Helper()
	wait(t, "the topic in line with SQL", func() bool {
		version, err := s.CatalogVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r.Sent() >= version
	})
}

// read returns all records of the topic.
func read(t *testing.T, k *kafka.Client) []*schema.CatalogRecord {
	t.Helper()
	var all []*schema.CatalogRecord
	for offset := int64(0); ; {
		response, err := k.Fetch(t.Context(), &kafka.FetchRequest{Topic: topic, Offset: offset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Millisecond})
		if err != nil || response.Error != nil {
			t.Fatal(err, response.Error)
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
			value, err := kafka.ReadAll(rec.Value)
			if err != nil {
				t.Fatal(err)
			}
			var record schema.CatalogRecord
			if err := record.UnmarshalVT(value); err != nil {
				t.Fatal(err)
			}
			if key, err := kafka.ReadAll(rec.Key); err != nil || string(key) != record.CatalogKey() {
				t.Fatalf("key %q, %v of %s", key, err, record.CatalogKey())
			}
			all = append(all, &record)
		}
	}
}

func TestRelaySendsEverythingAndChanges(t *testing.T) {
	_, k := cluster(t)
	s, p := database(t)
	r, _ := start(t, s, k)
	inSync(t, s, r)
	records := read(t, k)
	if len(records) != 3 || records[0].GetProgram() == nil || records[1].GetPartnership() == nil || records[2].GetLink().GetSlug() != "a" {
		t.Fatalf("records = %v, want program, partnership and link", records)
	}
	var slowest time.Duration
	for i := range 20 {
		began := time.Now()
		l, err := s.CreateLink(t.Context(), p.ID, store.NewLink{Slug: fmt.Sprint("page-", i), Destination: "https://shop.example/"})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the new link", func() bool { return r.Sent() >= l.Version })
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("slowest of 20 new links: %v", slowest)
	if slowest > time.Second {
		t.Errorf("a new link took %v, want well below 2 s", slowest)
	}
	if n := len(read(t, k)); n != 23 {
		t.Errorf("the topic holds %d records, want 23", n)
	}
}

func TestRelayComparesAtStart(t *testing.T) {
	_, k := cluster(t)
	s, p := database(t)
	r, stop := start(t, s, k)
	inSync(t, s, r)
	stop()
	r, stop = start(t, s, k)
	inSync(t, s, r)
	stop()
	if n := len(read(t, k)); n != 3 {
		t.Errorf("a restart made %d records of 3", n)
	}
	// A change that no relay sent, and an old record behind a new one.
	old := read(t, k)[2]
	l, err := s.CreateLink(t.Context(), p.ID, store.NewLink{Slug: "later", Destination: "https://shop.example/"})
	if err != nil {
		t.Fatal(err)
	}
	old.Version--
	value, err := old.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	response, err := k.Produce(t.Context(), &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Key: kafka.NewBytes([]byte(old.CatalogKey())), Value: kafka.NewBytes(value)})})
	if err != nil || response.Error != nil {
		t.Fatal(err, response.Error)
	}
	r, _ = start(t, s, k)
	inSync(t, s, r)
	records := read(t, k)
	if len(records) != 6 || records[4].GetLink().GetId() != old.GetLink().GetId() || records[4].Version != old.Version+1 || records[5].GetLink().GetId() != l.ID {
		t.Errorf("records = %v, want the stale link and the new one at the end", records)
	}
}

// The topic was made anew, and knows nothing of what was acknowledged once.
func TestRelaySendsAgainToANewTopic(t *testing.T) {
	_, k := cluster(t)
	s, _ := database(t)
	r, stop := start(t, s, k)
	inSync(t, s, r)
	stop()
	_, other := cluster(t)
	r, _ = start(t, s, other)
	inSync(t, s, r)
	if n := len(read(t, other)); n != 3 {
		t.Errorf("the new topic holds %d records, want 3", n)
	}
}

func TestRelayOutlastsKafka(t *testing.T) {
	c, k := cluster(t)
	s, p := database(t)
	var refused int
	var mu sync.Mutex
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if refused++; refused > 5 {
			return nil, nil, false
		}
		c.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.ErrorCode = kerr.NotLeaderForPartition.Code
			rt.Partitions = append(rt.Partitions, rp)
			response.Topics = append(response.Topics, rt)
		}
		return response, nil, true
	})
	r, _ := start(t, s, k)
	l, err := s.CreateLink(t.Context(), p.ID, store.NewLink{Slug: "meanwhile", Destination: "https://shop.example/"})
	if err != nil {
		t.Fatal(err)
	}
	inSync(t, s, r)
	records := read(t, k)
	held := map[string]uint64{}
	for _, rec := range records {
		held[rec.CatalogKey()] = rec.Version
	}
	if len(held) != 4 || held[fmt.Sprintf("link/%d", l.ID)] != l.Version {
		t.Errorf("the topic holds %v, want 4 things with the new link", held)
	}
	mu.Lock()
	defer mu.Unlock()
	if refused < 5 {
		t.Errorf("%d requests were refused, want 5: the test tests nothing", refused)
	}
}

func TestOneRelayAtATime(t *testing.T) {
	_, k := cluster(t)
	s, p := database(t)
	first, stop := start(t, s, k)
	inSync(t, s, first)
	second, _ := start(t, s, k)
	l, err := s.CreateLink(t.Context(), p.ID, store.NewLink{Slug: "b", Destination: "https://shop.example/"})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the link", func() bool { return first.Sent() >= l.Version })
	if second.Sent() != 0 {
		t.Error("two relays worked at once")
	}
	stop()
	inSync(t, s, second)
	if n := len(read(t, k)); n != 4 {
		t.Errorf("the topic holds %d records, want 4", n)
	}
}
