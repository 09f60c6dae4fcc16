package dashboard

import (
	"fmt"
	"strings"
	"time"

	"waymark/dashboard/pages"
	"waymark/dashboard/report"
	"waymark/schema"
)

// What the numbers mean, in the words of the product.
const (
	clicksMeaning   = "Unique clicks over all your links in this program: each visitor counts once. Repeats, bots and the like are not in it."
	referredMeaning = "People who signed up through you, whether or not they have bought anything."
	soldMeaning     = "What the people you referred have paid, refunds subtracted."
	earnedMeaning   = "Commissions that have been paid out to you."
	pendingMeaning  = "Commissions that wait for approval or for the end of their hold period."

	noCommissions = "Commissions are not booked yet"
	notReadable   = "Not available at the moment"
)

// reasonWords says what the reasons of invalid clicks are called and why they do not count.
var reasonWords = map[string][2]string{
	"disabled":    {"Link switched off", "The link, your partnership or the program was off."},
	"excluded":    {"Excluded by the program", "The program does not count these addresses, for example its own office."},
	"head":        {"Address checks", "Software asked whether the link exists (a HEAD request) without opening it."},
	"empty_ua":    {"No browser named", "The request named no browser, as people's browsers always do."},
	"preview":     {"Link previews", "A chat or social network fetched the link to draw a preview."},
	"bot":         {"Bots", "A known robot opened the link."},
	"subresource": {"Hidden loads", "A page loaded the link as an image, frame or script instead of a person opening it."},
	"datacenter":  {"Data centres", "The address belongs to a data centre, and the program does not count those."},
	"rate":        {"Too many at once", "More clicks came from one address than the program allows."},
	"other":       {"Other", "Not counted for a reason that this page does not know yet."},
}

func reasonLabel(reason string) string {
	if w, ok := reasonWords[reason]; ok {
		return w[0]
	}
	return reason
}

// splitOf shows how gross clicks are made up, the reasons in the order in which they are decided.
func splitOf(c report.Clicks) pages.Split {
	s := pages.Split{Gross: c.Gross, Unique: c.Unique, Repeat: c.Repeat}
	add := func(reason string) {
		if n := c.Invalid[reason]; n > 0 {
			s.Invalid += n
			s.Reasons = append(s.Reasons, pages.Reason{Label: reasonLabel(reason), Meaning: reasonWords[reason][1], Count: n})
		}
	}
	for _, v := range schema.InvalidVerdicts() {
		add(v.Reason())
	}
	add("other")
	return s
}

func clickNotes(c report.Clicks) []string {
	s := splitOf(c)
	notes := []string{pages.Count(s.Gross) + " gross"}
	if s.Repeat > 0 {
		notes = append(notes, pages.Count(s.Repeat)+" repeat")
	}
	if s.Invalid > 0 {
		notes = append(notes, pages.Count(s.Invalid)+" not counted")
	}
	return notes
}

// figuresOf are the numbers of a sheet; nil: it could not be read. The prefix keeps ids apart on a page of several.
func figuresOf(prefix string, sheet *report.Sheet, linksOn bool) []pages.Figure {
	clicks := pages.Figure{ID: prefix + "clicks", Label: "Clicks", Meaning: clicksMeaning, Why: notReadable}
	referred := pages.Figure{ID: prefix + "referred", Label: "Referred", Meaning: referredMeaning, Why: notReadable}
	sold := pages.Figure{ID: prefix + "sold", Label: "Sold", Meaning: soldMeaning, Why: notReadable}
	if sheet != nil {
		clicks.Values, clicks.Notes = []string{pages.Count(sheet.Clicks.Unique)}, clickNotes(sheet.Clicks)
		referred.Values = []string{pages.Count(sheet.Referred)}
		for _, m := range sheet.Sold {
			sold.Values = append(sold.Values, pages.Money(m.Amount, m.Currency))
		}
		if len(sold.Values) == 0 {
			sold.Values = []string{"0"}
		}
	}
	figures := []pages.Figure{
		referred, sold,
		{ID: prefix + "earned", Label: "Earned", Meaning: earnedMeaning, Why: noCommissions},
		{ID: prefix + "pending", Label: "Pending", Meaning: pendingMeaning, Why: noCommissions},
	}
	if linksOn {
		figures = append([]pages.Figure{clicks}, figures...)
	}
	return figures
}

// silence is how long the time that the data is complete up to may stand still before a page says so.
const silence = 3 * time.Second

// asOfView says up to when numbers are complete and, when that stands still, what is being waited for.
func asOfView(s standing, now time.Time) pages.AsOf {
	v := pages.AsOf{Time: s.tick.Time, Down: s.down}
	switch {
	case s.down:
	case s.tick.Time.IsZero() && s.tick.Log != "":
		v.Problem = fmt.Sprintf("Waiting for %s.", sourceName(s.tick))
	case !s.tick.Time.IsZero() && now.Sub(s.tick.Time) > silence:
		v.Problem = fmt.Sprintf("%s has been silent for %s.", upperFirst(sourceName(s.tick)), spanWords(now.Sub(s.tick.Time)))
	}
	return v
}

func sourceName(t report.Tick) string {
	if l, err := schema.ParseLog(t.Log); err == nil && l.Topic == schema.TopicLedger {
		return "the ledger of signups and sales"
	}
	if t.Edge == 0 {
		return fmt.Sprintf("partition %d of %s", t.Partition, t.Log)
	}
	return "edge " + t.Edge.String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func spanWords(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

var deviceWords = map[schema.DeviceClass]string{
	schema.DeviceClass_DEVICE_DESKTOP: "desktop", schema.DeviceClass_DEVICE_PHONE: "phone", schema.DeviceClass_DEVICE_TABLET: "tablet",
	schema.DeviceClass_DEVICE_TV: "TV", schema.DeviceClass_DEVICE_CONSOLE: "game console", schema.DeviceClass_DEVICE_BOT: "robot",
}

var browserWords = map[schema.Browser]string{
	schema.Browser_BROWSER_CHROME: "Chrome", schema.Browser_BROWSER_SAFARI: "Safari", schema.Browser_BROWSER_FIREFOX: "Firefox",
	schema.Browser_BROWSER_EDGE: "Edge", schema.Browser_BROWSER_OPERA: "Opera", schema.Browser_BROWSER_SAMSUNG: "Samsung Internet",
	schema.Browser_BROWSER_IN_APP: "in an app",
}

// clickActivity is a click as a line of the latest events.
func clickActivity(c report.Click, linkName string) pages.Activity {
	a := pages.Activity{Time: c.OccurredAt, Kind: "click", Subject: linkName}
	switch {
	case c.Verdict == schema.Verdict_VERDICT_UNIQUE:
		a.Label, a.Tone = "Unique click", "good"
	case c.Verdict == schema.Verdict_VERDICT_REPEAT:
		a.Label, a.Tone = "Repeat click", "muted"
	default:
		a.Label, a.Tone = "Not counted", "warn"
	}
	var detail []string
	add := func(s string) {
		if s != "" {
			detail = append(detail, s)
		}
	}
	if a.Tone == "warn" {
		reason := c.Verdict.Reason()
		if reason == "" {
			reason = "other"
		}
		add(reasonLabel(reason))
	}
	add(c.Country)
	add(deviceWords[c.Device])
	add(browserWords[c.Browser])
	if c.ReferrerHost != "" {
		add("from " + c.ReferrerHost)
	}
	a.Detail = strings.Join(detail, " · ")
	return a
}
