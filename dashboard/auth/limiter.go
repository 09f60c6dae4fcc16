package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// LimiterConfig bounds the attempts to sign in. Zero values mean the defaults.
type LimiterConfig struct {
	// AccountBurst attempts for one account are free, then one per AccountEvery. 10 and one minute.
	AccountBurst int
	AccountEvery time.Duration
	// AddressBurst attempts from one address (IPv6: one /64) are free, then one per AddressEvery. 50 and 6 seconds.
	AddressBurst int
	AddressEvery time.Duration
	// MaxKeys bounds how many accounts and addresses are remembered; the ones unused for longest are forgotten. 65,536.
	MaxKeys int
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

func (c *LimiterConfig) fill() {
	set := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	set(&c.AccountBurst, 10)
	set(&c.AddressBurst, 50)
	set(&c.MaxKeys, 65536)
	if c.AccountEvery == 0 {
		c.AccountEvery = time.Minute
	}
	if c.AddressEvery == 0 {
		c.AddressEvery = 6 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Limiter limits guessing: every attempt takes one from what its account and its address have left, a successful one
// gives it back. It is safe for concurrent use, and bounded.
type Limiter struct {
	config LimiterConfig

	mu      sync.Mutex
	entries map[string]*list.Element
	recent  *list.List
}

type bucket struct {
	key string
	// full is when nothing will be owed any more.
	full time.Time
}

// NewLimiter returns a limiter.
func NewLimiter(c LimiterConfig) *Limiter {
	c.fill()
	return &Limiter{config: c, entries: map[string]*list.Element{}, recent: list.New()}
}

// Allow takes an attempt for the account (as its owner typed it, normalized) from the address. When none is left it
// takes nothing, and returns false and the time until there is one.
func (l *Limiter) Allow(account, address string) (bool, time.Duration) {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	a, b := l.bucketLocked("account "+account), l.bucketLocked("address "+network(address))
	wait := max(debt(a, now, l.config.AccountBurst, l.config.AccountEvery), debt(b, now, l.config.AddressBurst, l.config.AddressEvery))
	if wait > 0 {
		return false, wait
	}
	a.full = later(a.full, now).Add(l.config.AccountEvery)
	b.full = later(b.full, now).Add(l.config.AddressEvery)
	return true, 0
}

// Succeeded gives back what a successful attempt took, and forgets the account's failures.
func (l *Limiter) Succeeded(account, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bucketLocked("account " + account).full = time.Time{}
	b := l.bucketLocked("address " + network(address))
	b.full = b.full.Add(-l.config.AddressEvery)
}

// debt returns how long to wait until the bucket can take one more.
func debt(b *bucket, now time.Time, burst int, every time.Duration) time.Duration {
	return max(b.full.Sub(now), 0) - time.Duration(burst-1)*every
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (l *Limiter) bucketLocked(key string) *bucket {
	if e, ok := l.entries[key]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if len(l.entries) >= l.config.MaxKeys {
		oldest := l.recent.Back()
		delete(l.entries, l.recent.Remove(oldest).(*bucket).key)
	}
	b := &bucket{key: key}
	l.entries[key] = l.recent.PushFront(b)
	return b
}

// network returns what one person's addresses have in common.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}
