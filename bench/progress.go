package bench

import (
	"fmt"
	"time"

	"waymark/bench/summary"
)

// progress prints how the run stands. On a terminal a line takes the place of the one before.
func progress(c *Config, of time.Duration, in *summary.Interval) {
	start, end := "", "\n"
	if c.Terminal {
		start, end = "\r\x1b[K", ""
	}
	latency := in.Corrected
	if latency == nil {
		latency = in.Service
	}
	var p50, p99 time.Duration
	if latency != nil {
		p50, p99 = time.Duration(latency.P50NS), time.Duration(latency.P99NS)
	}
	seconds := max(float64(in.DurationNS)/1e9, 1e-9)
	fmt.Fprintf(c.Progress, "%s%6s of %v  offered %.0f/s  answered %.0f/s  p50 %v  p99 %v  failed %d  late %d%s", start,
		time.Duration(in.StartNS+in.DurationNS).Round(100*time.Millisecond), of.Round(100*time.Millisecond), in.Counts.Offered/seconds, float64(in.Counts.Answered)/seconds,
		rounded(p50), rounded(p99), in.Counts.Failed(), in.Counts.Late, end)
}

// endProgress leaves the last line on the terminal.
func endProgress(c *Config) {
	if c.Terminal {
		fmt.Fprintln(c.Progress)
	}
}

func rounded(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}
