package summary

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a histogram and what is usually asked of it, in nanoseconds.
type Latency struct {
	Count  int64 `json:"count"`
	MeanNS int64 `json:"mean_ns"`
	P50NS  int64 `json:"p50_ns"`
	P90NS  int64 `json:"p90_ns"`
	P99NS  int64 `json:"p99_ns"`
	P999NS int64 `json:"p999_ns"`
	MaxNS  int64 `json:"max_ns"`
	// Histogram is the whole of it: HdrHistogram's V2 encoding, compressed, in base64.
	Histogram string `json:"histogram"`

	decoded *hdrhistogram.Histogram
}

// NewLatency reads a histogram; nil when it is empty.
func NewLatency(h *hdrhistogram.Histogram) (*Latency, error) {
	if h == nil || h.TotalCount() == 0 {
		return nil, nil
	}
	encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a histogram: %w", err)
	}
	l := &Latency{Histogram: string(encoded), decoded: hdrhistogram.Import(h.Export())}
	l.fill(h)
	return l, nil
}

func (l *Latency) fill(h *hdrhistogram.Histogram) {
	l.Count, l.MeanNS, l.MaxNS = h.TotalCount(), int64(h.Mean()), h.Max()
	l.P50NS, l.P90NS, l.P99NS, l.P999NS = h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9)
}

// hdr returns the decoded histogram; nil for no latency. The histogram is shared, not to be changed.
func (l *Latency) hdr() *hdrhistogram.Histogram {
	if l == nil {
		return nil
	}
	return l.decoded
}

// maxValue bounds a histogram that is read, so that a damaged file cannot ask for all memory.
const maxValue = int64(1) << 50

// check decodes the histogram and replaces what is said about it.
func (l *Latency) check() (err error) {
	if l == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // the library reads damaged input past its end
			err = fmt.Errorf("a histogram is damaged: %v", r)
		}
	}()
	h, err := hdrhistogram.Decode([]byte(l.Histogram))
	if err != nil {
		return fmt.Errorf("a histogram is damaged: %w", err)
	}
	if h.HighestTrackableValue() > maxValue || h.TotalCount() == 0 {
		return fmt.Errorf("a histogram is damaged: it holds %d values up to %d", h.TotalCount(), h.HighestTrackableValue())
	}
	l.decoded = h
	l.fill(h)
	return nil
}

// combine adds histograms up; nil when all are.
func combine(all ...*Latency) (*Latency, error) {
	var total *hdrhistogram.Histogram
	for _, l := range all {
		h := l.hdr()
		if h == nil {
			continue
		}
		if total == nil {
			total = hdrhistogram.Import(h.Export())
			continue
		}
		if dropped := total.Merge(h); dropped > 0 {
			return nil, fmt.Errorf("cannot merge histograms: %d values lie outside of the first one's range", dropped)
		}
	}
	return NewLatency(total)
}
