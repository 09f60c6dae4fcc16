package dashboard

import (
	"sync"
	"time"
)

// rates gives each key a bucket that refills with time. It is bounded and safe for concurrent use: of more than max
// keys those are forgotten whose buckets are full.
type rates[K comparable] struct {
	perSecond, burst float64
	max              int

	mu      sync.Mutex
	buckets map[K]rate
}

type rate struct {
	left float64
	at   time.Time
}

func newRates[K comparable](perSecond, burst, max int) *rates[K] {
	return &rates[K]{perSecond: float64(perSecond), burst: float64(burst), max: max, buckets: map[K]rate{}}
}

// take reports whether the key's bucket held something, and takes it.
func (r *rates[K]) take(key K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.buckets[key]
	if !ok {
		if len(r.buckets) >= r.max {
			r.forgetLocked(now)
		}
		b = rate{left: r.burst, at: now}
	}
	b.left = min(r.burst, b.left+now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	allowed := b.left >= 1
	if allowed {
		b.left--
	}
	r.buckets[key] = b
	return allowed
}

func (r *rates[K]) forgetLocked(now time.Time) {
	for k, b := range r.buckets {
		if b.left+now.Sub(b.at).Seconds()*r.perSecond >= r.burst {
			delete(r.buckets, k)
		}
	}
	for k := range r.buckets {
		if len(r.buckets) < r.max {
			return
		}
		delete(r.buckets, k)
	}
}
