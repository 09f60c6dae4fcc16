package ledger

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what the ledger does.
type Metrics struct {
	conversions *prometheus.CounterVec
	poison      *prometheus.CounterVec
	errors      *prometheus.CounterVec
	duplicates  prometheus.Counter
	entries     prometheus.Counter
	sent        prometheus.Counter
	gaps        prometheus.Gauge
	leading     prometheus.Gauge
	stuck       prometheus.Gauge
	seconds     prometheus.Histogram
}

// NewMetrics registers the ledger's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		conversions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_conversions_total",
			Help: "Conversions read, by what became of them."}, []string{"outcome"}),
		poison: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_poison_total",
			Help: "Records of the conversions log that could not be used, by the reason."}, []string{"reason"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_errors_total",
			Help: "Failures that are tried again, by the step."}, []string{"step"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_duplicate_records_total",
			Help: "Records dropped because their edge's number had been read before."}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_entries_total",
			Help: "Entries booked."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_dashboard_ledger_records_sent_total",
			Help: "Records of the outbox that Kafka acknowledged."}),
		gaps: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_ledger_open_gaps",
			Help: "Runs of numbers that edges have sent around and that have not been read."}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_ledger_leading",
			Help: "1 while this process is the one that keeps the ledger."}),
		stuck: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_dashboard_ledger_stuck_partitions",
			Help: "Partitions of the conversions log that cannot be read on because their next record is gone."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "waymark_dashboard_ledger_transaction_seconds",
			Help:    "Duration of the transactions that take in records, in seconds.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}}),
	}
	reg.MustRegister(m.conversions, m.poison, m.errors, m.duplicates, m.entries, m.sent, m.gaps, m.leading, m.stuck, m.seconds)
	return m
}

// tally is what a transaction will have counted once it is committed.
type tally struct {
	conversions map[string]int
	poison      map[string]int
	duplicates  int
	entries     int
}

func newTally() *tally { return &tally{conversions: map[string]int{}, poison: map[string]int{}} }

func (m *Metrics) add(t *tally) {
	for outcome, n := range t.conversions {
		m.conversions.WithLabelValues(outcome).Add(float64(n))
	}
	for reason, n := range t.poison {
		m.poison.WithLabelValues(reason).Add(float64(n))
	}
	m.duplicates.Add(float64(t.duplicates))
	m.entries.Add(float64(t.entries))
}
