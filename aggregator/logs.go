package aggregator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/segmentio/kafka-go"

	"waymark/aggregator/broker"
	"waymark/aggregator/facts"
	"waymark/schema"
)

// refusal is an error that trying again does not mend: what is in Kafka is not what the facts were made of.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }

// checkLogs compares Kafka with what ClickHouse knows of the logs, and registers those it does not know. It returns the
// cluster's id.
func (a *Aggregator) checkLogs(ctx context.Context) (string, error) {
	cluster, err := broker.ClusterID(ctx, a.cfg.Kafka)
	if err != nil {
		return "", err
	}
	known, err := a.store.Logs(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range []schema.Log{a.cfg.clicks(), a.cfg.ledger()} {
		partitions, err := a.partitions(ctx, l)
		if err != nil {
			return "", err
		}
		if err := a.checkLog(ctx, l, cluster, partitions, known); err != nil {
			return "", err
		}
		if err := a.checkEnds(ctx, l, partitions); err != nil {
			return "", err
		}
	}
	if _, err := a.partitions(ctx, a.cfg.deadLetters()); err != nil {
		return "", err
	}
	return cluster, nil
}

func (a *Aggregator) partitions(ctx context.Context, l schema.Log) (int, error) {
	m, err := a.cfg.Kafka.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{l.String()}})
	if err != nil {
		return 0, fmt.Errorf("cannot ask Kafka for topic %s: %w", l, err)
	}
	if len(m.Topics) != 1 {
		return 0, fmt.Errorf("cannot ask Kafka for topic %s: got %d topics", l, len(m.Topics))
	}
	if err := m.Topics[0].Error; err != nil {
		return 0, fmt.Errorf("cannot use topic %s: %w", l, err)
	}
	n := len(m.Topics[0].Partitions)
	if n == 0 || n > math.MaxUint16 {
		return 0, refuse("cannot use topic %s: it has %d partitions", l, n)
	}
	return n, nil
}

func (a *Aggregator) checkLog(ctx context.Context, l schema.Log, cluster string, partitions int, known map[string]facts.Log) error {
	k, ok := known[l.String()]
	if !ok {
		k = facts.Log{Log: l.String(), ClusterID: cluster, Partitions: uint16(partitions), RegisteredAt: time.Now().UTC()}
		if err := a.store.Register(ctx, k); err != nil {
			return err
		}
		a.cfg.Logger.Info("registered a log", "log", l.String(), "cluster", cluster, "partitions", partitions)
	}
	if k.ClusterID != cluster {
		return refuse("cannot use Kafka: ClickHouse holds facts of log %s on cluster %s, and this is cluster %s; facts of two clusters cannot be mixed", l, k.ClusterID, cluster)
	}
	if int(k.Partitions) != partitions {
		return refuse("cannot use log %s: it was registered with %d partitions and has %d now; a log never changes its number of partitions", l, k.Partitions, partitions)
	}
	return nil
}

// checkEnds refuses a log that is shorter than what was folded of it.
func (a *Aggregator) checkEnds(ctx context.Context, l schema.Log, partitions int) error {
	progress, err := a.store.Progress(ctx, l.String())
	if err != nil {
		return err
	}
	for i := range partitions {
		row, ok := progress[uint16(i)]
		if !ok {
			continue
		}
		_, end, err := a.offsets(ctx, l, uint16(i))
		if err != nil {
			return err
		}
		if err := checkEnd(l, uint16(i), row.V, end); err != nil {
			return err
		}
	}
	return nil
}

func checkEnd(l schema.Log, partition uint16, v, end uint64) error {
	if end < v {
		return refuse("cannot use log %s: partition %d ends at offset %d, but ClickHouse holds facts of its first %d records; the log has lost records or is another one", l, partition, end, v)
	}
	return nil
}

// offsets returns the first offset that a partition still holds, and the one after its last.
func (a *Aggregator) offsets(ctx context.Context, l schema.Log, partition uint16) (first, end uint64, err error) {
	resp, err := a.cfg.Kafka.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		l.String(): {kafka.FirstOffsetOf(int(partition)), kafka.LastOffsetOf(int(partition))}}})
	if err != nil {
		return 0, 0, fmt.Errorf("cannot ask Kafka for the offsets of %s/%d: %w", l, partition, err)
	}
	for _, o := range resp.Topics[l.String()] {
		if o.Partition != int(partition) {
			continue
		}
		if o.Error != nil {
			return 0, 0, fmt.Errorf("cannot ask Kafka for the offsets of %s/%d: %w", l, partition, o.Error)
		}
		if o.FirstOffset < 0 || o.LastOffset < o.FirstOffset {
			return 0, 0, fmt.Errorf("cannot use the offsets of %s/%d: %d to %d", l, partition, o.FirstOffset, o.LastOffset)
		}
		return uint64(o.FirstOffset), uint64(o.LastOffset), nil
	}
	return 0, 0, errors.New("cannot find the offsets of " + l.String() + " in Kafka's answer")
}
