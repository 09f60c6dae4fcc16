package tracker

import (
	"github.com/prometheus/client_golang/prometheus"

	"waymark/schema"
)

// outcome is how a request ended: a closed set, which labels the metric.
type outcome uint8

// The outcomes. Those of clicks are the verdicts, in their order.
const (
	outcomeNone       outcome = iota
	outcomeFirstClick         // unique; the other verdicts follow
)

// The outcomes of what is no click.
const (
	outcomePrefetch outcome = outcome(schema.NumVerdicts) + iota
	outcomeNotFound
	outcomeMethod
	outcomeBadRequest
	outcomeStatic
	outcomeConversion
	outcomeConversionRefused
	outcomePanic
	numOutcomes
)

var outcomeNames = func() (names [numOutcomes]string) {
	for v := schema.Verdict(1); int(v) < schema.NumVerdicts; v++ {
		names[v] = v.Label()
	}
	names[outcomePrefetch] = "prefetch"
	names[outcomeNotFound] = "not_found"
	names[outcomeMethod] = "method"
	names[outcomeBadRequest] = "bad_request"
	names[outcomeStatic] = "static"
	names[outcomeConversion] = "conversion"
	names[outcomeConversionRefused] = "conversion_refused"
	names[outcomePanic] = "panic"
	return names
}()

// refusal is why a connection or request was turned away before it reached a handler.
type refusal uint8

// The refusals.
const (
	refusedHeader  refusal = iota // headers above the limit: 431
	refusedBody                   // a body above the limit: 413
	refusedTimeout                // too slow: 408
	refusedSyntax                 // not HTTP: 400
	numRefusals
)

var refusalNames = [numRefusals]string{"header_too_large", "body_too_large", "timeout", "syntax"}

// Metrics are the tracker's own metrics; its parts bring theirs.
type Metrics struct {
	outcomes    [numOutcomes]prometheus.Counter
	refusals    [numRefusals]prometheus.Counter
	unjournaled prometheus.Counter
	passedOver  prometheus.Counter
	flushes     prometheus.Counter
	flushErrors prometheus.Counter
	replayed    prometheus.Gauge
	connections prometheus.GaugeFunc
}

// NewMetrics makes the metrics and registers them with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer, open func() float64, rejected func() float64) (*Metrics, error) {
	m := &Metrics{
		unjournaled: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_unjournaled_total", Help: "Clicks that were redirected but could not be journaled: known losses, not counted anywhere else."}),
		passedOver:  prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_flush_passed_over_total", Help: "Flushes of the dedupe set that were passed over because the disk is nearly full."}),
		flushes:     prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_flushes_total", Help: "Flushes of the dedupe set to disk."}),
		flushErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_tracker_flush_errors_total", Help: "Flushes of the dedupe set that failed; their marks stay in memory and are flushed again."}),
		replayed:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_tracker_replayed_records", Help: "Journal records that were read back at the last start."}),
		connections: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waymark_tracker_connections", Help: "Open client connections."}, open),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tracker_requests_total", Help: "Requests by how they ended; those of links are labelled with the edge's verdict."}, []string{"outcome"})
	for o := outcomeFirstClick; o < numOutcomes; o++ {
		if outcomeNames[o] != "" {
			m.outcomes[o] = requests.WithLabelValues(outcomeNames[o])
		}
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_tracker_refused_total", Help: "Requests that were turned away before they were understood, by reason."}, []string{"reason"})
	for r, name := range refusalNames {
		m.refusals[r] = refused.WithLabelValues(name)
	}
	rejections := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "waymark_tracker_rejected_connections_total", Help: "Connections that were closed because there were too many, in all or of one address."}, rejected)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.unjournaled, m.passedOver, m.flushes, m.flushErrors, m.replayed, m.connections, requests, refused, rejections} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
