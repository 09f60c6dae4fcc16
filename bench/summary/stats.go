package summary

import (
	"math"
	"slices"
)

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// shift says by what factor b's values differ from a's: the middle of all ratios of a value of b to one of a (the
// Hodges-Lehmann estimator on a logarithmic scale), and the bounds that hold it with 95 % confidence (those of the
// Mann-Whitney test). It assumes no distribution and does not mind outliers. ok is false when there are too few values
// for any bounds.
func shift(a, b []float64) (low, middle, high float64, ok bool) {
	var ratios []float64
	for _, x := range a {
		for _, y := range b {
			if x > 0 && y > 0 {
				ratios = append(ratios, y/x)
			}
		}
	}
	if len(ratios) == 0 {
		return 0, 0, 0, false
	}
	slices.Sort(ratios)
	middle = median(ratios)
	k := criticalRank(len(a), len(b))
	if k < 1 || len(ratios) < len(a)*len(b) {
		return 0, middle, math.Inf(1), false
	}
	return ratios[k-1], middle, ratios[len(ratios)-k], true
}

// criticalRank returns which of the sorted ratios, counted from 1 at either end, bounds the shift of n against m values
// with at least 95 % confidence; 0 when none does.
func criticalRank(n, m int) int {
	if n > 30 || m > 30 { // the normal approximation
		mean, deviation := float64(n*m)/2, math.Sqrt(float64(n*m*(n+m+1))/12)
		return max(int(mean-1.96*deviation), 0)
	}
	ways := mannWhitney(n, m)
	total := 0.0
	for _, w := range ways {
		total += w
	}
	below := 0.0
	for u, w := range ways {
		if below += w; below/total > 0.025 {
			return u
		}
	}
	return 0
}

// mannWhitney returns, for each value of U, in how many of the orders of n and m values it occurs.
func mannWhitney(n, m int) []float64 {
	// ways[j][u]: orders of i and j values with U = u.
	ways := make([][]float64, m+1)
	for j := range ways {
		ways[j] = make([]float64, n*m+1)
		ways[j][0] = 1 // i = 0
	}
	for i := 1; i <= n; i++ {
		for j := 1; j <= m; j++ { // the largest is one of the i, then it beats all j; or one of the j
			next := make([]float64, n*m+1)
			for u := range next {
				if u >= j {
					next[u] += ways[j][u-j]
				}
				next[u] += ways[j-1][u]
			}
			ways[j] = next
		}
	}
	return ways[m]
}
