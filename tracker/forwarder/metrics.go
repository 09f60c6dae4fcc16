package forwarder

import (
	"context"
	"errors"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/segmentio/kafka-go"
)

// Metrics counts what a forwarder does.
type Metrics struct {
	records prometheus.Counter
	lag     prometheus.Gauge
	retries map[string]prometheus.Counter
}

// The categories of what may go wrong between the edge and Kafka.
const (
	categoryTimeout = "timeout"
	categoryNetwork = "network"
	categoryBroker  = "broker"
	categoryOther   = "other"
)

// NewMetrics returns metrics that are registered. A nil registerer registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		records: f.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_forwarded_records_total", Help: "Records that Kafka has acknowledged."}),
		lag:     f.NewGauge(prometheus.GaugeOpts{Name: "waymark_tracker_forwarder_lag_records", Help: "Records that are on disk and not acknowledged by Kafka yet."}),
		retries: map[string]prometheus.Counter{},
	}
	retries := f.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tracker_forwarder_retries_total", Help: "Requests to Kafka that failed and were sent again, by what went wrong."}, []string{"category"})
	for _, c := range []string{categoryTimeout, categoryNetwork, categoryBroker, categoryOther} {
		m.retries[c] = retries.WithLabelValues(c)
	}
	return m
}

func (m *Metrics) note(err error) {
	var broker kafka.Error
	var network net.Error
	category := categoryOther
	switch {
	case errors.As(err, &broker):
		category = categoryBroker
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		category = categoryTimeout
	case network != nil:
		category = categoryNetwork
	}
	m.retries[category].Inc()
}
