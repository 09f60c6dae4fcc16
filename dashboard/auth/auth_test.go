package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPasswords(t *testing.T) {
	p := NewPasswords()
	hash, err := p.Hash(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("Hash = %q, %v", hash, err)
	}
	if other, err := p.Hash(t.Context(), "correct horse"); err != nil || other == hash {
		t.Errorf("two hashes of one password are the same: %q, %v", other, err)
	}
	verify := func(hash, password string, want bool) {
		t.Helper()
		if got, err := p.Verify(t.Context(), hash, password); err != nil || got != want {
			t.Errorf("Verify(%q, %.20q) = %v, %v; want %v", hash, password, got, err, want)
		}
	}
	verify(hash, "correct horse", true)
	verify(hash, "correct horsf", false)
	verify(hash, "", false)
	verify("", "correct horse", false)
	verify("", "", false)
	verify(hash, strings.Repeat("x", 100_000), false)
	for _, bad := range []string{"short", strings.Repeat("x", MaxPassword+1), "12345678\xff"} {
		if _, err := p.Hash(t.Context(), bad); !errors.Is(err, ErrPassword) {
			t.Errorf("Hash(%.20q) = %v, want ErrPassword", bad, err)
		}
	}
	for _, bad := range []string{"x", "$argon2id$v=19$m=19456,t=2,p=1$AAAA", "$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=19456,t=2,p=0$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if ok, err := p.Verify(t.Context(), bad, "correct horse"); ok || err == nil {
			t.Errorf("Verify of the hash %q = %v, %v; want an error", bad, ok, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range cap(p.running) {
		p.running <- struct{}{}
	}
	if _, err := p.Verify(ctx, hash, "correct horse"); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify that waits = %v, want the context's error", err)
	}
}

// T23: one who does not exist costs as much as one who does.
func TestUnknownTakesAsLong(t *testing.T) {
	p := NewPasswords()
	hash, err := p.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	median := func(hash string) time.Duration {
		var all []time.Duration
		for range 15 {
			began := time.Now()
			if _, err := p.Verify(t.Context(), hash, "wrong horse"); err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(began))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	known, unknown := median(hash), median("")
	t.Logf("known %v, unknown %v", known, unknown)
	if unknown < known/2 || known < unknown/2 {
		t.Errorf("a known account takes %v and an unknown one %v, want the same", known, unknown)
	}
}

func TestTokens(t *testing.T) {
	token, hash := NewToken()
	if other, _ := NewToken(); other == token || len(token) < 26 {
		t.Errorf("tokens %q and %q", token, other)
	}
	if HashToken(token) != hash || HashToken(token+"x") == hash {
		t.Error("a token's hash is not its own")
	}
}

// T23: a thousand guesses.
func TestLimiter(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	l := NewLimiter(LimiterConfig{Now: func() time.Time { return now }})
	guess := func(account, address string) bool { ok, _ := l.Allow(account, address); return ok }
	allowed := 0
	for i := range 1000 {
		if guess("a@x.example", fmt.Sprintf("198.51.100.%d", i%250)) {
			allowed++
		}
	}
	if allowed != 10 {
		t.Errorf("%d of 1,000 guesses at one account from many addresses were allowed, want 10", allowed)
	}
	ok, wait := l.Allow("a@x.example", "198.51.100.7")
	if ok || wait <= 0 || wait > time.Minute {
		t.Errorf("Allow = %v, %v; want a wait of up to a minute", ok, wait)
	}
	now = now.Add(wait)
	if !guess("a@x.example", "198.51.100.7") || guess("a@x.example", "198.51.100.7") {
		t.Error("after the wait one guess was not allowed, or two were")
	}
	now = now.Add(24 * time.Hour)
	allowed = 0
	for i := range 1000 {
		if guess(fmt.Sprintf("p%d@x.example", i), fmt.Sprintf("2001:db8::%x", i+1)) {
			allowed++
		}
	}
	if allowed != 50 {
		t.Errorf("%d of 1,000 guesses from one network were allowed, want 50", allowed)
	}
	now = now.Add(24 * time.Hour)
	for i := range 100 {
		if !guess("b@x.example", "203.0.113.1") {
			t.Fatalf("sign-in %d of one who always succeeds was refused", i)
		}
		l.Succeeded("b@x.example", "203.0.113.1")
	}
}

func TestLimiterIsBoundedAndSafe(t *testing.T) {
	l := NewLimiter(LimiterConfig{MaxKeys: 100})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				account := fmt.Sprintf("p%d-%d", g, i)
				l.Allow(account, fmt.Sprintf("198.51.%d.%d", g, i%250))
				l.Succeeded(account, "bad address")
			}
		})
	}
	wg.Wait()
	if n := len(l.entries); n > 100 || n != l.recent.Len() {
		t.Errorf("%d keys and %d in the list, want at most 100", n, l.recent.Len())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$")
	f.Fuzz(func(t *testing.T, hash string) {
		if h, err := decode(hash); err == nil && (h.memory > maxMemory || h.passes > maxPasses || h.lanes == 0 || len(h.sum) > 64) {
			t.Errorf("decode(%q) = %+v, beyond the bounds", hash, h)
		}
	})
}
