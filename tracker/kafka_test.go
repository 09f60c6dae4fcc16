package tracker

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"waymark/schema"
)

const (
	clicksTopic      = "waymark.clicks.1"
	conversionsTopic = "waymark.conversions.1"
	catalogTopic     = "waymark.catalog.1"
)

func testCluster(t *testing.T) (*kfake.Cluster, *kafka.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, clicksTopic), kfake.SeedTopics(2, conversionsTopic), kfake.SeedTopics(1, catalogTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &kafka.Client{Addr: kafka.TCP(c.ListenAddrs()...), Transport: &kafka.Transport{}}
}

func publish(t *testing.T, client *kafka.Client, records ...*schema.CatalogRecord) {
	t.Helper()
	var messages []kafka.Record
	for _, r := range records {
		b, err := r.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, kafka.Record{Key: kafka.NewBytes([]byte(r.CatalogKey())), Value: kafka.NewBytes(b)})
	}
	resp, err := client.Produce(t.Context(), &kafka.ProduceRequest{Topic: catalogTopic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(messages...)})
	if err != nil || resp.Error != nil {
		t.Fatalf("cannot publish the catalog: %v, %v", err, resp)
	}
}

// received reads all records of a topic.
func received(t *testing.T, c *kfake.Cluster, topic string, partitions int) (records []schema.Header) {
	t.Helper()
	for p := range partitions {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := kafka.DialLeader(ctx, "tcp", c.ListenAddrs()[0], topic, p)
		if err != nil {
			t.Fatal(err)
		}
		end, err := conn.ReadLastOffset()
		conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: c.ListenAddrs(), Topic: topic, Partition: p, MaxWait: 50 * time.Millisecond})
		for n := int64(0); n < end; n++ {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Headers) != 1 || m.Headers[0].Key != schema.HeaderKey {
				t.Fatalf("a record of %s has headers %v", topic, m.Headers)
			}
			h, err := schema.ParseHeader(m.Headers[0].Value)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, h)
		}
		r.Close()
	}
	return records
}

// TestWithKafka: a new edge serves when it has read the catalog; changes of it arrive; clicks and conversions leave, all of
// them before a graceful stop has ended.
func TestWithKafka(t *testing.T) {
	cluster, client := testCluster(t)
	catalog := testCatalog()
	publish(t, client, catalog[:len(catalog)-1]...)
	config := newConfig(t, vfs.NewMem())
	config.Kafka, config.Brokers, config.DrainTimeout = client, cluster.ListenAddrs(), 5*time.Second
	e := runEdge(t, config)
	if resp := e.get("GET", testHost, "/spring"); resp.StatusCode != 302 {
		t.Fatalf("ready, but a link of the catalog is answered %s", resp.Status)
	}
	if resp := e.get("GET", testHost, "/query"); resp.StatusCode != 404 {
		t.Fatalf("a link that is not in the catalog is answered %s", resp.Status)
	}
	publish(t, client, catalog[len(catalog)-1])
	started := time.Now()
	for e.get("GET", testHost, "/query").StatusCode != 302 {
		if time.Since(started) > 2*time.Second {
			t.Fatal("a new link does not work after 2 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("a new link works after %v", time.Since(started).Round(time.Millisecond))
	off := testCatalog()[4]
	off.Version, off.GetLink().State = 2, schema.State_STATE_DISABLED
	publish(t, client, off)
	started = time.Now()
	for strings.Contains(e.get("GET", testHost, "/spring").Header.Get("Location"), "wm_cid") {
		if time.Since(started) > 2*time.Second {
			t.Fatal("a disabled link still works after 2 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for i := range 50 {
		e.get("GET", testHost, "/summer", "X-Forwarded-For: 10.0.0."+strconv.Itoa(i))
	}
	e.post(testKey, `{"type":"lead","customer_key":"c","idempotency_key":"k"}`)
	want := len(e.clicks())
	e.close()
	count := func(records []schema.Header, typ schema.RecordType) (n int) {
		for _, h := range records {
			if h.Type == typ && h.Edge == e.Edge() {
				n++
			}
		}
		return n
	}
	clicks := received(t, cluster, clicksTopic, 4)
	if got := count(clicks, schema.RecordClick); got != want {
		t.Errorf("after a graceful stop Kafka holds %d clicks, the journal %d", got, want)
	}
	if got := count(clicks, schema.RecordOpen); got != 4 {
		t.Errorf("Kafka holds %d open records of clicks, want one in each of 4 partitions", got)
	}
	if got := count(received(t, cluster, conversionsTopic, 2), schema.RecordConversion); got != 1 {
		t.Errorf("Kafka holds %d conversions, want 1", got)
	}
}

// TestWithoutKafka: with a copy of the catalog an edge is ready, and stays so, when nothing else is there.
func TestWithoutKafka(t *testing.T) {
	cluster, client := testCluster(t)
	publish(t, client, testCatalog()...)
	config := newConfig(t, vfs.NewMem())
	config.Kafka, config.Brokers = client, cluster.ListenAddrs()
	e := runEdge(t, config)
	cluster.Close()
	e.get("GET", testHost, "/spring")
	if err := e.Ready(); err != nil {
		t.Errorf("without Kafka: %v, want ready", err)
	}
	e.close()
	again := newConfig(t, e.fs)
	again.Brokers = []string{"127.0.0.1:1"}
	e = runEdge(t, again)
	if resp := e.get("GET", testHost, "/spring"); resp.StatusCode != 302 || e.Ready() != nil {
		t.Errorf("started without Kafka: %s, %v; want a redirect", resp.Status, e.Ready())
	}
}
