package scenario

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPresets(t *testing.T) {
	want := []string{"bot-flood", "campaign", "mixed-day", "scan", "smoke", "viral-link"}
	if diff := cmp.Diff(want, Presets()); diff != "" {
		t.Errorf("Presets() (-want +got):\n%s", diff)
	}
	for _, name := range Presets() {
		s, err := Read(name)
		if err != nil {
			t.Errorf("Read(%q): %v", name, err)
		} else if s.Name != name {
			t.Errorf("Read(%q) has the name %q", name, s.Name)
		}
	}
}

const good = `name: mine
load:
  phases:
    - {rate: 100, duration: 10s}
mix:
  people: 0.9
  bots: 0.1
visitors:
  repeat: 0.5
  countries:
    US: 0.5
    DE: 0.5
conversions:
  signup: 0.1
`

func TestBadFiles(t *testing.T) {
	f := func(old, changed, want string) {
		t.Helper()
		b := strings.Replace(good, old, changed, 1)
		if b == good && old != "" {
			t.Fatalf("%q is not in the file", old)
		}
		_, err := Parse("mine.yaml", []byte(b))
		if want == "" {
			if err != nil {
				t.Errorf("%q for %q: %v", changed, old, err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "mine.yaml: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q for %q: %v, want one line with %q", changed, old, err, want)
		}
	}
	f("", "", "")
	f("  bots: 0.1", "  bots: 0.1\n  botz: 0", `line 8: unknown field "botz"`)
	f("repeat: 0.5", "repeats: 0.5", `line 9: unknown field "repeats"`)
	f("bots: 0.1", "bots: 0.2", "line 5: the shares of mix add up to 1.1, want 1")
	f("bots: 0.1", "bots: -0.1", "line 5: mix: a share cannot be -0.1")
	f("US: 0.5", "US: 0.4", "line 10: the shares of visitors.countries add up to 0.9, want 1")
	f("US: 0.5", "XX: 0.5", `line 11: visitors.countries: "XX" is not one of`)
	f("repeat: 0.5", "repeat: 1.5", "line 9: visitors.repeat must be a share")
	f("signup: 0.1", "signup: .nan", "line 14: conversions.signup must be a share")
	f("signup: 0.1", "signup: 0.1\n  delay: {min: 5s, max: 1s}", "line 15: conversions.delay must be a range")
	f("signup: 0.1", "signup: 0.1\n  amount: {min: 5, max: 10, currency: dollars}", `got "dollars"`)
	f("rate: 100, ", "", "line 3: phase 1 must have exactly one of")
	f("rate: 100, ", "rate: 100, steps: [1], ", "line 3: phase 1 must have exactly one of")
	f("duration: 10s", "duration: soon", `line 4: "soon" is no duration such as`)
	f("duration: 10s", "duration: 0s", "line 3: phase 1 needs a duration")
	f("rate: 100", "rate: fast", "line 4: ")
	f("name: mine", "about: nameless", "name is missing")
	f("load:", "links: {per_partner: 51}\nload:", "line 2: links.per_partner must be 1 to 50")
	f("load:", "load:\n  arrivals: fifo", `line 3: load.arrivals must be poisson or even, got "fifo"`)
	f("repeat: 0.5", "addresses: guess", "line 9: visitors.addresses must be")
	f("name: mine", "name: [", "line ")
	if _, err := Parse("mine.yaml", nil); err == nil {
		t.Error("an empty file was read")
	}
	if _, err := Read("no-such-thing"); err == nil || !strings.Contains(err.Error(), "smoke") {
		t.Errorf("Read of an unknown name: %v, want the presets named", err)
	}
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(file); err != nil || s.Name != "mine" {
		t.Errorf("Read(file) = %v, %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, name := range Presets() {
		b, _ := Preset(name)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse("x", b)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
			return
		}
		if s.LinkCount() > 1000 || s.Visitors.Pool > 1000 {
			return
		}
		src := NewSource(NewSite(s, Target{Host: "h"}), 0, 1)
		for range 10 {
			src.Next(nil)
		}
	})
}

func TestAgents(t *testing.T) {
	seen, sum := map[string]bool{}, 0.0
	for _, a := range agents() {
		seen[a.name] = true
		sum += a.weight
		if a.weight <= 0 || len(a.name) > 512 || !strings.HasPrefix(a.name, "Mozilla/5.0 (") {
			t.Errorf("agent %q, weight %v", a.name, a.weight)
		}
	}
	if len(seen) < 200 {
		t.Errorf("%d different agents, want at least 200", len(seen))
	}
	if sum < 0.9e6 || sum > 1e6 {
		t.Errorf("the agents have a share of %.3f of what was seen, want 0.9 to 1", sum/1e6)
	}
}

func TestAlias(t *testing.T) {
	weights := []float64{5, 0, 1, 0.5, 3.5}
	a := newAlias(weights)
	r := rand.NewPCG(1, 2)
	var got [5]float64
	const n = 1_000_000
	for range n {
		got[a.draw(r.Uint64())]++
	}
	for i, w := range weights {
		if want := w / 10 * n; math.Abs(got[i]-want) > 5*math.Sqrt(want)+1 {
			t.Errorf("thing %d of weight %v was drawn %v times, want %v", i, w, got[i], want)
		}
	}
}

// TestVisitorsDiffer looks for two visitors that a tracker would take for one.
func TestVisitorsDiffer(t *testing.T) {
	s, err := Read("campaign")
	if err != nil {
		t.Fatal(err)
	}
	p := newPopulation(s)
	seen := make(map[netip.Addr]uint64)
	v6, cookies := 0, 0
	const n = 1_000_000 // more than some countries' networks hold
	for number := range uint64(n) {
		v := p.visitor(number)
		a := p.address(v, 0)
		if other, ok := seen[a]; ok {
			t.Fatalf("visitors %d and %d both come from %v", other, number, a)
		}
		seen[a] = number
		c := p.list[v.country]
		if a.Is4() && !c.v4.Contains(a) || !a.Is4() && !c.v6.Contains(a) {
			t.Fatalf("visitor %d of %s comes from %v", number, c.code, a)
		}
		if a.Is6() {
			v6++
			as16 := a.As16()
			network := netip.AddrFrom16([16]byte(append(append([]byte(nil), as16[:8]...), make([]byte, 8)...)))
			if other, ok := seen[network]; ok {
				t.Fatalf("visitors %d and %d share the network of %v", other, number, a)
			}
			seen[network] = number
		}
		if v.cookies {
			cookies++
		}
		if v.roaming && (p.address(v, 7) == a || p.address(v, 7) == p.address(v, 8)) {
			t.Fatalf("visitor %d moved and kept its address", number)
		}
	}
	if share := float64(cookies) / n; math.Abs(share-0.75) > 0.01 {
		t.Errorf("%.3f of the visitors keep cookies, want 0.75", share)
	}
	if share := float64(v6) / n; share < 0.39 {
		t.Errorf("%.3f of the visitors have IPv6, want at least 0.4", share)
	}
}

// model is a tracker as its users would describe it: it reads the requests' bytes and counts with maps.
type model struct {
	cookies  map[string]string // cookie: identity
	visitors map[string]bool   // identity, and partner or link
	counts   map[string]*Counts
	referred map[string]bool
	sold     int64
	links    int
}

func newModel(perPartner int) *model {
	return &model{map[string]string{}, map[string]bool{}, map[string]*Counts{}, map[string]bool{}, 0, perPartner}
}

func (m *model) serve(t *testing.T, b []byte) *Answer {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatalf("the request %q cannot be read: %v", b, err)
	}
	if r.Host != "go.test" {
		t.Fatalf("the request %q is for %q", b, r.Host)
	}
	if r.Method == "POST" {
		return m.convert(t, r)
	}
	if r.Header.Get("Sec-Purpose") == "prefetch" {
		return &Answer{Answered: true, Status: 503}
	}
	var link int
	slug, ok := strings.CutPrefix(r.URL.Path, "/bench-")
	if !ok {
		return &Answer{Answered: true, Status: 404}
	}
	if _, err := fmt.Sscanf(fmt.Sprint(parse36(slug)), "%d", &link); err != nil {
		t.Fatal(err)
	}
	places := []string{PartnerKey(link / m.links), Slug(link)}
	for _, at := range places {
		if m.counts[at] == nil {
			m.counts[at] = &Counts{Invalid: map[string]int64{}}
		}
		m.counts[at].Gross++
	}
	answer := &Answer{Answered: true, Status: 302, Location: fmt.Appendf(nil, "https://shop.test/?x=1&wm_cid=%s.%d#top", places[0], m.counts[places[0]].Gross)}
	agent := r.Header.Get("User-Agent")
	invalid := ""
	if r.Method == "HEAD" {
		invalid = "head"
	} else if !strings.HasPrefix(agent, "Mozilla/5.0 (") || strings.Contains(agent, "compatible;") {
		invalid = "bot"
	}
	if invalid != "" {
		m.counts[places[0]].Invalid[invalid]++
		m.counts[places[1]].Invalid[invalid]++
		return answer
	}
	who, known := m.cookies[r.Header.Get("Cookie")]
	if !known {
		who = r.Header.Get("X-Forwarded-For") + agent + r.Header.Get("Accept-Language")
		cookie := fmt.Sprintf("wm_v=%d", len(m.cookies))
		m.cookies[cookie] = who
		answer.Cookie = []byte(cookie + "; Path=/; HttpOnly")
	}
	for _, at := range places {
		if m.visitors[who+at] {
			m.counts[at].Repeat++
		} else {
			m.visitors[who+at] = true
			m.counts[at].Unique++
		}
	}
	return answer
}

func parse36(s string) (n int) {
	for _, c := range s {
		n = n*36 + strings.IndexRune("0123456789abcdefghijklmnopqrstuvwxyz", c)
	}
	return n
}

func (m *model) convert(t *testing.T, r *http.Request) *Answer {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Type           string
		ClickID        string `json:"click_id"`
		CustomerKey    string `json:"customer_key"`
		IdempotencyKey string `json:"idempotency_key"`
		Amount         int64
	}
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatalf("conversion %q: %v", body, err)
	}
	if r.Header.Get("Authorization") != "Bearer key" || c.CustomerKey == "" || c.IdempotencyKey == "" {
		t.Fatalf("conversion %q, header %v", body, r.Header)
	}
	switch c.Type {
	case "signup":
		if m.referred[c.CustomerKey] || !strings.HasPrefix(c.ClickID, "bench-partner-") {
			t.Fatalf("conversion %q: signed up before, or no click", body)
		}
		m.referred[c.CustomerKey] = true
	case "sale":
		if !m.referred[c.CustomerKey] || c.Amount < 900 || c.Amount > 19900 {
			t.Fatalf("conversion %q: not signed up, or a bad amount", body)
		}
		m.sold += c.Amount
	}
	return &Answer{Answered: true, Status: 202}
}

// play runs a scenario against the model. Answers come late, so that cookies and conversions meet their moment by chance.
func play(t *testing.T, s *Scenario, seed uint64, clicks, workers int, spoil func(*rand.Rand, *Answer) bool) (*Truth, *model) {
	t.Helper()
	site, m := NewSite(s, Target{Host: "go.test", ConversionsKey: "key", Run: "r"}), newModel(s.Links.PerPartner)
	random := rand.New(rand.NewPCG(seed, 1))
	var sources []*Source
	for w := range workers {
		src := NewSource(site, w, workers)
		sources = append(sources, src)
		type flight struct {
			sent   Sent
			answer *Answer
			later  bool
		}
		var under []flight
		land := func() {
			i := random.IntN(len(under))
			f := under[i]
			under[i] = under[len(under)-1]
			under = under[:len(under)-1]
			if f.later {
				src.DoneLater(f.sent, f.answer)
			} else {
				src.Done(f.sent, f.answer)
			}
		}
		for n := range clicks {
			src.Now(time.Duration(n) * time.Millisecond)
			b, sent := src.Next(nil)
			a := &Answer{}
			if !spoil(random, a) {
				a = m.serve(t, b)
				if a.Status != sent.Status {
					t.Fatalf("%q was answered with %d, the source expects %d", b, a.Status, sent.Status)
				}
			} else if !a.Never && random.IntN(2) == 0 {
				m.serve(t, b) // counted, and the answer was lost
			}
			under = append(under, flight{sent, a, false})
			for at, ok := src.LaterAt(); ok && at <= time.Duration(n)*time.Millisecond; at, ok = src.LaterAt() {
				b, sent := src.NextLater(nil)
				under = append(under, flight{sent, m.serve(t, b), true})
			}
			for len(under) > random.IntN(64) {
				land()
			}
		}
		for len(under) > 0 {
			land()
		}
	}
	return site.Truth(sources), m
}

func scenarioForTruth(t *testing.T) *Scenario {
	t.Helper()
	s, err := Parse("truth", []byte(`name: truth
load: {phases: [{rate: 1, duration: 1s}]}
links: {partners: 4, per_partner: 6, zipf: 1.2, hot: 0.1}
mix: {people: 0.7, bots: 0.1, head: 0.1, prefetch: 0.05, unknown: 0.05}
visitors: {repeat: 0.6, pool: 500, cookies: 0.7, roaming: 0.5, ipv6: 0.4, countries: {US: 0.5, AT: 0.5}}
conversions: {signup: 0.1, sale: 0.5, delay: {min: 10ms, max: 300ms}}
`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTruth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := scenarioForTruth(t)
	for workers := 1; workers <= 3; workers++ {
		truth, m := play(t, s, seed, 20_000, workers, func(*rand.Rand, *Answer) bool { return false })
		var referred, sold int64
		for _, p := range truth.Partners {
			if diff := cmp.Diff(*m.counts[p.Key], p.Counts); diff != "" {
				t.Errorf("seed %d, %d workers: %s (-model +truth):\n%s", seed, workers, p.Key, diff)
			}
			for _, l := range p.Links {
				if diff := cmp.Diff(*m.counts[l.Slug], l.Counts); diff != "" {
					t.Errorf("seed %d, %d workers: %s (-model +truth):\n%s", seed, workers, l.Slug, diff)
				}
			}
			referred += p.Referred
			sold += p.Sold
		}
		if referred != int64(len(m.referred)) || sold != m.sold || referred < 100 || sold == 0 {
			t.Errorf("seed %d: the truth is %d referred, %d sold; the model has %d and %d", seed, referred, sold, len(m.referred), m.sold)
		}
		if truth.Clicks.Repeat == 0 || truth.Clicks.Invalid["bot"] == 0 || truth.Unsure != 0 || !truth.Complete {
			t.Errorf("seed %d: truth %+v", seed, truth.Clicks)
		}
	}
}

// TestTruthWithLosses loses requests and answers: what the model counted must lie within the truth's bounds.
func TestTruthWithLosses(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := scenarioForTruth(t)
	s.Conversions.Signup = 0
	truth, m := play(t, s, seed, 20_000, 2, func(r *rand.Rand, a *Answer) bool {
		n := r.IntN(20)
		a.Never = n == 0
		return n < 2
	})
	within := func(at string, c Counts) {
		t.Helper()
		got := m.counts[at]
		if got.Gross < c.Gross || got.Gross > c.Gross+c.UnsureGross || got.Unique < c.Unique || got.Unique > c.Unique+c.UnsureUnique {
			t.Errorf("seed %d: %s counted %+v, which the truth %+v does not allow", seed, at, *got, c)
		}
		if c.UnsureGross > c.Gross/5 || c.UnsureUnique > c.UnsureGross {
			t.Errorf("seed %d: the truth of %s is too wide: %+v", seed, at, c)
		}
	}
	for _, p := range truth.Partners {
		within(p.Key, p.Counts)
		for _, l := range p.Links {
			within(l.Slug, l.Counts)
		}
	}
	if truth.Unsure == 0 {
		t.Error("nothing is unsure although answers were lost")
	}
}

func TestRequestsAreSeeded(t *testing.T) {
	all := func(seed uint64) string {
		s := scenarioForTruth(t)
		s.Seed = seed
		var b []byte
		for w := range 2 {
			src := NewSource(NewSite(s, Target{Host: "go.test"}), w, 2)
			for range 1000 {
				b, _ = src.Next(b)
			}
		}
		return string(b)
	}
	if first, again := all(1), all(1); first != again {
		t.Error("the same seed gave other requests")
	}
	if all(1) == all(2) {
		t.Error("two seeds gave the same requests")
	}
}

func TestMixAndZipf(t *testing.T) {
	s, err := Read("campaign")
	if err != nil {
		t.Fatal(err)
	}
	d := newDrawer(s, 0, 1)
	const n = 200_000
	var kinds [kinds]float64
	links := map[int32]float64{}
	for range n {
		c := d.next()
		kinds[c.Kind]++
		links[c.Link]++
	}
	for k, share := range []float64{s.Mix.People, s.Mix.Bots, s.Mix.Head, s.Mix.Prefetch, s.Mix.Unknown} {
		if math.Abs(kinds[k]/n-share) > 0.005 {
			t.Errorf("%v have a share of %.4f, want %.4f", Kind(k), kinds[k]/n, share)
		}
	}
	weights := zipf(s.LinkCount(), s.Links.Zipf)
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	for rank := range 5 {
		want := weights[rank] / sum * n * (1 - s.Mix.Unknown)
		if got := links[d.order[rank]]; math.Abs(got-want) > 6*math.Sqrt(want) {
			t.Errorf("the link of rank %d got %v clicks, want %.0f", rank, got, want)
		}
	}
}

func TestProxyProtocol(t *testing.T) {
	s := scenarioForTruth(t)
	s.Visitors.Addresses = Proxy
	src := NewSource(NewSite(s, Target{Host: "go.test"}), 0, 1)
	for range 100 {
		b, _ := src.Next(nil)
		line, rest, ok := strings.Cut(string(b), "\r\n")
		f := strings.Fields(line)
		if !ok || len(f) != 6 || f[0] != "PROXY" || f[1] != "TCP4" && f[1] != "TCP6" || !strings.Contains(rest, "\r\nConnection: close\r\n") || strings.Contains(rest, "Forwarded") {
			t.Fatalf("request %q", b)
		}
		if a, err := netip.ParseAddr(f[2]); err != nil || a.Is4() != (f[1] == "TCP4") {
			t.Fatalf("PROXY line %q: %v", line, err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	s, err := Read("campaign")
	if err != nil {
		b.Fatal(err)
	}
	src := NewSource(NewSite(s, Target{Host: "go.test", ConversionsKey: "k"}), 0, 1)
	buf := make([]byte, 0, 4096)
	answer := &Answer{Answered: true, Status: 302, Location: []byte("https://shop.test/?wm_cid=abc"), Cookie: []byte("wm_v=0123456789012345678901234567890123456789abcd; Path=/")}
	b.ReportAllocs()
	for b.Loop() {
		var sent Sent
		buf, sent = src.Next(buf[:0])
		answer.Status = sent.Status
		src.Done(sent, answer)
	}
	b.SetBytes(int64(len(buf)))
}
