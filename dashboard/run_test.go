package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"waymark/aggregator/broker"
	"waymark/aggregator/warehouse"
	"waymark/dashboard"
	"waymark/dashboard/store"
	"waymark/schema"
	"waymark/schema/ddl"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
)

const oneProgram = `programs:
  - key: summit
    name: Summit Cloud
    hosts: [go.summit.example]
    allowed_destinations: [shop.example]
    features: {links: on}
    timezone: Europe/Paris
    groups: [{key: all, name: All, offers: [20 % of every payment], default_links: [{title: Home page, destination: "https://shop.example/"}]}]
    partners: [{email: one@partner.example, name: Partner One, group: all, key: one, password: correct horse, api_keys: [wmp_one_0123456789abcdef]}]
`

// process is a running dashboard on a real broker and a real engine.
type process struct {
	t           *testing.T
	d           *dashboard.Dashboard
	conn        driver.Conn
	partnership uint64
	client      *http.Client
	stop        func() error
}

func startProcess(t *testing.T) *process {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	embedded, err := broker.OpenEmbedded(broker.EmbeddedConfig{Dir: filepath.Join(dir, "kafka")})
	check(err)
	t.Cleanup(func() { embedded.Close() })
	connection, err := broker.Connect(broker.Config{Addresses: []string{embedded.Addr()}})
	check(err)
	t.Cleanup(func() { connection.Close() })
	check(broker.EnsureTopics(ctx, connection.Client, broker.Topics(1, broker.Partitions{Clicks: 4, Conversions: 2}, 1, false)))
	library := os.Getenv("WAYMARK_ENGINE")
	if library == "" {
		library = warehouse.DefaultLibrary()
	}
	engine, err := warehouse.OpenEngine(warehouse.EngineConfig{Library: library, Dir: filepath.Join(dir, "clickhouse")})
	check(err)
	t.Cleanup(func() { engine.Close() })
	conn, err := warehouse.Open(ctx, warehouse.Options{Engine: engine})
	check(err)
	t.Cleanup(func() { conn.Close() })
	s, err := store.Open(ctx, store.Config{URL: filepath.Join(dir, "waymark.db")})
	check(err)
	t.Cleanup(func() { s.Close() })
	secrets, err := schema.ParseSecrets([]byte(schema.FormatSecret(1, &[32]byte{1})))
	check(err)

	p := &process{t: t, conn: conn}
	p.d, err = dashboard.New(ctx, dashboard.Config{Listen: "127.0.0.1:0", Store: s, ClickHouse: conn, Kafka: connection.Client, Secrets: secrets,
		Registerer: prometheus.NewRegistry(), CheckSchema: func(ctx context.Context) error { return warehouse.Check(ctx, conn, ddl.Files) }})
	check(err)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.d.Run(running) }()
	p.stop = func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(10 * time.Second):
			return errors.New("the dashboard did not stop within 10 s")
		}
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	rec := httptest.NewRecorder()
	p.d.AdminHandler().ServeHTTP(rec, httptest.NewRequest("POST", "/v1/apply", strings.NewReader(oneProgram)))
	if rec.Code != 200 {
		t.Fatalf("POST /v1/apply = %d %s", rec.Code, rec.Body)
	}
	partner, err := s.PartnerByEmail(ctx, "one@partner.example")
	check(err)
	_, m, err := s.Membership(ctx, partner.ID, "summit")
	check(err)
	p.partnership = m.ID
	jar, err := cookiejar.New(nil)
	check(err)
	p.client = &http.Client{Jar: jar}
	return p
}

func (p *process) get(path string, headers ...string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest("GET", p.d.URL()+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func insertRow[T any](p *process, table string, row T) {
	p.t.Helper()
	batch, err := p.conn.PrepareBatch(context.Background(), "INSERT INTO "+table)
	if err == nil {
		if err = batch.AppendStruct(&row); err == nil {
			err = batch.Send()
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) within(limit time.Duration, what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// The dashboard starts before ClickHouse has its tables, serves, and fills in when they come; an open page follows a
// click; it stops in time with the page still open.
func TestTheProcessFromBeforeItsTablesToItsEnd(t *testing.T) {
	p := startProcess(t)
	p.within(5*time.Second, "not ready without tables", func() bool { return p.d.Ready() != nil })
	res, err := p.client.PostForm(p.d.URL()+"/sign-in", url.Values{"email": {"one@partner.example"}, "password": {"correct horse"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if status, body := p.get("/programs/summit"); status != 200 || !strings.Contains(body, "cannot be read at the moment") {
		t.Errorf("the summary without tables = %d, want 200 with a notice", status)
	}
	if err := warehouse.Migrate(t.Context(), p.conn, ddl.Files); err != nil {
		t.Fatal(err)
	}
	p.within(10*time.Second, "ready with tables", func() bool { return p.d.Ready() == nil })
	p.within(10*time.Second, "the catalog is sent", func() bool { return p.d.CatalogSent() > 0 })

	now := time.Now().UTC().Truncate(time.Millisecond)
	const log = "waymark.clicks.1"
	total := func(v, unique uint64) {
		counts := make([]uint64, schema.NumVerdicts)
		counts[schema.Verdict_VERDICT_UNIQUE] = unique
		row := schema.TotalRow{PartnershipID: p.partnership, Kind: uint8(schema.TotalAll), Quarter: time.UnixMilli(schema.Quarter(now.UnixMilli())).UTC(), Log: log, V: v, Clicks: counts}
		insertRow(p, "clicks", schema.ClickRow{Log: log, Offset: v - 1, PartnershipID: p.partnership, OccurredAt: now, ReceivedAt: now, Verdict: 1, EdgeVerdict: 1,
			ClickID: strings.Repeat("x", 39), Visitor: strings.Repeat("v", 16), SubIDs: []string{}})
		insertRow(p, "totals", row)
		row.Kind, row.Value = uint8(schema.TotalLink), "1"
		insertRow(p, "totals", row)
		insertRow(p, "progress", schema.ProgressRow{Log: log, V: v, TickEdges: []uint64{7}, TickMillis: []int64{now.UnixMilli()}, WrittenAt: now})
	}
	total(1, 4)
	status, body := p.get("/api/v1/programs/summit/summary", "Authorization", "Bearer wmp_one_0123456789abcdef")
	want := fmt.Sprintf(`{"clicks":4,"gross":4,"repeat":0,"invalid":{},"referred":0,"sold":[],"earned":null,"pending":null,"data_as_of":%q}`, now.Format("2006-01-02T15:04:05.000Z07:00"))
	if status != 200 || strings.TrimSpace(body) != want {
		t.Errorf("summary = %d %s\nwant %s", status, body, want)
	}

	r, err := http.NewRequest("GET", p.d.URL()+"/programs/summit/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	var text atomic.Value
	text.Store("")
	streamEnded := make(chan struct{})
	go func() {
		defer close(streamEnded)
		buf := make([]byte, 1<<16)
		for {
			n, err := stream.Body.Read(buf)
			text.Store(text.Load().(string) + string(buf[:n]))
			if err != nil {
				return
			}
		}
	}()
	holds := func(s string) func() bool {
		return func() bool { return strings.Contains(text.Load().(string), s) }
	}
	p.within(5*time.Second, "the stream's first event", holds(`<span class="value">4</span>`))
	total(2, 4321)
	p.within(time.Second, "the stream follows a click", holds(`<span class="value">4,321</span>`))

	begin := time.Now()
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	<-streamEnded
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping with an open page took %s", took)
	}
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	f := func(change func(*dashboard.Config), flag string) {
		t.Helper()
		c := dashboard.Config{Listen: "127.0.0.1:0"}
		change(&c)
		if _, err := dashboard.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("New: %v, want an error that names %s", err, flag)
		}
	}
	f(func(c *dashboard.Config) { c.PublicURL = "partners.example" }, "--public-url")
	f(func(c *dashboard.Config) { c.PublicURL = "https://partners.example/x" }, "--public-url")
	f(func(c *dashboard.Config) { c.LinkScheme = "ftp" }, "--link-scheme")
	f(func(c *dashboard.Config) { c.LinkPort = 70000 }, "--link-port")
	f(func(c *dashboard.Config) { c.SessionLifetime = time.Second }, "--session-lifetime")
	f(func(c *dashboard.Config) { c.APIRate = -1 }, "--api-rate")
}
