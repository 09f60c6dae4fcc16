// Package pacer says when each request of an open-loop run is to be sent. A schedule depends on nothing but the
// profile, the arrivals and the seed: never on the server, and never on whether an earlier request was answered.
package pacer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Segment is a stretch of a run in which the rate goes in a straight line from From to To, in requests per second.
type Segment struct {
	Duration time.Duration
	From, To float64
}

// Profile is a run's rate over time.
type Profile []Segment

// Constant returns a profile of one rate.
func Constant(rate float64, d time.Duration) Profile { return Profile{{d, rate, rate}} }

// Ramp returns a profile that goes in a straight line from one rate to another.
func Ramp(from, to float64, d time.Duration) Profile { return Profile{{d, from, to}} }

// Steps returns a profile that holds each rate for the same time.
func Steps(rates []float64, each time.Duration) Profile {
	p := make(Profile, 0, len(rates))
	for _, rate := range rates {
		p = append(p, Segment{each, rate, rate})
	}
	return p
}

// Validate refuses a profile that sends nothing or cannot be followed.
func (p Profile) Validate() error {
	for i, s := range p {
		if s.Duration <= 0 {
			return fmt.Errorf("phase %d must last longer than 0s, got %v", i+1, s.Duration)
		}
		for _, rate := range []float64{s.From, s.To} {
			if !(rate >= 0) || rate > 1e8 {
				return fmt.Errorf("phase %d: a rate must lie between 0 and 1e8 requests/s, got %v", i+1, rate)
			}
		}
	}
	if p.Requests() < 1 {
		return fmt.Errorf("the profile sends less than one request in %v", p.Duration())
	}
	return nil
}

// Duration returns how long the profile lasts.
func (p Profile) Duration() time.Duration {
	var d time.Duration
	for _, s := range p {
		d += s.Duration
	}
	return d
}

// Requests returns how many requests the profile asks for, in the mean of all seeds.
func (p Profile) Requests() float64 {
	n := 0.0
	for _, s := range p {
		n += s.requests()
	}
	return n
}

// Between returns how many requests the profile asks for from one time to another, both since its start.
func (p Profile) Between(from, to time.Duration) float64 {
	n := 0.0
	for _, s := range p {
		lo, hi := max(from, 0), min(to, s.Duration)
		if lo < hi {
			n += s.until(hi.Seconds()) - s.until(lo.Seconds())
		}
		from, to = from-s.Duration, to-s.Duration
	}
	return n
}

// Scaled returns the profile with every rate multiplied.
func (p Profile) Scaled(by float64) Profile {
	scaled := make(Profile, len(p))
	for i, s := range p {
		scaled[i] = Segment{s.Duration, s.From * by, s.To * by}
	}
	return scaled
}

// Stretched returns the profile with every duration multiplied, so that it lasts d in all.
func (p Profile) Stretched(d time.Duration) Profile {
	by := float64(d) / float64(p.Duration())
	stretched := make(Profile, len(p))
	for i, s := range p {
		stretched[i] = Segment{time.Duration(float64(s.Duration) * by), s.From, s.To}
	}
	return stretched
}

func (s Segment) requests() float64 { return s.until(s.Duration.Seconds()) }

// until returns how many requests lie before t seconds of the segment.
func (s Segment) until(t float64) float64 {
	return s.From*t + (s.To-s.From)*t*t/(2*s.Duration.Seconds())
}

// at returns the second of the segment before which n requests lie: the inverse of until.
func (s Segment) at(n float64) float64 {
	slope := (s.To - s.From) / s.Duration.Seconds()
	if slope == 0 {
		return n / s.From
	}
	// The root of slope/2*t^2 + From*t - n that stays exact when the slope is small.
	root := math.Sqrt(max(s.From*s.From+2*slope*n, 0))
	return 2 * n / (s.From + root)
}

// Arrivals is how requests are spread around the rate.
type Arrivals string

// Even spreads requests at equal distances; Poisson at random ones, as independent people arrive.
const (
	Even    Arrivals = "even"
	Poisson Arrivals = "poisson"
)

// Schedule gives the send times of one of several workers that share a profile. It is not safe for concurrent use.
type Schedule struct {
	profile Profile
	random  *rand.Rand // nil: even
	step    float64
	n       float64 // requests of the whole profile before the next one
	passed  float64 // requests of the segments before profile[0]
	start   time.Duration
}

// Schedule returns the schedule of worker i of n. Together the workers keep the profile's rate; with even arrivals
// they take turns.
func (p Profile) Schedule(arrivals Arrivals, seed uint64, i, n int) *Schedule {
	s := &Schedule{profile: p, step: float64(n)}
	if arrivals == Poisson {
		s.random = rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15*uint64(i+1)))
		s.n = s.random.ExpFloat64() * s.step
	} else {
		s.n = float64(i) + 0.5 // in the middle of its turn, so that a profile of n requests sends exactly n
	}
	return s
}

// Next returns when the next request is to be sent, since the start of the run; false after the last one. Times
// never decrease.
func (s *Schedule) Next() (time.Duration, bool) {
	for len(s.profile) > 0 {
		segment := s.profile[0]
		requests := segment.requests()
		if s.n-s.passed < requests {
			at := s.start + time.Duration(segment.at(s.n-s.passed)*1e9)
			if s.random != nil {
				s.n += s.random.ExpFloat64() * s.step
			} else {
				s.n += s.step
			}
			return at, true
		}
		s.passed += requests
		s.start += segment.Duration
		s.profile = s.profile[1:]
	}
	return 0, false
}
