package journal

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type refusal int

const (
	refusedFull refusal = iota
	refusedBusy
)

// Metrics counts what a journal does.
type Metrics struct {
	bytes        prometheus.Gauge
	syncSeconds  prometheus.Histogram
	groupRecords prometheus.Histogram
	failures     prometheus.Counter
	damaged      prometheus.Counter
	lost         prometheus.Counter
	refused      [2]prometheus.Counter
}

// NewMetrics returns metrics that are registered. A nil registerer registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_journal_" + name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: "waymark_tracker_journal_" + name, Help: help, Buckets: buckets})
	}
	refused := f.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tracker_journal_refused_total", Help: "Records that the journal did not take, by reason."}, []string{"reason"})
	return &Metrics{
		bytes:        f.NewGauge(prometheus.GaugeOpts{Name: "waymark_tracker_journal_bytes", Help: "Disk that the journal's segments take."}),
		syncSeconds:  histogram("sync_seconds", "How long an fsync of the journal took.", prometheus.ExponentialBuckets(0.0001, 2, 14)),
		groupRecords: histogram("group_records", "Records that one write of the journal held.", prometheus.ExponentialBuckets(1, 2, 14)),
		failures:     counter("failures_total", "Writes and fsyncs of the journal that failed."),
		damaged:      counter("damaged_segments_total", "Segments that were found with a torn or damaged part."),
		lost:         counter("lost_records_total", "Records that a damaged disk has lost, declared as holes."),
		refused:      [2]prometheus.Counter{refused.WithLabelValues("full"), refused.WithLabelValues("busy")},
	}
}
