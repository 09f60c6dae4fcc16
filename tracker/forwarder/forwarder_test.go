package forwarder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"waymark/schema"
	"waymark/tracker/journal"
)

const clicks, conversions = 3, 1

func topic(t schema.Topic) string { return schema.Log{Topic: t, Generation: 1}.String() }

func testCluster(t *testing.T) (*kfake.Cluster, *kafka.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(clicks, topic(schema.TopicClicks)), kfake.SeedTopics(conversions, topic(schema.TopicConversions)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &kafka.Client{Addr: kafka.TCP(c.ListenAddrs()...), Transport: &kafka.Transport{}}
}

func testJournal(t *testing.T, fs vfs.FS) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Config{FS: fs, Dir: "journal", Clicks: clicks, Conversions: conversions, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// run runs a forwarder until the returned function is called.
func run(t *testing.T, client *kafka.Client, j *journal.Journal) (*Forwarder, func()) {
	t.Helper()
	f, err := New(Config{Kafka: client, Journal: j, Clicks: clicks, Conversions: conversions, TickEvery: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return f, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func appendClicks(t *testing.T, j *journal.Journal, from, n uint64) {
	t.Helper()
	for i := from; i < from+n; i++ {
		p, err := j.Append(schema.TopicClicks, uint16(i%clicks), schema.RecordClick, []byte("visitor"), binary.BigEndian.AppendUint64(nil, i))
		if err == nil {
			err = j.Wait(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func drain(t *testing.T, f *Forwarder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// fold reads a partition and returns the payloads in the order of their numbers, without duplicates. It fails on a gap, on
// one number with two payloads, and on a tick that claims what has not come.
func fold(t *testing.T, client *kafka.Client, name string, partition int) (payloads []string, ticks int) {
	t.Helper()
	lasts := map[schema.Epoch]uint64{}
	seen := map[string]string{}
	for offset := int64(0); ; {
		res, err := client.Fetch(t.Context(), &kafka.FetchRequest{Topic: name, Partition: partition, Offset: offset, MinBytes: 0, MaxBytes: 10 << 20, MaxWait: 10 * time.Millisecond})
		if err == nil {
			err = res.Error
		}
		if err != nil {
			t.Fatal(err)
		}
		if offset >= res.HighWatermark {
			return payloads, ticks
		}
		for {
			rec, err := res.Records.ReadRecord()
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
			h, err := schema.ParseHeader(rec.Headers[0].Value)
			if err != nil || rec.Headers[0].Key != schema.HeaderKey {
				t.Fatalf("header %+v: %v", rec.Headers, err)
			}
			if h.Type == schema.RecordTick {
				ticks++
				if h.Number != lasts[h.Epoch] {
					t.Fatalf("%s/%d: a tick says number %d, the last one is %d", name, partition, h.Number, lasts[h.Epoch])
				}
				continue
			}
			key := fmt.Sprint(h.Epoch, h.Number)
			if was, ok := seen[key]; ok {
				if was != string(value) {
					t.Fatalf("%s/%d: number %d stands for two payloads", name, partition, h.Number)
				}
				continue
			}
			if h.Number != lasts[h.Epoch]+1 {
				t.Fatalf("%s/%d: number %d follows %d", name, partition, h.Number, lasts[h.Epoch])
			}
			lasts[h.Epoch], seen[key] = h.Number, string(value)
			if h.Type == schema.RecordClick {
				payloads = append(payloads, string(value))
			}
		}
	}
}

func checkAll(t *testing.T, client *kafka.Client, want uint64) {
	t.Helper()
	got := uint64(0)
	for p := range clicks {
		payloads, ticks := fold(t, client, topic(schema.TopicClicks), p)
		last := uint64(0)
		for i, payload := range payloads {
			n := binary.BigEndian.Uint64([]byte(payload))
			if i > 0 && n != last+clicks {
				t.Errorf("partition %d: click %d follows %d", p, n, last)
			}
			last = n
		}
		got += uint64(len(payloads))
		if ticks == 0 {
			t.Errorf("partition %d got no tick", p)
		}
	}
	if got != want {
		t.Errorf("%d clicks arrived, want %d", got, want)
	}
}

func waitTicks(t *testing.T) { time.Sleep(150 * time.Millisecond) }

func TestForward(t *testing.T) {
	_, client := testCluster(t)
	fs := vfs.NewMem()
	j := testJournal(t, fs)
	f, stop := run(t, client, j)
	appendClicks(t, j, 0, 300)
	drain(t, f)
	waitTicks(t)
	stop()
	acked := f.Acked()
	j.Close()

	j = testJournal(t, fs) // a restart goes on where the last one stopped
	defer j.Close()
	f, stop = run(t, client, j)
	if f.Acked() < acked {
		t.Errorf("after a restart %d is acknowledged, before it was %d", f.Acked(), acked)
	}
	appendClicks(t, j, 300, 300)
	drain(t, f)
	stop()
	checkAll(t, client, 600)
}

// TestFaults answers produce requests with errors, before and after they took effect, and cuts connections.
func TestFaults(t *testing.T) {
	c, client := testCluster(t)
	j := testJournal(t, vfs.NewMem())
	defer j.Close()
	var n atomic.Int64
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		switch n.Add(1) % 4 {
		case 1:
			return nil, errors.New("injected: connection cut"), true
		case 2:
			produce := req.(*kmsg.ProduceRequest)
			res := produce.ResponseKind().(*kmsg.ProduceResponse)
			for _, rt := range produce.Topics {
				st := kmsg.NewProduceResponseTopic()
				st.Topic, st.TopicID = rt.Topic, rt.TopicID
				for _, rp := range rt.Partitions {
					sp := kmsg.NewProduceResponseTopicPartition()
					sp.Partition, sp.ErrorCode = rp.Partition, kerr.NotLeaderForPartition.Code
					st.Partitions = append(st.Partitions, sp)
				}
				res.Topics = append(res.Topics, st)
			}
			return res, nil, true
		}
		return nil, nil, false
	})
	f, stop := run(t, client, j)
	appendClicks(t, j, 0, 90)
	drain(t, f)
	appendClicks(t, j, 90, 90)
	drain(t, f)
	waitTicks(t)
	stop()
	checkAll(t, client, 180)
}

// TestOutage appends while there is no broker, and forwards when there is one.
func TestOutage(t *testing.T) {
	j := testJournal(t, vfs.NewMem())
	defer j.Close()
	nobody := &kafka.Client{Addr: kafka.TCP("127.0.0.1:1"), Transport: &kafka.Transport{}}
	f, stop := run(t, nobody, j)
	appendClicks(t, j, 0, 60)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Drain(ctx); err == nil {
		t.Error("Drain without a broker = nil, want the deadline")
	}
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("stopping took %v during an outage", took)
	}
	_, client := testCluster(t)
	f, stop = run(t, client, j)
	drain(t, f)
	waitTicks(t)
	stop()
	checkAll(t, client, 60)
}

// lossy loses every third answer to a produce request, after the broker has done what it was asked to.
type lossy struct {
	kafka.RoundTripper
	requests, lost atomic.Int64
}

func (l *lossy) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	res, err := l.RoundTripper.RoundTrip(ctx, addr, req)
	if _, ok := req.(*produce.Request); ok && l.requests.Add(1)%3 == 0 {
		l.lost.Add(1)
		return nil, errors.New("injected: timed out after append")
	}
	return res, err
}

// TestFailedButApplied loses answers: the log holds duplicates, and each record counts once.
func TestFailedButApplied(t *testing.T) {
	_, client := testCluster(t)
	transport := &lossy{RoundTripper: client.Transport}
	j := testJournal(t, vfs.NewMem())
	defer j.Close()
	f, stop := run(t, &kafka.Client{Addr: client.Addr, Transport: transport}, j)
	appendClicks(t, j, 0, 90)
	drain(t, f)
	waitTicks(t)
	stop()
	if transport.lost.Load() == 0 {
		t.Error("no answer was lost: the test has tested nothing")
	}
	checkAll(t, client, 90)
}
