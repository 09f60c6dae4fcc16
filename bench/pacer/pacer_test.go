package pacer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func times(p Profile, a Arrivals, seed uint64, workers int) []time.Duration {
	var all []time.Duration
	for w := range workers {
		s := p.Schedule(a, seed, w, workers)
		for at, ok := s.Next(); ok; at, ok = s.Next() {
			all = append(all, at)
		}
	}
	return all
}

func TestConstant(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7} {
		got := times(Constant(1000, 2*time.Second), Even, 1, workers)
		slices.Sort(got)
		if len(got) != 2000 {
			t.Fatalf("%d workers: %d sends in 2 s at 1000/s, want 2000", workers, len(got))
		}
		for i := 1; i < len(got); i++ {
			if d := got[i] - got[i-1]; (d - time.Millisecond).Abs() > time.Microsecond {
				t.Fatalf("%d workers: sends %d and %d lie %v apart, want 1ms", workers, i-1, i, d)
			}
		}
	}
}

// TestRate holds every profile against its own rate, in windows, for both kinds of arrivals.
func TestRate(t *testing.T) {
	profiles := map[string]Profile{
		"constant": Constant(5000, 10*time.Second),
		"ramp up":  Ramp(0, 10000, 10*time.Second),
		"down":     Ramp(8000, 100, 10*time.Second),
		"steps":    Steps([]float64{1000, 0, 8000, 200}, 2500*time.Millisecond),
		"mixed":    {{3 * time.Second, 100, 5000}, {2 * time.Second, 5000, 5000}, {5 * time.Second, 5000, 0}},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, p := range profiles {
		for _, arrivals := range []Arrivals{Even, Poisson} {
			got := times(p, arrivals, seed, 3)
			for w := range 10 {
				from, to := time.Duration(w)*time.Second, time.Duration(w+1)*time.Second
				n := 0.0
				for _, at := range got {
					if at >= from && at < to {
						n++
					}
				}
				want := p.Between(from, to)
				tolerance := 2.0
				if arrivals == Poisson {
					tolerance = 6*math.Sqrt(want) + 3
				}
				if math.Abs(n-want) > tolerance {
					t.Errorf("%s, %s, seed %d: %v sends in second %d, want %.1f +- %.1f", name, arrivals, seed, n, w, want, tolerance)
				}
			}
		}
	}
}

func TestPoissonGaps(t *testing.T) {
	got := times(Constant(20000, 10*time.Second), Poisson, 42, 4)
	slices.Sort(got)
	var sum, squares float64
	for i := 1; i < len(got); i++ {
		gap := (got[i] - got[i-1]).Seconds()
		sum += gap
		squares += gap * gap
	}
	n := float64(len(got) - 1)
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	// An exponential distribution's deviation is its mean; even sends would have none.
	if ratio := deviation / mean; ratio < 0.97 || ratio > 1.03 {
		t.Errorf("gaps have deviation/mean %.3f, want 1 (Poisson)", ratio)
	}
}

func TestScheduleIsSeeded(t *testing.T) {
	p := Ramp(10, 2000, 3*time.Second)
	if a, b := times(p, Poisson, 7, 2), times(p, Poisson, 7, 2); !slices.Equal(a, b) {
		t.Error("the same seed gave two schedules")
	}
	if a, b := times(p, Poisson, 7, 2), times(p, Poisson, 8, 2); slices.Equal(a, b) {
		t.Error("two seeds gave the same schedule")
	}
}

func TestMonotonic(t *testing.T) {
	s := Profile{{time.Second, 0, 3000}, {time.Second, 3000, 0}, {time.Second, 0, 0}, {time.Second, 1, 50000}}.Schedule(Even, 0, 0, 1)
	last := time.Duration(-1)
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		if at < last || at > 4*time.Second {
			t.Fatalf("a send at %v after one at %v", at, last)
		}
		last = at
	}
}

func TestValidate(t *testing.T) {
	f := func(p Profile, ok bool) {
		t.Helper()
		if err := p.Validate(); (err == nil) != ok {
			t.Errorf("Validate(%v) = %v, want ok = %v", p, err, ok)
		}
	}
	f(Constant(1, time.Second), true)
	f(Ramp(0, 10, time.Second), true)
	f(nil, false)
	f(Constant(0, time.Second), false)
	f(Constant(-1, time.Second), false)
	f(Constant(math.NaN(), time.Second), false)
	f(Constant(math.Inf(1), time.Second), false)
	f(Constant(10, 0), false)
	f(Ramp(10, -5, time.Second), false)
}

func TestScaledAndStretched(t *testing.T) {
	p := Profile{{2 * time.Second, 100, 300}, {2 * time.Second, 300, 300}}
	if got := p.Scaled(0.5).Requests(); math.Abs(got-500) > 1e-6 {
		t.Errorf("half the rates send %v requests, want 500", got)
	}
	if got := p.Stretched(time.Second).Duration(); got != time.Second {
		t.Errorf("the profile stretched to 1s lasts %v", got)
	}
}
