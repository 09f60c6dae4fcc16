package aggregator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"waymark/aggregator/broker"
)

// TestBrokerRestarts folds on, without a start of its own, after the broker was away.
func TestBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	b, conn := cluster(t, dir)
	ch := engine(t)
	a, stop := start(t, config(conn, ch, t.TempDir()))
	wait(t, 10*time.Second, a.Ready)
	log := history(1, 300)
	v := func() uint64 {
		return number(t, ch, "SELECT max(v) FROM progress WHERE partition = 0 AND log = '"+clickLog.String()+"'")
	}
	for i := range 3 {
		produce(t, conn.Client, clickLog, 0, log[i*100:(i+1)*100])
		wait(t, 20*time.Second, func() error {
			if got := v(); got != uint64(i+1)*100 {
				return fmt.Errorf("after %d restarts: got progress %d, want %d", i, got, (i+1)*100)
			}
			return nil
		})
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		var err error
		if b, err = broker.OpenEmbedded(broker.EmbeddedConfig{Dir: dir, Listen: b.Addr(), Logger: quiet}); err != nil {
			t.Fatal(err)
		}
		reopened := b
		t.Cleanup(func() { reopened.Close() })
		wait(t, 20*time.Second, func() error {
			_, err := broker.ClusterID(t.Context(), conn.Client)
			return err
		})
	}
	if err := stop(); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if n := number(t, ch, "SELECT count() FROM clicks FINAL"); n == 0 || n > 300 {
		t.Errorf("got %d clicks", n)
	}
}

// TestGoneOffset stops the one partition whose next record Kafka has deleted, says so, and folds the others on.
func TestGoneOffset(t *testing.T) {
	b, conn := cluster(t, t.TempDir())
	ch := engine(t)
	for p := range 4 {
		produce(t, conn.Client, clickLog, p, history(uint64(p), 50))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = clickLog.String()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = 1, 10
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	a, _ := start(t, config(conn, ch, t.TempDir()))
	wait(t, 20*time.Second, func() error {
		if err := a.Ready(); err == nil || !strings.Contains(err.Error(), clickLog.String()+"/1") {
			return fmt.Errorf("got %v, want an error that names %s/1", err, clickLog)
		}
		return nil
	})
	wait(t, 20*time.Second, func() error {
		if n := number(t, ch, "SELECT count() FROM (SELECT partition, max(v) AS v FROM progress WHERE log = '"+clickLog.String()+"' GROUP BY partition) WHERE v = 50"); n != 3 {
			return fmt.Errorf("got %d partitions at their end, want 3", n)
		}
		return nil
	})
	var gauge dto.Metric
	if err := a.Metrics().Stopped.WithLabelValues(clickLog.String(), "1").Write(&gauge); err != nil || gauge.GetGauge().GetValue() != 1 {
		t.Errorf("stopped partitions: got %v, %v; want 1", gauge.GetGauge().GetValue(), err)
	}
}
