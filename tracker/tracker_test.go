package tracker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/segmentio/kafka-go"

	"waymark/schema"
	"waymark/tracker/links"
)

const (
	testSecret = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	testKey    = "wmc_test"
	testHost   = "go.example"
	person     = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
	day        = 24 * 60 * 60 * 1000
)

// The links of the test catalog.
const (
	linkSpring = 10 + iota
	linkSummer
	linkOff
	linkOffPlain
	linkNoCookie
	linkQuery
)

func testSecrets(t testing.TB) *schema.Secrets {
	t.Helper()
	s, err := schema.ParseSecrets([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testCatalog has a program with a fallback and cookies, and one with neither.
func testCatalog() []*schema.CatalogRecord {
	key, other := sha256.Sum256([]byte(testKey)), sha256.Sum256([]byte("wmc_other"))
	program := func(p *schema.Program) *schema.CatalogRecord {
		p.State, p.LinksEnabled, p.AllowedDestinations, p.HashWindowMs = schema.State_STATE_ACTIVE, true, []string{"shop.example"}, day
		return &schema.CatalogRecord{Version: 1, Entity: &schema.CatalogRecord_Program{Program: p}}
	}
	partnership := func(id, program uint64) *schema.CatalogRecord {
		return &schema.CatalogRecord{Version: 1, Entity: &schema.CatalogRecord_Partnership{Partnership: &schema.Partnership{
			Id: id, ProgramId: program, PartnerId: 5, PartnerKey: "friend", State: schema.State_STATE_ACTIVE}}}
	}
	link := func(id, program, partnership uint64, host, slug, destination string, state schema.State) *schema.CatalogRecord {
		return &schema.CatalogRecord{Version: 1, Entity: &schema.CatalogRecord_Link{Link: &schema.Link{
			Id: id, ProgramId: program, PartnerId: 5, PartnershipId: partnership, Kind: schema.LinkKind_LINK_CUSTOM, Host: host, Slug: slug, Destination: destination, State: state}}}
	}
	const on, off = schema.State_STATE_ACTIVE, schema.State_STATE_DISABLED
	return []*schema.CatalogRecord{
		program(&schema.Program{Id: 1, Key: "one", Hosts: []string{testHost}, FallbackUrl: "https://shop.example/over", ConversionKeyHashes: [][]byte{key[:]},
			ExcludedNetworks: []string{"203.0.113.0/24"}, OptOutParam: "nocount", Passthrough: []string{"ref"}}),
		program(&schema.Program{Id: 2, Key: "two", Hosts: []string{"two.example"}, CookiesDisabled: true, ClickIdParam: "cid", PartnerParam: "via", ConversionKeyHashes: [][]byte{other[:]}}),
		partnership(3, 1), partnership(4, 2),
		link(linkSpring, 1, 3, testHost, "spring", "https://shop.example/a", on),
		link(linkSummer, 1, 3, testHost, "summer", "https://shop.example/b", on),
		link(linkOff, 1, 3, testHost, "off", "https://shop.example/off", off),
		link(linkOffPlain, 2, 4, "two.example", "off", "https://shop.example/off", off),
		link(linkNoCookie, 2, 4, "two.example", "spring", "https://shop.example/two", on),
		link(linkQuery, 1, 3, testHost, "query", "https://shop.example/q?sid=own&a=1#top", on),
	}
}

func seedLinks(t testing.TB, fs vfs.FS, dir string) {
	t.Helper()
	table, err := links.Open(links.Config{FS: fs, Dir: dir, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range testCatalog() {
		b, err := r.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Apply(b, int64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger {
	if os.Getenv("WAYMARK_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// edge is a tracker under test.
type edge struct {
	*Tracker
	t    testing.TB
	fs   vfs.FS
	stop context.CancelFunc
	done chan error
}

func newConfig(t testing.TB, fs vfs.FS) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Listener: l, Dir: "edge", FS: fs, Secrets: testSecrets(t), TrustedProxies: []string{"127.0.0.0/8"}, JournalSegment: 1 << 20, JournalMax: 1 << 30,
		Kafka: &kafka.Client{Addr: kafka.TCP("127.0.0.1:1"), Timeout: time.Second}, Registerer: prometheus.NewRegistry(), Logger: quiet(),
		DrainTimeout: 20 * time.Millisecond, MinFree: 1,
	}
}

// startEdge runs a tracker with the test catalog and no Kafka.
func startEdge(t testing.TB, change func(*Config)) *edge {
	t.Helper()
	config := newConfig(t, vfs.NewMem())
	if change != nil {
		change(&config)
	}
	seedLinks(t, config.FS, config.Dir+"/links")
	return runEdge(t, config)
}

func runEdge(t testing.TB, config Config) *edge {
	t.Helper()
	tr, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &edge{Tracker: tr, t: t, fs: config.FS, stop: cancel, done: make(chan error, 1)}
	go func() { e.done <- tr.Run(ctx) }()
	t.Cleanup(e.close)
	for start := time.Now(); tr.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("not ready after 10 s: %v", tr.Ready())
		}
	}
	return e
}

// close stops the tracker as a SIGTERM does.
func (e *edge) close() {
	e.stop()
	if err, ok := <-e.done; ok {
		close(e.done)
		if err != nil {
			e.t.Errorf("Run = %v, want a clean stop", err)
		}
	}
}

// clicks returns the journaled clicks from the beginning.
func (e *edge) clicks() []*schema.Click {
	e.t.Helper()
	var all []*schema.Click
	for _, r := range e.records(schema.RecordClick) {
		c := &schema.Click{}
		if err := c.UnmarshalVT(r.Value); err != nil {
			e.t.Fatal(err)
		}
		if want := schema.PartitionOf((*[16]byte)(c.Visitor), 4); int(r.Partition) != want || string(r.Key) != string(c.Visitor) {
			e.t.Errorf("click of visitor %x lies in partition %d under key %x, want %d", c.Visitor, r.Partition, r.Key, want)
		}
		all = append(all, c)
	}
	return all
}

func (e *edge) records(typ schema.RecordType) []schema.Record {
	e.t.Helper()
	if err := e.Sync(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
	var all []schema.Record
	for from := schema.Position(0); from < e.journal.Synced(); {
		records, next, err := e.journal.Read(from, 1<<20)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, r := range records {
			if r.Header.Type == typ {
				r.Key, r.Value = []byte(string(r.Key)), []byte(string(r.Value))
				all = append(all, r)
			}
		}
		if next <= from {
			break
		}
		from = next
	}
	return all
}

func (e *edge) outcome(o outcome) float64 { return e.value(e.metrics.outcomes[o]) }

func (e *edge) value(c prometheus.Counter) float64 {
	e.t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		e.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// get sends a request with headers "Name: value" and returns the answer.
func (e *edge) get(method, host, path string, headers ...string) *http.Response {
	e.t.Helper()
	req, err := http.NewRequest(method, "http://"+e.Addr().String()+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("User-Agent", person)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

func TestRedirect(t *testing.T) {
	e := startEdge(t, nil)
	before := time.Now().UnixMilli()
	resp := e.get("GET", "Go.Example.:80", "/Spring/?sid=a%20b&sid2=c&utm_source=letter&wm=qr&evil=1", "X-Forwarded-For: 198.51.100.7",
		"Referer: https://Blog.Example/post", "Accept-Language: de", "Sec-Fetch-Dest: document")
	location := resp.Header.Get("Location")
	_, id, _ := strings.Cut(location, "wm_cid=")
	id, rest, _ := strings.Cut(id, "&")
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(location, "https://shop.example/a?wm_cid=") || rest != "sid=a%20b&sid2=c&utm_source=letter" {
		t.Fatalf("got %s to %q", resp.Status, location)
	}
	for name, want := range map[string]string{"Cache-Control": "private, no-store", "Referrer-Policy": "strict-origin-when-cross-origin", "X-Robots-Tag": "noindex", "Server": "", "Content-Length": "0"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	cookie := resp.Cookies()
	if len(cookie) != 1 || cookie[0].Name != "wm_v" || !cookie[0].HttpOnly || cookie[0].Secure || cookie[0].SameSite != http.SameSiteLaxMode || cookie[0].MaxAge < 365*24*3600 {
		t.Errorf("Set-Cookie %v", resp.Header["Set-Cookie"])
	}
	clicks := e.clicks()
	if len(clicks) != 1 {
		t.Fatalf("%d clicks were journaled, want 1", len(clicks))
	}
	c := clicks[0]
	raw, err := e.clickIDs.Parse([]byte(id))
	if err != nil || string(raw[:]) != string(c.ClickId) || raw.Link() != linkSpring || raw.Edge() != e.Edge() || raw.TimeMillis() != c.OccurredMs {
		t.Errorf("click id %q (%v) of link %d at %d does not fit its click", id, err, raw.Link(), raw.TimeMillis())
	}
	if c.OccurredMs < before || c.OccurredMs != c.ReceivedMs || c.OccurredMs > time.Now().UnixMilli() {
		t.Errorf("times %d, %d; want now", c.OccurredMs, c.ReceivedMs)
	}
	if c.ProgramId != 1 || c.PartnerId != 5 || c.PartnershipId != 3 || c.LinkId != linkSpring || c.EdgeVerdict != schema.Verdict_VERDICT_UNIQUE || !c.EdgeLinkUnique || c.Signals != 0 ||
		c.Identity != schema.Identity_IDENTITY_HASH || c.WindowMs != day || c.Device != schema.DeviceClass_DEVICE_DESKTOP || c.Browser != schema.Browser_BROWSER_CHROME ||
		c.Os != schema.OperatingSystem_OS_LINUX || string(c.ReferrerHost) != "blog.example" || string(c.UtmSource) != "letter" || c.Trigger != schema.Trigger_TRIGGER_QR || string(c.UserAgent) != person {
		t.Errorf("journaled %v", c)
	}
	if len(c.SubIds) != 3 || string(c.SubIds[0]) != "a b" || len(c.SubIds[1]) != 0 || string(c.SubIds[2]) != "c" {
		t.Errorf("sub ids %q, want a b, nothing, c", c.SubIds)
	}
	if resp = e.get("HEAD", testHost, "/query?sid=a&ref=r"); resp.StatusCode != http.StatusFound || !strings.HasPrefix(resp.Header.Get("Location"), "https://shop.example/q?sid=own&a=1&wm_cid=") ||
		!strings.HasSuffix(resp.Header.Get("Location"), "&ref=r#top") || len(resp.Cookies()) != 0 {
		t.Errorf("HEAD = %s to %q with %v", resp.Status, resp.Header.Get("Location"), resp.Cookies())
	}
	if resp = e.get("GET", "two.example", "/spring"); !strings.HasPrefix(resp.Header.Get("Location"), "https://shop.example/two?cid=") || !strings.HasSuffix(resp.Header.Get("Location"), "&via=friend") || len(resp.Cookies()) != 0 {
		t.Errorf("the program with its own names and no cookies: %q with %v", resp.Header.Get("Location"), resp.Cookies())
	}
	if resp = e.get("GET", testHost, "/spring", "X-Forwarded-For: 198.51.100.8", "X-Forwarded-Proto: https"); len(resp.Cookies()) != 1 || !resp.Cookies()[0].Secure {
		t.Errorf("behind https the cookie is %v, want Secure", resp.Cookies())
	}
}

func TestVisitors(t *testing.T) {
	e := startEdge(t, nil)
	address := "X-Forwarded-For: 198.51.100.7"
	first := e.get("GET", testHost, "/spring", address)
	cookie := "Cookie: a=b; " + strings.SplitN(first.Header.Get("Set-Cookie"), ";", 2)[0]
	e.get("GET", testHost, "/spring", address)                                             // the same hash
	e.get("GET", testHost, "/summer", address)                                             // another link of the partnership
	e.get("GET", testHost, "/summer", cookie, "X-Forwarded-For: 192.0.2.99")               // the cookie, elsewhere
	e.get("GET", testHost, "/spring", cookie, "Sec-GPC: 1", "X-Forwarded-For: 192.0.2.98") // no cookies wanted: somebody new
	e.get("GET", testHost, "/spring", "Cookie: wm_v=forged", address)
	e.get("GET", "two.example", "/spring", cookie, address) // another program
	const unique, repeat = schema.Verdict_VERDICT_UNIQUE, schema.Verdict_VERDICT_REPEAT
	const hash, known = schema.Identity_IDENTITY_HASH, schema.Identity_IDENTITY_COOKIE
	want := []struct {
		verdict    schema.Verdict
		linkUnique bool
		identity   schema.Identity
		window     int64
		same       bool // the visitor of the first click
	}{
		{unique, true, hash, day, true}, {repeat, false, hash, day, true}, {repeat, true, hash, day, true}, {repeat, false, known, 0, true},
		{unique, true, hash, day, false}, {repeat, false, hash, day, true}, {unique, true, hash, day, false},
	}
	clicks := e.clicks()
	if len(clicks) != len(want) {
		t.Fatalf("%d clicks were journaled, want %d", len(clicks), len(want))
	}
	for i, w := range want {
		c := clicks[i]
		same := string(c.Visitor) == string(clicks[0].Visitor)
		if c.EdgeVerdict != w.verdict || c.EdgeLinkUnique != w.linkUnique || c.Identity != w.identity || c.WindowMs != w.window || same != w.same {
			t.Errorf("click %d: %v, link unique %v, %v, window %d, same visitor %v; want %+v", i, c.EdgeVerdict, c.EdgeLinkUnique, c.Identity, c.WindowMs, same, w)
		}
	}
	if e.outcome(outcome(unique)) != 3 || e.outcome(outcome(repeat)) != 4 {
		t.Errorf("metrics say %v unique, %v repeat; want 3, 4", e.outcome(1), e.outcome(2))
	}
}

func TestStopAndRestart(t *testing.T) {
	e := startEdge(t, nil)
	for i := range 20 {
		e.get("GET", testHost, "/spring", fmt.Sprintf("X-Forwarded-For: 198.51.100.%d", i%10))
	}
	edgeID := e.Edge()
	e.close()
	if _, err := net.DialTimeout("tcp", e.Addr().String(), time.Second); err == nil {
		t.Error("after the stop the address still answers")
	}
	again := runEdge(t, newConfig(t, e.fs))
	if again.Edge() != edgeID {
		t.Errorf("after a restart the edge is %v, before %v", again.Edge(), edgeID)
	}
	again.get("GET", testHost, "/spring", "X-Forwarded-For: 198.51.100.1")
	clicks := again.clicks()
	if n := len(clicks); n != 21 || clicks[20].EdgeVerdict != schema.Verdict_VERDICT_REPEAT {
		t.Errorf("after a restart there are %d clicks, the last %v; want 21, a repeat", n, clicks[n-1].EdgeVerdict)
	}
}

func TestConfigErrorsNameTheFlag(t *testing.T) {
	f := func(flag string, change func(*Config)) {
		t.Helper()
		config := newConfig(t, vfs.NewMem())
		defer config.Listener.Close()
		change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want an error that names %s", err, flag)
		}
		if _, err := New(t.Context(), config); err == nil {
			t.Errorf("New with a bad %s: want an error", flag)
		}
	}
	f("--tracker-listen", func(c *Config) { c.Listener = nil })
	f("--data", func(c *Config) { c.Dir = "" })
	f("--secrets-file", func(c *Config) { c.Secrets = nil })
	f("--durability", func(c *Config) { c.Durability = "maybe" })
	f("--journal-max", func(c *Config) { c.JournalMax = c.JournalSegment })
	f("--trusted-proxies", func(c *Config) { c.TrustedProxies = []string{"everybody"} })
	f("--clicks-partitions", func(c *Config) { c.ClicksPartitions = -1 })
	f("--read-timeout", func(c *Config) { c.ReadTimeout = -1 })
	if err := (Config{}).Validate(); err == nil {
		t.Error("an empty Config is valid")
	}
	if _, err := New(t.Context(), func() Config { c := newConfig(t, vfs.NewMem()); c.GeoIP = "/nowhere.mmdb"; return c }()); err == nil || !strings.Contains(err.Error(), "--geoip") || errors.Is(err, net.ErrClosed) {
		t.Errorf("a missing GeoIP file: %v, want an error that names --geoip", err)
	}
}
