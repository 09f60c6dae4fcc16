package dashboard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"waymark/dashboard/report"
	"waymark/dashboard/store"
	"waymark/schema"

	"github.com/prometheus/client_golang/prometheus"
)

const programFile = `programs:
  - key: northwind
    name: Northwind Outfitters
    hosts: [go.northwind.example]
    allowed_destinations: [northwind.example, "*.northwind.example/shop"]
    windows: {cookie: lifetime, hash: 24h}
    features: {links: on}
    timezone: Europe/Berlin
    conversion_keys: [wmc_northwind_0123456789]
    groups:
      - key: creators
        name: Creators
        offers: [20 % of every sale in the first 12 months, $5 for every signup]
        default_links:
          - {title: Welcome page, destination: "https://northwind.example/welcome"}
    partners:
      - email: lena@trailnotes.example
        name: Lena Okafor
        group: creators
        key: lena
        password: lena's password
        api_keys: [wmp_lena_0123456789abcdef]
        links:
          - {slug: spring-boots, destination: "https://northwind.example/boots", title: Spring boots}
      - email: rival@secretclub.example
        name: Zacharias Rivalson
        group: creators
        key: rivalkey
        password: rival's password
        api_keys: [wmp_rival_0123456789abcdef]
        links:
          - {slug: rivalsecret, destination: "https://northwind.example/rivaldest", title: Rivaltitle}
  - key: fable
    name: Fable Books
    hosts: [go.fable.example]
    allowed_destinations: [fable.example]
    features: {links: off}
    groups:
      - {key: readers, name: Readers, offers: [10 % of the first order]}
    partners:
      - {email: lena@trailnotes.example, name: Lena Okafor, group: readers, key: lena}
  - key: hidden
    name: Hiddenprogram Ltd
    hosts: [go.hidden.example]
    allowed_destinations: [hidden.example]
    features: {links: on}
    groups:
      - key: all
        name: All
        offers: [Hiddenoffer]
        default_links:
          - {title: Hiddenhome, destination: "https://hidden.example/"}
    partners:
      - {email: rival@secretclub.example, name: Zacharias Rivalson, group: all, key: rivalkey}
`

// fake answers in ClickHouse's place.
type fake struct {
	mu     sync.Mutex
	down   error
	sheets map[uint64]*report.Sheet
	links  map[uint64]map[uint64]report.Clicks
	recent []report.Click
	tick   report.Tick
	v      uint64
	dirty  []uint64
}

var _ reader = (*report.Reader)(nil)

func (f *fake) with(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fake) Sheets(_ context.Context, ids []uint64) (map[uint64]*report.Sheet, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	sheets := map[uint64]*report.Sheet{}
	for _, id := range ids {
		sheets[id] = &report.Sheet{}
		if s := f.sheets[id]; s != nil {
			copied := *s
			sheets[id] = &copied
		}
	}
	return sheets, nil
}

func (f *fake) Links(_ context.Context, id uint64) (map[uint64]report.Clicks, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links[id] == nil {
		return map[uint64]report.Clicks{}, f.down
	}
	return f.links[id], f.down
}

func (f *fake) Recent(context.Context, uint64, int) ([]report.Click, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recent, f.down
}

func (f *fake) Daily(_ context.Context, _ uint64, until time.Time, n int) ([]report.Day, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	days := make([]report.Day, n)
	for i := range days {
		days[i] = report.Day{Date: until.AddDate(0, 0, i-n+1), Unique: uint64(i), Gross: uint64(2 * i)}
	}
	return days, f.down
}

func (f *fake) Progress(context.Context) (*report.Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &report.Progress{V: map[report.Part]uint64{{Log: "waymark.clicks.1"}: f.v}, Least: f.tick}, f.down
}

func (f *fake) Changed(context.Context, []uint64, *report.Progress, *report.Progress) ([]uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dirty := f.dirty
	f.dirty = nil
	return dirty, f.down
}

type world struct {
	t        *testing.T
	d        *Dashboard
	source   *fake
	registry *prometheus.Registry
	url      string
	// Partnerships and links by name.
	lena, fable, rival, hidden uint64
	lenaLink, rivalLink        string
	boots                      uint64
}

var errDown = errors.New("connection refused")

func start(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{URL: filepath.Join(t.TempDir(), "waymark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	registry := prometheus.NewRegistry()
	c := Config{Store: s, PollInterval: 10 * time.Millisecond, Registerer: registry}
	for _, f := range change {
		f(&c)
	}
	c.fill()
	source := &fake{tick: report.Tick{Part: report.Part{Log: "waymark.clicks.1"}, Edge: 7, Time: time.Now().Add(-300 * time.Millisecond)}}
	d, err := newDashboard(c, source)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, d: d, source: source, registry: registry}
	admin := httptest.NewRecorder()
	d.AdminHandler().ServeHTTP(admin, httptest.NewRequest("POST", "/v1/apply", strings.NewReader(programFile)))
	if admin.Code != 200 {
		t.Fatalf("POST /v1/apply = %d %s", admin.Code, admin.Body)
	}
	w.lena, w.fable = w.partnership("lena@trailnotes.example", "northwind"), w.partnership("lena@trailnotes.example", "fable")
	w.rival, w.hidden = w.partnership("rival@secretclub.example", "northwind"), w.partnership("rival@secretclub.example", "hidden")
	w.lenaLink, w.boots = w.customLink(w.lena)
	w.rivalLink, _ = w.customLink(w.rival)
	links, err := s.Links(ctx, w.lena)
	if err != nil {
		t.Fatal(err)
	}
	source.sheets = map[uint64]*report.Sheet{
		w.lena: {Clicks: report.Clicks{Unique: 1234, Repeat: 300, Invalid: map[string]uint64{"bot": 60, "head": 6}, Gross: 1600}, Referred: 31,
			Sold: []report.Money{{Currency: "EUR", Amount: 4200}, {Currency: "USD", Amount: 181550}}},
		w.fable:  {Referred: 4},
		w.rival:  {Clicks: report.Clicks{Unique: 777777, Gross: 777777}, Referred: 888888},
		w.hidden: {Clicks: report.Clicks{Unique: 777777, Gross: 777777}, Referred: 888888},
	}
	source.links = map[uint64]map[uint64]report.Clicks{w.lena: {links[0].ID: {Unique: 900, Gross: 1000}, links[1].ID: {Unique: 400, Gross: 600}}}
	source.recent = []report.Click{{OccurredAt: time.Now(), LinkID: links[1].ID, Verdict: schema.Verdict_VERDICT_UNIQUE, Country: "DE",
		Device: schema.DeviceClass_DEVICE_PHONE, ReferrerHost: "social.example"}, {OccurredAt: time.Now().Add(-time.Minute), LinkID: links[0].ID, Verdict: schema.Verdict_VERDICT_BOT}}
	hub, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.hub.Run(hub) }()
	server := httptest.NewUnstartedServer(d.handler())
	server.Config.ConnContext = withConn
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w.url = server.URL
	return w
}

func (w *world) partnership(email, program string) uint64 {
	w.t.Helper()
	p, err := w.d.c.Store.PartnerByEmail(context.Background(), email)
	if err != nil {
		w.t.Fatal(err)
	}
	_, m, err := w.d.c.Store.Membership(context.Background(), p.ID, program)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.ID
}

func (w *world) customLink(partnership uint64) (string, uint64) {
	w.t.Helper()
	links, err := w.d.c.Store.Links(context.Background(), partnership)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range links {
		if l.Kind == schema.LinkKind_LINK_CUSTOM {
			return w.d.linkView(l, nil).ID, l.ID
		}
	}
	w.t.Fatalf("partnership %d has no custom link", partnership)
	return "", 0
}

// browser is a client with cookies that follows no redirect.
func (w *world) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) signedIn(email, password string) *http.Client {
	w.t.Helper()
	c := w.browser()
	status, _, header := w.do(c, "POST", "/sign-in", url.Values{"email": {email}, "password": {password}})
	if status != http.StatusSeeOther || header.Get("Location") != "/" {
		w.t.Fatalf("sign-in of %s = %d %v, want 303 to /", email, status, header)
	}
	return c
}

func (w *world) asLena() *http.Client {
	return w.signedIn("lena@trailnotes.example", "lena's password")
}

// do sends a request; a body is a form (url.Values), JSON (string) or nil.
func (w *world) do(c *http.Client, method, path string, body any, headers ...string) (int, string, http.Header) {
	w.t.Helper()
	var reader io.Reader
	kind := ""
	switch b := body.(type) {
	case url.Values:
		reader, kind = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	case string:
		reader, kind = strings.NewReader(b), "application/json"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.url+path, reader)
	if err != nil {
		w.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := c.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "text/event-stream" {
		buf := make([]byte, 1<<16)
		n, _ := res.Body.Read(buf)
		return res.StatusCode, string(buf[:n]), res.Header
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, string(data), res.Header
}

func (w *world) api(method, path, key string, body any) (int, string, http.Header) {
	w.t.Helper()
	return w.do(w.browser(), method, "/api/v1"+path, body, "Authorization", "Bearer "+key)
}

const lenaKey, rivalKey = "wmp_lena_0123456789abcdef", "wmp_rival_0123456789abcdef"
