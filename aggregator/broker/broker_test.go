package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"

	"waymark/aggregator/broker"
	"waymark/schema"
)

func open(t testing.TB, dir, listen string) (*broker.Embedded, *broker.Connection) {
	t.Helper()
	b, err := broker.OpenEmbedded(broker.EmbeddedConfig{Dir: dir, Listen: listen, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	conn, err := broker.Connect(broker.Config{Addresses: []string{b.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return b, conn
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var topics = broker.Topics(1, broker.Partitions{Clicks: 4, Conversions: 2}, 0, true)

func produce(t testing.TB, client *kafka.Client, topic, text string) {
	t.Helper()
	resp, err := client.Produce(deadline(t), &kafka.ProduceRequest{Topic: topic, Partition: 0, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Key: kafka.NewBytes([]byte("k")), Value: kafka.NewBytes([]byte(text)), Time: time.Unix(1, 0)})})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

func consume(t testing.TB, client *kafka.Client, topic string) (texts []string) {
	t.Helper()
	resp, err := client.Fetch(deadline(t), &kafka.FetchRequest{Topic: topic, Partition: 0, Offset: kafka.FirstOffset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := resp.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := protocol.ReadAll(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
}

// TestReopen closes the embedded broker and opens it again: cluster id, topics, their settings, records and committed offsets
// are what they were, however old the records say they are.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	b, conn := open(t, dir, "")
	if err := broker.EnsureTopics(deadline(t), conn.Client, topics); err != nil {
		t.Fatal(err)
	}
	topic := topics[0].Log.String()
	id, err := broker.ClusterID(deadline(t), conn.Client)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		produce(t, conn.Client, topic, fmt.Sprint("record ", i))
		commit(t, conn, topic, int64(i+1))
		conn.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, conn = open(t, dir, "")
		if err := broker.EnsureTopics(deadline(t), conn.Client, topics); err != nil {
			t.Fatal(err)
		}
		again, err := broker.ClusterID(deadline(t), conn.Client)
		if err != nil || again != id {
			t.Fatalf("cluster id after %d restarts: got %q, %v; want %q", i+1, again, err, id)
		}
		b.Cluster().ApplyRetention()
		if got := consume(t, conn.Client, topic); len(got) != i+1 || got[i] != fmt.Sprint("record ", i) {
			t.Fatalf("after %d restarts: got %q", i+1, got)
		}
		got, err := conn.Client.OffsetFetch(deadline(t), &kafka.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{topic: {0}}})
		if err != nil || got.Topics[topic][0].CommittedOffset != int64(i+1) {
			t.Fatalf("committed offset after %d restarts: got %+v, %v; want %d", i+1, got, err, i+1)
		}
	}
	_, other := open(t, t.TempDir(), "")
	if got, err := broker.ClusterID(deadline(t), other.Client); err != nil || got == id {
		t.Errorf("another folder has cluster id %q, %v; want one of its own", got, err)
	}
}

func commit(t testing.TB, conn *broker.Connection, topic string, offset int64) {
	t.Helper()
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: "g", Brokers: conn.Brokers, Dialer: conn.Dialer, Topics: []string{topic}, JoinGroupBackoff: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	gen, err := group.Next(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := gen.CommitOffsets(map[string]map[int]int64{topic: {0: offset}}); err != nil {
		t.Fatal(err)
	}
}

// TestCompaction keeps the last record of a key of the catalog, and all of them in other logs.
func TestCompaction(t *testing.T) {
	b, conn := open(t, t.TempDir(), "")
	if err := broker.EnsureTopics(deadline(t), conn.Client, topics); err != nil {
		t.Fatal(err)
	}
	catalog, clicks := schema.Log{Topic: schema.TopicCatalog, Generation: 1}.String(), topics[0].Log.String()
	for i := range 5 {
		produce(t, conn.Client, catalog, fmt.Sprint(i))
		produce(t, conn.Client, clicks, fmt.Sprint(i))
	}
	b.Cluster().Compact()
	// The segment that is written to is not compacted, here as in Kafka, so the last record is what is certain.
	got := consume(t, conn.Client, catalog)
	if len(got) == 0 || got[len(got)-1] != "4" {
		t.Errorf("catalog: got %q, want it to end with 4", got)
	}
	if got := consume(t, conn.Client, clicks); len(got) != 5 {
		t.Errorf("clicks: got %q, want all five", got)
	}
}

// TestEnsureTopics refuses topics that are not what they must be, by one line that names them.
func TestEnsureTopics(t *testing.T) {
	_, conn := open(t, t.TempDir(), "")
	for range 2 {
		if err := broker.EnsureTopics(deadline(t), conn.Client, topics); err != nil {
			t.Fatal(err)
		}
	}
	f := func(change func([]broker.TopicSpec), want ...string) {
		t.Helper()
		specs := broker.Topics(1, broker.Partitions{Clicks: 4, Conversions: 2}, 0, true)
		change(specs)
		err := broker.EnsureTopics(deadline(t), conn.Client, specs)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line that names %q", err, want)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("got %q, want it to name %q", err, w)
			}
		}
	}
	f(func(s []broker.TopicSpec) { s[0].Partitions = 5 }, "waymark.clicks.1", "4 partitions, want 5")
	f(func(s []broker.TopicSpec) { s[1].Partitions = 1 }, "waymark.conversions.1", "2 partitions, want 1")
	f(func(s []broker.TopicSpec) { s[2].Compacted = false }, "waymark.catalog.1", "cleanup.policy")
	f(func(s []broker.TopicSpec) { s[0].Compacted = true }, "waymark.clicks.1", "cleanup.policy")
	f(func(s []broker.TopicSpec) { s[0].Partitions = 0 }, "waymark.clicks.1", "at least 1")
}

// TestEnsureTopicsWaits goes on while a cluster does not show its new topics yet.
func TestEnsureTopicsWaits(t *testing.T) {
	b, conn := open(t, t.TempDir(), "")
	host, port, err := net.SplitHostPort(b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	left.Store(2)
	b.Cluster().ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster().KeepControl()
		if left.Add(-1) < 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		self := kmsg.NewMetadataResponseBroker()
		self.Host, self.Port = host, int32(n)
		resp.Brokers = append(resp.Brokers, self)
		return resp, nil, true
	})
	if err := broker.EnsureTopics(deadline(t), conn.Client, topics); err != nil {
		t.Error(err)
	}
	if left.Load() >= 0 {
		t.Errorf("%d answers without topics were not asked for", left.Load())
	}
}

// TestOpenBadInput refuses bad addresses and folders by one line.
func TestOpenBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, "cluster-id"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(dir, listen, want string) {
		t.Helper()
		b, err := broker.OpenEmbedded(broker.EmbeddedConfig{Dir: dir, Listen: listen})
		if err == nil {
			b.Close()
		}
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s on %s: got %v, want one line that names %q", dir, listen, err, want)
		}
	}
	f(t.TempDir(), "0.0.0.0:0", "loopback")
	f(t.TempDir(), "[::]:0", "loopback")
	f(t.TempDir(), "example.com:9092", "loopback")
	f(t.TempDir(), "9092", "host:port")
	f(t.TempDir(), taken.Addr().String(), taken.Addr().String())
	f(filepath.Join(file, "below"), "", "broker folder")
	f(empty, "", "cluster-id")
}

// TestValidate names the flag of a bad list of brokers.
func TestValidate(t *testing.T) {
	f := func(ok bool, addresses ...string) {
		t.Helper()
		_, err := broker.Connect(broker.Config{Addresses: addresses})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "--kafka") {
			t.Errorf("%q: got %v, want ok %t", addresses, err, ok)
		}
	}
	f(true, "a:1", "127.0.0.1:9092", "[::1]:65535")
	f(false)
	f(false, "")
	f(false, "a")
	f(false, "a:1", ":1")
	f(false, "a:0")
	f(false, "a:65536")
	f(false, "a:kafka")
}
