package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"waymark/schema"
)

// TopicSpec is what must be true of one log.
type TopicSpec struct {
	Log        schema.Log
	Partitions int
	// Compacted topics keep the last record of every key for ever.
	Compacted bool
	// Replicas of a topic that is made here; 0 = the cluster's default.
	Replicas int
	// Forever switches the cluster's time and byte retention off for a topic that is made here.
	Forever bool
}

// Partitions is how many partitions the logs have that may have more than one.
type Partitions struct{ Clicks, Conversions int }

// Topics returns the specs of every log of one generation. The embedded broker's are kept for ever, because nothing
// else holds the records.
func Topics(generation uint32, p Partitions, replicas int, forever bool) []TopicSpec {
	spec := func(t schema.Topic, partitions int) TopicSpec {
		return TopicSpec{Log: schema.Log{Topic: t, Generation: generation}, Partitions: partitions, Replicas: replicas, Forever: forever}
	}
	catalog := spec(schema.TopicCatalog, 1)
	catalog.Compacted = true
	return []TopicSpec{
		spec(schema.TopicClicks, p.Clicks), spec(schema.TopicConversions, p.Conversions),
		catalog, spec(schema.TopicLedger, 1), spec(schema.TopicDeadLetters, 1),
	}
}

const topicPoll = 50 * time.Millisecond

// EnsureTopics makes the topics that do not exist and checks those that do. It returns one line of error for a topic that
// has another number of partitions, because a log never changes it, or another cleanup policy. It waits until every
// partition has a leader, or the context ends.
func EnsureTopics(ctx context.Context, client *kafka.Client, specs []TopicSpec) error {
	if err := createTopics(ctx, client, specs); err != nil {
		return err
	}
	for _, s := range specs {
		if err := waitForTopic(ctx, client, s); err != nil {
			return err
		}
	}
	return checkPolicies(ctx, client, specs)
}

func createTopics(ctx context.Context, client *kafka.Client, specs []TopicSpec) error {
	req := &kafka.CreateTopicsRequest{}
	for _, s := range specs {
		if s.Partitions <= 0 {
			return fmt.Errorf("cannot make topic %s: it needs at least 1 partition, got %d", s.Log, s.Partitions)
		}
		req.Topics = append(req.Topics, s.config())
	}
	resp, err := client.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("cannot make topics in Kafka (%v): %w", client.Addr, err)
	}
	for _, s := range specs {
		if err := resp.Errors[s.Log.String()]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("cannot make topic %s: %w", s.Log, err)
		}
	}
	return nil
}

func (s TopicSpec) config() kafka.TopicConfig {
	c := kafka.TopicConfig{Topic: s.Log.String(), NumPartitions: s.Partitions, ReplicationFactor: -1}
	if s.Replicas > 0 {
		c.ReplicationFactor = s.Replicas
	}
	if s.Compacted {
		c.ConfigEntries = append(c.ConfigEntries, kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"})
	}
	if s.Forever {
		c.ConfigEntries = append(c.ConfigEntries,
			kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "-1"},
			kafka.ConfigEntry{ConfigName: "retention.bytes", ConfigValue: "-1"})
	}
	return c
}

// waitForTopic waits for what a cluster does after it has answered: choosing leaders.
func waitForTopic(ctx context.Context, client *kafka.Client, s TopicSpec) error {
	name := s.Log.String()
	for {
		m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}})
		if err == nil && len(m.Topics) == 1 && m.Topics[0].Error == nil {
			t := m.Topics[0]
			if n := len(t.Partitions); n != s.Partitions {
				return fmt.Errorf("cannot use topic %s: it has %d partitions, want %d; a log never changes its number of partitions", name, n, s.Partitions)
			}
			if err = leaderless(t); err == nil {
				return nil
			}
		} else if err == nil && len(m.Topics) == 1 {
			err = m.Topics[0].Error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot see topic %s in Kafka (%v): %w", name, client.Addr, errors.Join(ctx.Err(), err))
		case <-time.After(topicPoll):
		}
	}
}

func leaderless(t kafka.Topic) error {
	for _, p := range t.Partitions {
		if p.Error != nil {
			return fmt.Errorf("partition %d: %w", p.ID, p.Error)
		}
		if p.Leader.Host == "" {
			return fmt.Errorf("partition %d has no leader", p.ID)
		}
	}
	return nil
}

func checkPolicies(ctx context.Context, client *kafka.Client, specs []TopicSpec) error {
	req := &kafka.DescribeConfigsRequest{}
	want := map[string]bool{}
	for _, s := range specs {
		name := s.Log.String()
		want[name] = s.Compacted
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: name, ConfigNames: []string{"cleanup.policy"}})
	}
	resp, err := client.DescribeConfigs(ctx, req)
	if err != nil {
		return fmt.Errorf("cannot read the settings of topics in Kafka (%v): %w", client.Addr, err)
	}
	for _, r := range resp.Resources {
		if r.Error != nil {
			return fmt.Errorf("cannot read the settings of topic %s: %w", r.ResourceName, r.Error)
		}
		for _, e := range r.ConfigEntries {
			if e.ConfigName != "cleanup.policy" {
				continue
			}
			if compacts := strings.Contains(e.ConfigValue, "compact"); compacts != want[r.ResourceName] {
				return fmt.Errorf("cannot use topic %s: its cleanup.policy is %q, want compact: %t", r.ResourceName, e.ConfigValue, want[r.ResourceName])
			}
		}
	}
	return nil
}
