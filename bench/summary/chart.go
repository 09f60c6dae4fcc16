package summary

import (
	"fmt"
	"math"
	"strings"
)

// chart is a drawing of lines over one axis, in the units of its own view box. The template draws it as SVG.
type chart struct {
	Title, Note string
	Width       float64
	Height      float64
	Lines       []line
	X, Y        []tick
	YTitle      string
	XTitle      string
	Plot        box
}

type box struct{ Left, Top, Right, Bottom float64 }

type line struct {
	Name  string
	Class int    // its colour
	Path  string // of an SVG path
	Dots  []dot  // with what a pointer shows
}

type dot struct {
	X, Y float64
	Text string
}

type tick struct {
	At   float64
	Text string
}

// curve is what a line shows; a value that is NaN leaves a gap.
type curve struct {
	name string
	y    []float64
}

const (
	chartWidth  = 720.0
	chartHeight = 250.0
)

// newChart draws curves over common places on the x axis.
func newChart(title, unit, xTitle string, x []float64, xTicks []tick, curves []curve, logarithmic bool, show func(float64) string) *chart {
	c := &chart{Title: title, Width: chartWidth, Height: chartHeight, YTitle: unit, XTitle: xTitle, Plot: box{64, 12, chartWidth - 12, chartHeight - 34}}
	low, high := bounds(curves, logarithmic)
	if math.IsInf(low, 0) || len(x) == 0 {
		return nil
	}
	left, right := x[0], x[len(x)-1]
	if right <= left {
		right = left + 1
	}
	px := func(v float64) float64 {
		return round1(c.Plot.Left + (v-left)/(right-left)*(c.Plot.Right-c.Plot.Left))
	}
	py := func(v float64) float64 {
		share := (v - low) / (high - low)
		if logarithmic {
			share = math.Log(v/low) / math.Log(high/low)
		}
		return round1(c.Plot.Bottom - share*(c.Plot.Bottom-c.Plot.Top))
	}
	for _, v := range yTicks(low, high, logarithmic) {
		c.Y = append(c.Y, tick{py(v), show(v)})
	}
	for _, t := range xTicks {
		c.X = append(c.X, tick{px(t.At), t.Text})
	}
	for i, curve := range curves {
		l := line{Name: curve.name, Class: i}
		var path strings.Builder
		pen := "M"
		for j, v := range curve.y {
			if math.IsNaN(v) || logarithmic && v <= 0 {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%g %g", pen, px(x[j]), py(v))
			pen = "L"
			if len(curve.y) <= 240 {
				l.Dots = append(l.Dots, dot{px(x[j]), py(v), fmt.Sprintf("%s: %s", curve.name, show(v))})
			}
		}
		if l.Path = path.String(); l.Path != "" {
			c.Lines = append(c.Lines, l)
		}
	}
	return c
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

// bounds returns the range of the y axis.
func bounds(curves []curve, logarithmic bool) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, v := range c.y {
			if !math.IsNaN(v) && (!logarithmic || v > 0) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if math.IsInf(low, 0) {
		return low, high
	}
	if logarithmic {
		low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
		if high <= low {
			high = low * 10
		}
		return low, high
	}
	low = min(low, 0)
	if high <= low {
		high = low + 1
	}
	return low, high + (high-low)*0.05
}

func yTicks(low, high float64, logarithmic bool) (ticks []float64) {
	if logarithmic {
		for v := low; v <= high*1.001; v *= 10 {
			ticks = append(ticks, v)
		}
		return ticks
	}
	step := niceStep((high - low) / 5)
	for v := math.Ceil(low/step) * step; v <= high; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

// niceStep returns 1, 2 or 5 times a power of ten, at least the given step.
func niceStep(step float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= step*0.999 {
			return f * power
		}
	}
	return 10 * power
}

// timeTicks marks seconds.
func timeTicks(until float64) (ticks []tick) {
	step := niceStep(max(until, 1) / 8)
	for t := 0.0; t <= until; t += step {
		ticks = append(ticks, tick{t, fmt.Sprintf("%gs", t)})
	}
	return ticks
}
