package pages

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func functions(a *Assets) template.FuncMap {
	return template.FuncMap{
		"asset":    a.URL,
		"bare":     bare,
		"count":    Count[uint64],
		"clock":    clock,
		"moment":   moment,
		"date":     func(t time.Time) string { return t.Format("Mon 2 Jan 2006") },
		"rfc3339":  func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") },
		"initials": initials,
		"chart":    newChart,
		"bar":      newBar,
		"reversed": func(d []Day) []Day { d = slices.Clone(d); slices.Reverse(d); return d },
	}
}

// Count writes a number as people read it: 12,345.
func Count[N uint64 | int64 | int](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

var symbols = map[string]string{
	"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "AUD": "A$", "CAD": "CA$", "NZD": "NZ$", "BRL": "R$", "MXN": "MX$",
}

// digits holds the currencies of ISO 4217 whose minor unit is not a hundredth.
var digits = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0,
	"XAF": 0, "XOF": 0, "XPF": 0, "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}

// Money writes an amount of minor units of a currency: $1,234.50, CHF 12.00, ¥500.
func Money(amount int64, currency string) string {
	places, ok := digits[currency]
	if !ok {
		places = 2
	}
	sign, abs := "", uint64(amount)
	if amount < 0 {
		sign, abs = "−", -abs
	}
	scale := uint64(1)
	for range places {
		scale *= 10
	}
	text := Count(abs / scale)
	if places > 0 {
		text += fmt.Sprintf(".%0*d", places, abs%scale)
	}
	if s := symbols[currency]; s != "" {
		return sign + s + text
	}
	return sign + currency + "\u00a0" + text
}

// bare returns an address without its scheme, as people say it.
func bare(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		return strings.TrimSuffix(rest, "/")
	}
	return url
}

func zoned(t time.Time, zone *time.Location) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone)
}

func clock(t time.Time, zone *time.Location) string {
	return zoned(t, zone).Format("15:04:05 MST")
}

// moment writes when something happened: the time alone would be ambiguous beside older events.
func moment(t time.Time, zone *time.Location) string {
	return zoned(t, zone).Format("2 Jan, 15:04:05")
}

func initials(name string) string {
	var out []rune
	for word := range strings.FieldsSeq(name) {
		if r, _ := utf8.DecodeRuneInString(word); unicode.IsLetter(r) || unicode.IsDigit(r) {
			out = append(out, unicode.ToUpper(r))
		}
	}
	switch {
	case len(out) == 0:
		return "?"
	case len(out) > 2:
		out = []rune{out[0], out[len(out)-1]}
	}
	return string(out)
}

// chart is the plot of days, as lists for the script and as lines for readers without it.
type chart struct {
	Start, UniqueList, GrossList string
	Unique, Gross, Area, Label   string
}

const chartWidth, chartHeight = 600, 180

func newChart(days []Day) *chart {
	if len(days) < 2 {
		return nil
	}
	top := uint64(1)
	var unique, gross uint64
	for _, d := range days {
		top = max(top, d.Gross)
		unique, gross = unique+d.Unique, gross+d.Gross
	}
	point := func(i int, n uint64) string {
		x := float64(i) * chartWidth / float64(len(days)-1)
		y := (chartHeight - 4) - float64(n)*(chartHeight-12)/float64(top)
		return strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64)
	}
	c := &chart{Start: days[0].Date.Format(time.DateOnly)}
	var ul, gl, up, gp []string
	for i, d := range days {
		ul, gl = append(ul, strconv.FormatUint(d.Unique, 10)), append(gl, strconv.FormatUint(d.Gross, 10))
		up, gp = append(up, point(i, d.Unique)), append(gp, point(i, d.Gross))
	}
	c.UniqueList, c.GrossList = strings.Join(ul, ","), strings.Join(gl, ",")
	c.Unique, c.Gross = strings.Join(up, " "), strings.Join(gp, " ")
	c.Area = "0,180 " + c.Unique + " 600,180"
	c.Label = fmt.Sprintf("Clicks by day from %s to %s: %s unique, %s gross.", days[0].Date.Format("2 January"),
		days[len(days)-1].Date.Format("2 January 2006"), Count(unique), Count(gross))
	return c
}

type bar struct{ Unique, Repeat, Invalid, Both string }

func newBar(s Split) *bar {
	if s.Gross == 0 {
		return nil
	}
	share := func(n uint64) string { return strconv.FormatFloat(float64(n)*100/float64(s.Gross), 'f', 2, 64) }
	return &bar{Unique: share(s.Unique), Repeat: share(s.Repeat), Invalid: share(s.Invalid), Both: share(s.Unique + s.Repeat)}
}
