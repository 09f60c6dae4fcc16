package pages

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

var preview = flag.String("preview", "", "serve the pages with made-up data at this address until interrupted")

func render(t *testing.T, p *Pages, view any) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Render(&b, view); err != nil {
		t.Fatalf("Render(%T): %v", view, err)
	}
	return b.String()
}

func TestEveryPageIsSound(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if *preview != "" {
		t.Fatal(servePreview(p, *preview))
	}
	for name, view := range samples() {
		html := render(t, p, view)
		for _, bad := range []string{" style=", "<style", "javascript:", "http://www", "{{", "<no value>", "%!", "ZgotmplZ"} {
			if strings.Contains(html, bad) {
				t.Errorf("page %s holds %q", name, bad)
			}
		}
		if m := regexp.MustCompile(`<script(?: [^>]*)?>[^<]`).FindString(html); m != "" {
			t.Errorf("page %s holds an inline script: %q", name, m)
		}
		if m := regexp.MustCompile(`<[a-z]+ [^>]*\son[a-z]+=`).FindString(html); m != "" {
			t.Errorf("page %s holds an inline handler: %q", name, m)
		}
		if m := regexp.MustCompile(`(?:src|href|action)="(?:https?:)?//[^"]*"`).FindString(strings.ReplaceAll(html, `href="http`, `nothing="`)); m != "" {
			t.Errorf("page %s loads from elsewhere: %q", name, m)
		}
		checkIDs(t, name, html)
		if n := strings.Count(html, "<h1"); n != 1 {
			t.Errorf("page %s has %d headings of the first level, want 1", name, n)
		}
	}
}

// checkIDs holds that ids are unique and that what refers to an id finds it.
func checkIDs(t *testing.T, name, html string) {
	t.Helper()
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if ids[m[1]] {
			t.Errorf("page %s has the id %q twice", name, m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\s(?:for|aria-describedby|aria-labelledby)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		for id := range strings.FieldsSeq(m[1]) {
			if !ids[id] {
				t.Errorf("page %s refers to the id %q, which it does not have", name, id)
			}
		}
	}
	for _, m := range regexp.MustCompile(`<[^>]*data-live[^-][^>]*>`).FindAllString(html, -1) {
		if !strings.Contains(m, " id=") && !strings.Contains(m, "<body") {
			t.Errorf("page %s: %s is live and has no id", name, m)
		}
	}
}

// The live fragment must only hold parts that the page has, or updates would get lost silently.
func TestLivePartsAreOnThePage(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`<[a-z]+ [^>]*id="([^"]*)"[^>]* data-live`)
	for name, view := range samples() {
		switch view.(type) {
		case *SignIn, *Error:
			continue
		}
		page := render(t, p, view)
		var b bytes.Buffer
		if err := p.RenderLive(&b, view); err != nil {
			t.Fatalf("RenderLive(%s): %v", name, err)
		}
		found := id.FindAllStringSubmatch(b.String(), -1)
		if len(found) == 0 {
			t.Errorf("page %s: its live fragment has no parts", name)
		}
		for _, m := range found {
			if !strings.Contains(page, `id="`+m[1]+`"`) {
				t.Errorf("page %s has no %q, which its live fragment sends", name, m[1])
			}
		}
		for _, m := range id.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(b.String(), `id="`+m[1]+`"`) {
				t.Errorf("page %s: its live fragment does not send %q", name, m[1])
			}
		}
	}
}

func TestTextIsEscaped(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	const evil = `"><img src=x onerror=alert(1)>'</script>`
	v := samples()["summary"].(*Summary)
	v.Name, v.Offers, v.Links[0].Title, v.Links[0].Destination, v.Recent[0].Subject, v.Recent[0].Detail = evil, []string{evil}, evil, evil, evil, evil
	v.Account.Name, v.Programs[0].Name, v.Figures[0].Notes[0], v.AsOf.Problem, v.Flash = evil, evil, evil, evil, evil
	l := samples()["links-errors"].(*Links)
	l.Form = LinkForm{Title: evil, Slug: evil, Destination: evil, TitleError: evil, SlugError: evil, DestinationError: evil, Err: evil}
	l.Allowed, l.Prefix, l.Links[1].URL = []string{evil}, evil, "javascript:alert(1)"
	for _, html := range []string{render(t, p, v), render(t, p, l)} {
		if strings.Contains(html, "<img") || strings.Contains(html, `href="javascript`) {
			t.Errorf("markup from outside reached the page: %s", html)
		}
	}
}

func TestFormats(t *testing.T) {
	money := func(amount int64, currency, want string) {
		t.Helper()
		if got := Money(amount, currency); got != want {
			t.Errorf("Money(%d, %s) = %q, want %q", amount, currency, got, want)
		}
	}
	money(0, "USD", "$0.00")
	money(123456789, "USD", "$1,234,567.89")
	money(-5, "EUR", "−€0.05")
	money(500, "JPY", "¥500")
	money(1234, "KWD", "KWD\u00a01.234")
	money(-9223372036854775808, "USD", "−$92,233,720,368,547,758.08")
	money(100, "CHF", "CHF\u00a01.00")
	count := func(n int64, want string) {
		t.Helper()
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
	count(0, "0")
	count(999, "999")
	count(1000, "1,000")
	count(-1234567, "−1,234,567")
	name := func(in, want string) {
		t.Helper()
		if got := initials(in); got != want {
			t.Errorf("initials(%q) = %q, want %q", in, got, want)
		}
	}
	name("Lena Okafor", "LO")
	name("", "?")
	name("ömer von der aue", "ÖA")
}

func TestAssets(t *testing.T) {
	a, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, encoding string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept-Encoding", encoding)
		a.ServeHTTP(w, r)
		return w
	}
	css := get(a.URL("app.css"), "")
	if css.Code != 200 || !strings.Contains(css.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("GET %s = %d %v, want 200 and immutable", a.URL("app.css"), css.Code, css.Header())
	}
	urls := regexp.MustCompile(`url\(([^)]*)\)`).FindAllStringSubmatch(css.Body.String(), -1)
	if len(urls) == 0 {
		t.Error("the stylesheet names no font")
	}
	for _, m := range urls {
		if w := get(m[1], ""); w.Code != 200 {
			t.Errorf("the stylesheet names %s, which answers %d", m[1], w.Code)
		}
	}
	if w := get(a.URL("app.js"), "br, gzip"); w.Header().Get("Content-Encoding") != "gzip" || w.Body.Len() >= len(a.files["app.js"].plain) {
		t.Errorf("app.js for a browser that takes gzip: %v, %d bytes", w.Header(), w.Body.Len())
	}
	if w := get("/assets/0/app.css", ""); w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("an old address may be kept: %v", w.Header())
	}
	for _, missing := range []string{"/assets/0/nothing.css", "/assets/app.css", "/assets/", "/assets/0/../pages.go", "/assets/0/vendor/htmx.LICENSE.txt"} {
		if w := get(missing, ""); w.Code != 404 {
			t.Errorf("GET %s = %d, want 404", missing, w.Code)
		}
	}
}

func servePreview(p *Pages, addr string) error {
	mux := http.NewServeMux()
	mux.Handle(AssetPrefix, p.Assets())
	for name := range samples() {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			view := samples()[name]
			w.Header().Set("Content-Security-Policy", Policy)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			setTheme(view, r.URL.Query().Get("theme"))
			if err := p.Render(w, view); err != nil {
				fmt.Fprintln(w, err)
			}
		})
	}
	return http.ListenAndServe(addr, mux)
}

func setTheme(view any, theme string) {
	switch v := view.(type) {
	case *SignIn:
		v.Theme = theme
	case *Home:
		v.Theme = theme
	case *Summary:
		v.Theme = theme
	case *Links:
		v.Theme = theme
	case *Error:
		v.Theme = theme
	}
}

func samples() map[string]any {
	chrome := func(title, current string, tabs ...Tab) Chrome {
		return Chrome{Title: title, Path: "/", Account: &Account{"Lena Okafor", "lena@trailnotes.example"}, Current: current, Tabs: tabs,
			Programs: []ProgramRef{{"northwind", "Northwind Outfitters"}, {"fable", "Fable Books"}}}
	}
	tabs := []Tab{{"Summary", "/programs/northwind", true}, {"Links", "/programs/northwind/links", false}}
	linkTabs := []Tab{{"Summary", "/programs/northwind", false}, {"Links", "/programs/northwind/links", true}}
	now := time.Date(2026, 5, 14, 12, 3, 7, 412e6, time.UTC)
	zone := time.FixedZone("CEST", 7200)
	var days []Day
	for i := range 90 {
		n := uint64(180 + (i*37)%83 + i*2 + (i%7)*18)
		days = append(days, Day{now.AddDate(0, 0, i-89), n * 7 / 10, n})
	}
	figures := func(prefix string, links bool) []Figure {
		f := []Figure{
			{ID: prefix + "referred", Label: "Referred", Meaning: "People who signed up after clicking your link, whether or not they bought anything.", Values: []string{"318"}},
			{ID: prefix + "sold", Label: "Sold", Meaning: "What the people you referred have paid, refunds subtracted.", Values: []string{"$18,204.50", "€1,920.00"}},
			{ID: prefix + "earned", Label: "Earned", Meaning: "Commissions that have been paid out to you.", Why: "Commissions are not booked yet"},
			{ID: prefix + "pending", Label: "Pending", Meaning: "Commissions that wait for approval or for the end of their hold period.", Why: "Commissions are not booked yet"},
		}
		if links {
			f = append([]Figure{{ID: prefix + "clicks", Label: "Clicks", Meaning: "Unique clicks over all your links in this program. Repeats, bots and the like are not in it.", Values: []string{"19,482"}, Notes: []string{"27,904 gross", "5,210 repeat", "3,212 not counted"}}}, f...)
		}
		return f
	}
	links := []Link{
		{ID: "1", URL: "https://go.northwind.example/lena", Title: "Welcome page", Destination: "https://northwind.example/welcome", Default: true, Enabled: true, Unique: "15,204", Gross: "21,877"},
		{ID: "2", URL: "https://go.northwind.example/spring-boots", Title: "Spring boots", Destination: "https://northwind.example/boots/women/waterproof?utm_source=partner&utm_campaign=spring", Enabled: true, Unique: "4,011", Gross: "5,390"},
		{ID: "3", URL: "https://go.northwind.example/podcast-42", Title: "Podcast, episode 42: what to carry when it rains for a week", Destination: "https://northwind.example/", Enabled: false, Unique: "402", Gross: "637"},
		{ID: "4", URL: "https://go.northwind.example/x", Title: "", Destination: "https://northwind.example/tents", Enabled: true, Unique: "0", Gross: "0"},
	}
	recent := []Activity{
		{now.Add(-2 * time.Second), "click", "Unique", "good", "Spring boots", "Germany · phone · instagram.com"},
		{now.Add(-9 * time.Second), "sale", "Sale", "good", "$129.00", ""},
		{now.Add(-31 * time.Second), "click", "Repeat", "muted", "Default", "Austria · desktop"},
		{now.Add(-64 * time.Second), "click", "Not counted: bot", "warn", "Podcast, episode 42: what to carry when it rains for a week", "United States"},
		{now.Add(-3 * time.Hour), "signup", "Signup", "good", "New customer", ""},
	}
	split := Split{Gross: 27904, Unique: 19482, Repeat: 5210, Invalid: 3212, Reasons: []Reason{{"Bots", "Known robots", 2400}, {"Link previews", "Previews", 612}, {"Switched off", "Link off", 200}}}
	offers := []string{"20 % of every sale in the first 12 months", "$5 for every signup", "Customers stay yours for 90 days after a click"}
	summary := func() *Summary {
		return &Summary{Chrome: chrome("Northwind Outfitters", "northwind", tabs...), Name: "Northwind Outfitters", AsOf: AsOf{Time: now}, Zone: zone, Figures: figures("", true),
			Offers: offers, LinksOn: true, Split: split, Links: links[:1:1], Days: days, Recent: recent}
	}
	stale := summary()
	stale.AsOf.Problem = "Edge 9f31c2a44b0e7d18 has been silent for 14 s."
	down := summary()
	down.AsOf.Down = true
	empty := summary()
	empty.Recent, empty.Split, empty.Offers, empty.Days = nil, Split{}, nil, nil
	empty.Figures[0].Values, empty.Figures[0].Notes = []string{"0"}, []string{"0 gross"}
	empty.Figures[1].Values, empty.Figures[2].Values = []string{"0"}, []string{"0"}
	for i := range 90 {
		empty.Days = append(empty.Days, Day{Date: now.AddDate(0, 0, i-89)})
	}
	never := summary()
	never.AsOf, never.Recent, never.Days = AsOf{Down: true}, nil, nil
	never.Figures = []Figure{{ID: "clicks", Label: "Clicks", Meaning: "x", Why: "Not available at the moment"}, {ID: "sold", Label: "Sold", Meaning: "x", Why: "Not available"}}
	off := summary()
	off.Chrome = chrome("Fable Books", "fable", Tab{"Summary", "/programs/fable", true})
	off.Name, off.LinksOn, off.Figures, off.Recent = "Fable Books", false, figures("", false), recent[1:2]
	page := func(form LinkForm, flash string) *Links {
		l := &Links{Chrome: chrome("Links", "northwind", linkTabs...), Name: "Northwind Outfitters", AsOf: AsOf{Time: now}, Zone: zone, Links: append([]Link(nil), links...), Custom: 12, Max: 50,
			Prefix: "https://go.northwind.example/", Allowed: []string{"northwind.example", "*.northwind.example/shop"}, Form: form}
		l.Flash = flash
		return l
	}
	full := page(LinkForm{}, "")
	full.Custom = 50
	home := &Home{Chrome: chrome("All programs", ""), AsOf: AsOf{Time: now}, Zone: time.UTC, Totals: figures("total-", true), Programs: []HomeProgram{
		{Key: "northwind", Name: "Northwind Outfitters", Figures: figures("northwind-", true)},
		{Key: "fable", Name: "Fable Books", Off: "Paused", Figures: figures("fable-", false)},
	}}
	return map[string]any{
		"signin": &SignIn{Chrome: Chrome{Title: "Sign in"}}, "signin-error": &SignIn{Chrome: Chrome{Title: "Sign in"}, Email: "lena@trailnotes.example", Error: "That e-mail and password do not match.", Next: "/programs/x"},
		"home": home, "home-empty": &Home{Chrome: Chrome{Title: "All programs", Account: &Account{"Lena Okafor", "lena@trailnotes.example"}}, AsOf: AsOf{}},
		"summary": summary(), "summary-stale": stale, "summary-down": down, "summary-empty": empty, "summary-never": never, "summary-off": off,
		"links": page(LinkForm{}, ""), "links-created": page(LinkForm{}, "Link created. It works from now on."), "links-full": full,
		"links-errors": page(LinkForm{Title: "Boots", Slug: "v1", Destination: "https://evil.example/", SlugError: "the slug \"v1\" is reserved", DestinationError: "https://evil.example is not among the program's allowed destinations"}, ""),
		"error":        &Error{Chrome: chrome("Page not found", ""), Status: 404, Heading: "Page not found", Text: "There is no page at this address, or it is not yours to see."},
		"error-out":    &Error{Chrome: Chrome{Title: "Page not found"}, Status: 404, Heading: "Page not found", Text: "There is no page at this address."},
	}
}
