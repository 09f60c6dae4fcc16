package dedupe

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a set does.
type Metrics struct {
	lookupsNew     prometheus.Counter
	lookupsDisk    prometheus.Counter
	falsePositives prometheus.Counter
	readErrors     prometheus.Counter
	filterKeys     prometheus.Gauge
	filterBytes    prometheus.Gauge
	rebuildSeconds prometheus.Gauge
	flushSeconds   prometheus.Histogram
}

// NewMetrics returns metrics registered under the name of the process that owns the set, because one process may hold
// the sets of two. A nil registerer registers nothing.
func NewMetrics(reg prometheus.Registerer, process string) *Metrics {
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"process": process}, reg)
	}
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "waymark_dedupe_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "waymark_dedupe_" + name, Help: help})
	}
	return &Metrics{
		lookupsNew:     counter("certainly_new_total", "Look-ups that the Bloom filter answered without touching disk."),
		lookupsDisk:    counter("disk_lookups_total", "Look-ups that Pebble answered."),
		falsePositives: counter("false_positives_total", "Look-ups that the Bloom filter sent to Pebble for nothing."),
		readErrors:     counter("read_errors_total", "Reads of the visitor set that failed; the visitor was taken as new."),
		filterKeys:     gauge("filter_keys", "Visitors in the Bloom filter."),
		filterBytes:    gauge("filter_bytes", "Memory that the Bloom filter takes."),
		rebuildSeconds: gauge("filter_rebuild_seconds", "How long the last rebuild of the Bloom filter took."),
		flushSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "waymark_dedupe_flush_seconds", Help: "How long it took to store marks on disk.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
	}
}
