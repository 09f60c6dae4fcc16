package links

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// refusal is why a catalog record was left out.
type refusal int

const (
	refusedGarbage refusal = iota
	refusedProgram
	refusedPartnership
	refusedLink
	refusedDestination
)

var refusalNames = [...]string{"garbage", "program", "partnership", "link", "destination"}

// Metrics counts what happens to the link table.
type Metrics struct {
	applied      prometheus.Counter
	followErrors prometheus.Counter
	links        prometheus.Gauge
	refused      [len(refusalNames)]prometheus.Counter
}

// NewMetrics returns metrics that are registered. A nil registerer registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		applied:      f.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_catalog_records_total", Help: "Records of the catalog topic that were read."}),
		followErrors: f.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_catalog_errors_total", Help: "Times that following the catalog topic failed and was begun anew."}),
		links:        f.NewGauge(prometheus.GaugeOpts{Name: "waymark_tracker_links", Help: "Links in the table."}),
	}
	refused := f.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tracker_catalog_refused_total", Help: "Catalog records that were left out, by what was wrong with them."}, []string{"reason"})
	for i, name := range refusalNames {
		m.refused[i] = refused.WithLabelValues(name)
	}
	return m
}
