package dashboard

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"waymark/dashboard/report"
)

func (w *world) page(c *http.Client, path string, holds ...string) string {
	w.t.Helper()
	status, body, _ := w.do(c, "GET", path, nil)
	if status != 200 {
		w.t.Errorf("GET %s = %d, want 200", path, status)
	}
	w.holds(path, body, holds...)
	return body
}

func (w *world) holds(path, body string, holds ...string) {
	w.t.Helper()
	for _, want := range holds {
		if !strings.Contains(body, want) {
			w.t.Errorf("%s does not hold %q:\n%s", path, want, body)
		}
	}
}

func TestTheMainTasksWithoutScript(t *testing.T) {
	w := start(t)
	status, _, header := w.do(w.browser(), "GET", "/programs/northwind/links", nil)
	if status != 303 || header.Get("Location") != "/sign-in?next=%2Fprograms%2Fnorthwind%2Flinks" {
		t.Errorf("a page for a stranger = %d %v, want 303 to the sign-in with the way back", status, header)
	}
	c := w.browser()
	status, body, _ := w.do(c, "POST", "/sign-in", url.Values{"email": {"lena@trailnotes.example"}, "password": {"wrong"}})
	if status != 401 {
		t.Errorf("sign-in with a wrong password = %d, want 401", status)
	}
	w.holds("a refused sign-in", body, "do not match", `value="lena@trailnotes.example"`)
	status, _, header = w.do(c, "POST", "/sign-in", url.Values{"email": {" Lena@TrailNotes.example"}, "password": {"lena's password"}, "next": {"/programs/northwind"}})
	if status != 303 || header.Get("Location") != "/programs/northwind" {
		t.Fatalf("sign-in = %d %v, want 303 to where it began", status, header)
	}
	if cookie := header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("the session's cookie is %q, want HttpOnly and SameSite=Lax", cookie)
	}
	w.page(c, "/", "All programs", "Northwind Outfitters", "Fable Books", "1,234", "$1,815.50", "€42.00", "Sign out", `>35<`)
	summary := w.page(c, "/programs/northwind", "1,234", "1,600 gross", "300 repeat", "66 not counted", "31", "Commissions are not booked yet",
		"20 % of every sale", "https://go.northwind.example/lena", "Data as of", "Spring boots", "from social.example", "Bots", `data-copy=`)
	if strings.Contains(summary, "rival") {
		t.Error("the summary holds something of another partner")
	}
	off := w.page(c, "/programs/fable", "Fable Books", "10 % of the first order", ">4<")
	if strings.Contains(off, "Clicks") || strings.Contains(off, ">Links<") || strings.Contains(off, "gross") {
		t.Errorf("a program without links shows clicks or the Links tab:\n%s", off)
	}
	if status, _, _ := w.do(c, "GET", "/programs/fable/links", nil); status != 404 {
		t.Errorf("the Links page of a program without links = %d, want 404", status)
	}
	w.page(c, "/programs/northwind/links", "1 of 50", "Spring boots", "900", "1,000", "go.northwind.example/")
	status, body, _ = w.do(c, "POST", "/programs/northwind/links", url.Values{"slug": {"v1"}, "destination": {"https://northwind.example/x"}, "title": {"Kept text"}})
	if status != 422 {
		t.Errorf("a reserved slug = %d, want 422", status)
	}
	w.holds("a refused link", body, "reserved", `id="slug-error"`, `value="Kept text"`)
	status, body, _ = w.do(c, "POST", "/programs/northwind/links", url.Values{"slug": {"new"}, "destination": {"https://evil.example/"}})
	if status != 422 {
		t.Errorf("a foreign destination = %d, want 422", status)
	}
	w.holds("a refused link", body, `id="destination-error"`)
	status, body, _ = w.do(c, "POST", "/programs/northwind/links", url.Values{"slug": {"Rivalsecret"}, "destination": {"https://northwind.example/"}})
	if status != 409 {
		t.Errorf("a taken slug = %d, want 409", status)
	}
	w.holds("a refused link", body, "taken", `id="slug-error"`)
	status, _, header = w.do(c, "POST", "/programs/northwind/links", url.Values{"slug": {"New-One"}, "destination": {"https://northwind.example/new"}})
	if status != 303 {
		t.Fatalf("creating a link = %d, want 303", status)
	}
	w.page(c, header.Get("Location"), "Link created", "2 of 50", "https://go.northwind.example/new-one")
	status, _, header = w.do(c, "POST", "/programs/northwind/links/"+w.lenaLink, url.Values{"enabled": {"false"}})
	if status != 303 {
		t.Fatalf("disabling a link = %d, want 303", status)
	}
	w.page(c, header.Get("Location"), "Link disabled", ">Enable<", ">Disabled<")
	if status, _, header = w.do(c, "POST", "/sign-out", nil); status != 303 || header.Get("Location") != "/sign-in" {
		t.Errorf("sign-out = %d %v", status, header)
	}
	if status, _, _ = w.do(c, "GET", "/", nil); status != 303 {
		t.Errorf("Home after sign-out = %d, want 303", status)
	}
}

func TestASessionEndsOnTheServer(t *testing.T) {
	w := start(t)
	c := w.asLena()
	at, _ := url.Parse(w.url)
	token := c.Jar.Cookies(at)[0].Value
	w.do(c, "POST", "/sign-out", nil)
	if status, _, _ := w.do(w.browser(), "GET", "/", nil, "Cookie", "waymark_session="+token); status != 303 {
		t.Errorf("a signed-out token = %d, want 303 to the sign-in", status)
	}
	// A token that somebody planted before the sign-in is not the one that is signed in afterwards.
	planted := w.browser()
	planted.Jar.SetCookies(at, []*http.Cookie{{Name: "waymark_session", Value: "planted"}})
	w.do(planted, "POST", "/sign-in", url.Values{"email": {"lena@trailnotes.example"}, "password": {"lena's password"}})
	if status, _, _ := w.do(w.browser(), "GET", "/", nil, "Cookie", "waymark_session=planted"); status != 303 {
		t.Errorf("a planted token = %d, want 303 to the sign-in", status)
	}
	if status, _, _ := w.do(planted, "GET", "/", nil); status != 200 {
		t.Errorf("Home after the sign-in = %d, want 200", status)
	}
}

func TestGuessingIsLimited(t *testing.T) {
	w := start(t)
	var text map[int]string
	for _, email := range []string{"lena@trailnotes.example", "nobody@trailnotes.example"} {
		seen := map[int]string{}
		for range 12 {
			status, body, _ := w.do(w.browser(), "POST", "/sign-in", url.Values{"email": {email}, "password": {"guess"}})
			seen[status] = strings.ReplaceAll(body, email, "")
		}
		if seen[401] == "" || seen[429] == "" {
			t.Errorf("12 guesses for %s were never refused or never limited", email)
		}
		if text != nil && seen[401] != text[401] {
			t.Errorf("the page for %s differs from that for a known partner", email)
		}
		text = seen
	}
	if status, _, _ := w.do(w.browser(), "POST", "/sign-in", url.Values{"email": {"rival@secretclub.example"}, "password": {"rival's password"}}); status != 303 {
		t.Errorf("another partner's sign-in from the same address = %d, want 303", status)
	}
}

func TestPagesLiveWithoutClickHouse(t *testing.T) {
	w := start(t)
	c := w.asLena()
	w.source.with(func() { w.source.down = errDown })
	w.page(c, "/", "cannot be read at the moment", "Not available at the moment")
	w.page(c, "/programs/northwind", "cannot be read at the moment", "https://go.northwind.example/lena")
	w.page(c, "/programs/northwind/links", "cannot be read at the moment", "Spring boots")
	if status, body, _ := w.api("GET", "/programs/northwind/summary", lenaKey, nil); status != 503 || !strings.Contains(body, `"status":503`) {
		t.Errorf("the API's summary = %d %s, want a problem of 503", status, body)
	}
	w.source.with(func() { w.source.down = nil })
	w.page(c, "/programs/northwind", "1,234")
	w.page(c, "/programs/northwind/links", "1,000")
	w.source.with(func() { w.source.down = errDown })
	w.page(c, "/programs/northwind", "1,234", "last known state", "Spring boots", "Data as of")
	w.page(c, "/programs/northwind/links", "last known state", "1,000")
	if status, body, _ := w.api("GET", "/programs/northwind/summary", lenaKey, nil); status != 200 || !strings.Contains(body, `"clicks":1234`) {
		t.Errorf("the API's summary = %d %s, want the last known one", status, body)
	}
}

func TestStandingStillIsNamed(t *testing.T) {
	w := start(t)
	c := w.asLena()
	if body := w.page(c, "/programs/northwind"); strings.Contains(body, "silent") {
		t.Errorf("a page whose data is 300 ms old says that something is silent:\n%s", body)
	}
	w.source.with(func() { w.source.tick.Time = time.Now().Add(-14 * time.Second) })
	w.page(c, "/programs/northwind", "Edge 0000000000000007 has been silent for 14 s.", `data-state="stale"`)
	w.source.with(func() { w.source.tick.Log = "waymark.ledger.1" })
	w.page(c, "/", "The ledger of signups and sales has been silent for 14 s.")
}

// events reads a stream's events, each as its lines joined.
func (w *world) events(c *http.Client, path string) (<-chan string, func()) {
	w.t.Helper()
	r, err := http.NewRequest("GET", w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	res, err := c.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != 200 {
		w.t.Fatalf("GET %s = %d, want a stream", path, res.StatusCode)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		var event strings.Builder
		scan := bufio.NewScanner(res.Body)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			if scan.Text() == "" {
				if strings.Contains(event.String(), "data:") {
					out <- event.String()
				}
				event.Reset()
				continue
			}
			event.WriteString(scan.Text() + "\n")
		}
	}()
	return out, func() { res.Body.Close() }
}

func (w *world) awaits(events <-chan string, want string) {
	w.t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				w.t.Fatalf("the stream ended before %q came", want)
			}
			if strings.Contains(e, want) {
				return
			}
		case <-timeout:
			w.t.Fatalf("no event with %q came within 5 s", want)
		}
	}
}

func TestOpenPagesAreUpdated(t *testing.T) {
	w := start(t)
	c := w.asLena()
	summary, endSummary := w.events(c, "/programs/northwind/live")
	defer endSummary()
	links, endLinks := w.events(c, "/programs/northwind/links/live")
	defer endLinks()
	home, endHome := w.events(c, "/live")
	defer endHome()
	w.awaits(summary, "1,234")
	w.awaits(links, "1,000")
	w.awaits(home, "1,234")
	began := time.Now()
	w.source.with(func() {
		changed := *w.source.sheets[w.lena]
		changed.Clicks.Unique, changed.Clicks.Gross = 1235, 1601
		w.source.links = map[uint64]map[uint64]report.Clicks{w.lena: {w.boots: {Unique: 402, Gross: 601}}}
		w.source.sheets[w.lena] = &changed
		w.source.v, w.source.dirty = 1, []uint64{w.lena}
	})
	w.awaits(summary, "1,235")
	w.awaits(home, "1,235")
	w.awaits(links, "601")
	if took := time.Since(began); took > time.Second {
		t.Errorf("open pages followed after %s, want less than 1 s", took)
	}
	w.source.with(func() { w.source.down = errDown })
	w.awaits(summary, "last known state")
	w.source.with(func() { w.source.down = nil })
	w.awaits(summary, `data-state="live"`)
	if status, _, _ := w.do(w.browser(), "GET", "/programs/northwind/live", nil, "Accept", "text/event-stream"); status != 401 {
		t.Errorf("a stream for a stranger = %d, want 401", status)
	}
}

func TestTooManyStreams(t *testing.T) {
	w := start(t)
	c := w.asLena()
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for range 32 {
		_, end := w.events(c, "/live")
		ends = append(ends, end)
	}
	if status, _, header := w.do(c, "GET", "/live", nil); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("the 33rd stream of a partner = %d %v, want 503 with Retry-After", status, header)
	}
	ends[0]()
	deadline := time.Now().Add(5 * time.Second)
	for {
		status, _, _ := w.do(c, "GET", "/live", nil)
		if status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a stream ended, another one = %d, want 200", status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// T26, in small: pages that never read are cut, the others go on, and nothing stays behind.
func TestPagesThatNeverReadAreCut(t *testing.T) {
	w := start(t)
	w.d.streamWrite = 300 * time.Millisecond
	c := w.asLena()
	at, _ := url.Parse(w.url)
	token := c.Jar.Cookies(at)[0].Value
	const slow, good = 20, 8
	for range slow {
		conn, err := net.Dial("tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /programs/northwind/live HTTP/1.1\r\nHost: %s\r\nCookie: waymark_session=%s\r\n\r\n", at.Host, token)
	}
	var streams []<-chan string
	for range good {
		events, end := w.events(c, "/programs/northwind/live")
		defer end()
		streams = append(streams, events)
	}
	watching := func() int {
		families, err := w.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "waymark_dashboard_live_watchers" {
				return int(f.GetMetric()[0].GetGauge().GetValue())
			}
		}
		return -1
	}
	deadline := time.Now().Add(20 * time.Second)
	for n := uint64(1); watching() > good || n < 10; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d pages are still updated after 20 s, want the %d that read", watching(), good)
		}
		w.source.with(func() {
			changed := *w.source.sheets[w.lena]
			changed.Clicks.Unique, changed.Clicks.Gross = 5000+n, 6000+n
			w.source.sheets[w.lena] = &changed
			w.source.v, w.source.dirty = n, []uint64{w.lena}
		})
		for _, events := range streams {
			select {
			case <-events:
			default:
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.source.with(func() {
		changed := *w.source.sheets[w.lena]
		changed.Clicks.Unique = 999999
		w.source.sheets[w.lena] = &changed
		w.source.v, w.source.dirty = 1<<40, []uint64{w.lena}
	})
	for _, events := range streams {
		w.awaits(events, "999,999")
	}
}

func TestErrorsArePages(t *testing.T) {
	w := start(t)
	c := w.asLena()
	status, body, header := w.do(c, "GET", "/nothing/here", nil)
	if status != 404 || !strings.Contains(body, "Page not found") || !strings.Contains(body, "Lena Okafor") {
		t.Errorf("GET /nothing/here = %d %s", status, body)
	}
	if p := header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
		t.Errorf("the policy of an error page is %q", p)
	}
	if status, _, header = w.do(c, "DELETE", "/programs/northwind", nil); status != 405 || header.Get("Allow") != "GET" {
		t.Errorf("DELETE of a page = %d %v, want 405 with Allow: GET", status, header)
	}
	if status, body, _ = w.do(w.browser(), "DELETE", "/api/v1/programs/northwind/links", nil); status != 405 || !strings.Contains(body, `"status":405`) {
		t.Errorf("DELETE of the API's links = %d %s, want a problem of 405", status, body)
	}
	if status, body, _ = w.do(c, "POST", "/programs/northwind/links", url.Values{"slug": {strings.Repeat("x", 70000)}}); status != 413 || !strings.Contains(body, "too large") {
		t.Errorf("a form of 70 KB = %d, want 413", status)
	}
	w.d.c.Store.Close()
	if status, body, _ = w.do(c, "GET", "/", nil); status != 503 || !strings.Contains(body, "Not available at the moment") {
		t.Errorf("Home without a database = %d %s, want 503 with a page", status, body)
	}
}

func TestThemeWithoutScript(t *testing.T) {
	w := start(t)
	c := w.asLena()
	status, _, header := w.do(c, "POST", "/theme", url.Values{"theme": {"dark"}, "back": {"/programs/northwind"}})
	if status != 303 || header.Get("Location") != "/programs/northwind" {
		t.Errorf("POST /theme = %d %v, want 303 back", status, header)
	}
	w.page(c, "/programs/northwind", `<html lang="en" data-theme="dark">`)
	if status, _, _ := w.do(c, "POST", "/theme", url.Values{"theme": {`"><script>`}}); status != 400 {
		t.Errorf("a theme of another name = %d, want 400", status)
	}
}

func TestLocalPath(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := localPath(in); got != want {
			t.Errorf("localPath(%q) = %q, want %q", in, got, want)
		}
	}
	f("", "/")
	f("/programs/a?x=1", "/programs/a?x=1")
	for _, bad := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "evil", "/\t/evil.example", "///evil.example", "http:evil", " //evil.example"} {
		f(bad, "/")
	}
}

func TestRates(t *testing.T) {
	r := newRates[int](10, 3, 2)
	now := time.Unix(0, 0)
	take := func(key int, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		if got := r.take(key, now); got != want {
			t.Errorf("take(%d) after %s = %v, want %v", key, after, got, want)
		}
	}
	for range 3 {
		take(1, 0, true)
	}
	take(1, 0, false)
	take(1, 100*time.Millisecond, true)
	take(1, 0, false)
	for key := range 100 {
		take(1000+key, 0, true)
	}
	if len(r.buckets) > 2 {
		t.Errorf("%d buckets are kept, want 2 at most", len(r.buckets))
	}
}

func TestClientAddress(t *testing.T) {
	w := start(t, func(c *Config) { c.TrustedProxies = mustPrefixes("10.0.0.0/8") })
	f := func(remote, forwarded, want string) {
		t.Helper()
		r, _ := http.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		if forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		if got := w.d.clientAddress(r); got != want {
			t.Errorf("clientAddress(%s, %q) = %s, want %s", remote, forwarded, got, want)
		}
	}
	f("198.51.100.7:1", "", "198.51.100.7")
	f("198.51.100.7:1", "203.0.113.9", "198.51.100.7")
	f("10.0.0.1:1", "203.0.113.9", "203.0.113.9")
	f("10.0.0.1:1", "1.2.3.4, 203.0.113.9", "203.0.113.9")
	f("10.0.0.1:1", "203.0.113.9, 10.0.0.2", "203.0.113.9")
	f("10.0.0.1:1", "nonsense", "10.0.0.1")
	f("10.0.0.1:1", "", "10.0.0.1")
	f("[::1]:1", "", "::1")
	if got, want := fmt.Sprint(clientNetwork("2001:db8::1:2:3:4")), "2001:db8::/64"; got != want {
		t.Errorf("clientNetwork = %s, want %s", got, want)
	}
}
