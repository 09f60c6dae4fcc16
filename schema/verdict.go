package schema

// NumVerdicts is one more than the highest verdict: the size of an array indexed by [Verdict].
const NumVerdicts = int(Verdict_VERDICT_RATE) + 1

// MaxUserAgent is the number of bytes at which user agents are cut.
const MaxUserAgent = 512

// MaxReferrerHost and MaxSubID bound, in bytes, what is kept of a client's own words.
const (
	MaxReferrerHost = 253
	MaxSubID        = 128
)

var reasonNames = [NumVerdicts]string{
	Verdict_VERDICT_DISABLED:    "disabled",
	Verdict_VERDICT_EXCLUDED:    "excluded",
	Verdict_VERDICT_HEAD:        "head",
	Verdict_VERDICT_EMPTY_UA:    "empty_ua",
	Verdict_VERDICT_PREVIEW:     "preview",
	Verdict_VERDICT_BOT:         "bot",
	Verdict_VERDICT_SUBRESOURCE: "subresource",
	Verdict_VERDICT_DATACENTER:  "datacenter",
	Verdict_VERDICT_RATE:        "rate",
}

// Reason returns the reason of an invalid verdict ("bot"), and "" for all others.
func (v Verdict) Reason() string {
	if v < 0 || int(v) >= NumVerdicts {
		return ""
	}
	return reasonNames[v]
}

// Valid reports whether the verdict is unique or repeat: a click that the visitor set has judged.
func (v Verdict) Valid() bool {
	return v == Verdict_VERDICT_UNIQUE || v == Verdict_VERDICT_REPEAT
}

// Label returns the verdict as people read it: unique, repeat, invalid:<reason>, or unknown.
func (v Verdict) Label() string {
	switch {
	case v == Verdict_VERDICT_UNIQUE:
		return "unique"
	case v == Verdict_VERDICT_REPEAT:
		return "repeat"
	case v.Reason() != "":
		return "invalid:" + v.Reason()
	}
	return "unknown"
}

// InvalidVerdicts lists the invalid verdicts in the order in which they are decided.
func InvalidVerdicts() []Verdict {
	var all []Verdict
	for v := Verdict_VERDICT_DISABLED; int(v) < NumVerdicts; v++ {
		all = append(all, v)
	}
	return all
}

// QuarterMillis is the length of the span that totals are kept in: a quarter of an hour of UTC. Every time zone's
// offset is a multiple of it, so days of any zone are sums of quarters.
const QuarterMillis = 15 * 60 * 1000

// Quarter returns the start of the quarter hour that holds t; both in milliseconds since the Unix epoch.
func Quarter(t int64) int64 {
	q := t - t%QuarterMillis
	if q > t {
		q -= QuarterMillis
	}
	return q
}
