package aggregator

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"waymark/aggregator/facts"
	"waymark/aggregator/fold"
	"waymark/schema"
)

// Metrics is what an aggregator counts.
type Metrics struct {
	Facts *facts.Metrics

	Records     *prometheus.CounterVec
	Clicks      *prometheus.CounterVec
	Differences prometheus.Counter
	DeadLetters *prometheus.CounterVec
	Notices     *prometheus.CounterVec
	Missing     *prometheus.GaugeVec
	Lag         *prometheus.GaugeVec
	Stopped     *prometheus.GaugeVec
	Flushes     prometheus.Histogram
	Takeovers   prometheus.Histogram
	Failures    *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_aggregator_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "waymark_aggregator_" + name, Help: help}, []string{"log", "partition"})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waymark_aggregator_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)})
	}
	m := &Metrics{
		Facts:       facts.NewMetrics(reg),
		Records:     counter("records_total", "Records that were folded, by what became of them.", "outcome"),
		Clicks:      counter("clicks_total", "Clicks that were accepted, by final verdict.", "verdict"),
		Differences: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_aggregator_verdict_differences_total", Help: "Clicks whose final verdict is not the edge's, in either scope."}),
		DeadLetters: counter("dead_letters_total", "Records that could not be folded, by reason.", "reason"),
		Notices:     counter("notices_total", "Gaps, declared losses and forks that records have told of, by kind.", "kind"),
		Missing:     gauge("missing_numbers", "Numbers in open gaps: events that an edge has counted and that have not come."),
		Lag:         gauge("lag_records", "Records in Kafka that no stored fact holds yet."),
		Stopped:     gauge("stopped_partitions", "1 for a partition that cannot be read on and needs a person."),
		Flushes:     histogram("flush_duration_seconds", "Time that a flush took, from its first row to the last confirmation."),
		Takeovers:   histogram("takeover_duration_seconds", "Time that it took to recover a partition."),
		Failures:    counter("failures_total", "Operations on Kafka and ClickHouse that failed and were made again, by operation.", "operation"),
	}
	reg.MustRegister(m.Records, m.Clicks, m.Differences, m.DeadLetters, m.Notices, m.Missing, m.Lag, m.Stopped, m.Flushes, m.Takeovers, m.Failures)
	for _, o := range []string{"accepted", "duplicate", "dead", "control"} {
		m.Records.WithLabelValues(o)
	}
	for v := schema.Verdict_VERDICT_UNIQUE; int(v) < schema.NumVerdicts; v++ {
		m.Clicks.WithLabelValues(v.Label())
	}
	for _, r := range fold.Reasons() {
		m.DeadLetters.WithLabelValues(string(r))
	}
	for _, k := range fold.NoticeKinds() {
		m.Notices.WithLabelValues(string(k))
	}
	return m
}

// count adds what a batch has done, once it is stored.
func (m *Metrics) count(b *fold.Batch) {
	accepted := b.Stats.Entries
	for v, n := range b.Stats.Clicks {
		accepted += n
		if n > 0 {
			m.Clicks.WithLabelValues(schema.Verdict(v).Label()).Add(float64(n))
		}
	}
	m.Records.WithLabelValues("accepted").Add(float64(accepted))
	m.Records.WithLabelValues("duplicate").Add(float64(b.Stats.Duplicates))
	m.Records.WithLabelValues("dead").Add(float64(len(b.DeadLetters)))
	m.Records.WithLabelValues("control").Add(float64(b.Stats.Records - accepted - b.Stats.Duplicates - len(b.DeadLetters)))
	m.Differences.Add(float64(b.Stats.Differences))
	for i := range b.DeadLetters {
		m.DeadLetters.WithLabelValues(string(b.DeadLetters[i].Reason)).Inc()
	}
	for i := range b.Notices {
		m.Notices.WithLabelValues(string(b.Notices[i].Kind)).Inc()
	}
}

func partitionLabel(p uint16) string { return strconv.Itoa(int(p)) }
