package tracker

import (
	"context"

	"waymark/schema"
	"waymark/tracker/dedupe"
	"waymark/tracker/forwarder"
	"waymark/tracker/journal"
	"waymark/tracker/links"
)

// The parts of a tracker and what it tells them.

func (t *Tracker) linksConfig() links.Config {
	c := &t.config
	return links.Config{FS: c.FS, Dir: c.dir("links"), Logger: t.log, Metrics: links.NewMetrics(c.Registerer)}
}

func (t *Tracker) dedupeConfig() dedupe.Config {
	c := &t.config
	return dedupe.Config{FS: c.FS, Dir: c.dir("dedupe"), Logger: t.log, Metrics: dedupe.NewMetrics(c.Registerer, "tracker")}
}

func (t *Tracker) journalConfig() journal.Config {
	c := &t.config
	return journal.Config{
		FS: c.FS, Dir: c.dir("journal"), Durability: c.durability(), SegmentBytes: c.JournalSegment, MaxBytes: c.JournalMax,
		Clicks: c.ClicksPartitions, Conversions: c.ConversionsPartitions, Logger: t.log, Metrics: journal.NewMetrics(c.Registerer),
	}
}

func (t *Tracker) newForwarder() (*forwarder.Forwarder, error) {
	c := &t.config
	return forwarder.New(forwarder.Config{
		Kafka: c.Kafka, Journal: t.journal, Generation: c.Generation, Clicks: c.ClicksPartitions, Conversions: c.ConversionsPartitions,
		Logger: t.log, Metrics: forwarder.NewMetrics(c.Registerer),
	})
}

func (t *Tracker) followCatalog(ctx context.Context) error {
	c := &t.config
	topic := schema.Log{Topic: schema.TopicCatalog, Generation: c.Generation}
	return t.links.Follow(ctx, links.Source{Brokers: c.Brokers, Dialer: c.Dialer, Topic: topic.String()})
}
