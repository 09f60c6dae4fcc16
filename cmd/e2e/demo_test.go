package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDemo is the way of a person who has just cloned the project: one command, a click, the number changes.
func TestDemo(t *testing.T) {
	data := t.TempDir()
	args := upArgs(t, data, "--demo")
	sys := start(t, args...)
	t.Logf("first start took %v", sys.took.Round(time.Millisecond))
	document(t, sys)
	p := sys.partner()
	s := p.summary(t)
	if *s.Gross == 0 || *s.Clicks == 0 || *s.Repeat == 0 || s.Invalid["bot"] == 0 || s.Invalid["head"] == 0 || s.Referred == 0 || s.sold("USD") == 0 {
		t.Errorf("ready, but the demo's numbers are not counted: %+v", s)
	}
	if s.Earned != nil || s.Pending != nil {
		t.Errorf("earned = %v, pending = %v; want null", s.Earned, s.Pending)
	}
	if later := settled(t, p); *later.Gross != *s.Gross || later.Referred != s.Referred || later.sold("USD") != s.sold("USD") {
		t.Errorf("it said it was ready, and then the numbers went on to change: %+v, then %+v", s, later)
	}
	checkLinksAddUp(t, p)

	t.Run("click", func(t *testing.T) { clickCounts(t, p, sys.Links[1]) })
	t.Run("conversions", func(t *testing.T) { conversionsCount(t, sys) })
	t.Run("links", func(t *testing.T) { linksWork(t, sys) })
	t.Run("problems", func(t *testing.T) { problems(t, sys) })
	t.Run("pages", func(t *testing.T) { pages(t, sys) })
	t.Run("browser", func(t *testing.T) { browser(t, sys) })

	before := settled(t, p)
	sys.stop()
	again := start(t, args...)
	t.Logf("warm start took %v", again.took.Round(time.Millisecond))
	after := again.partner().summary(t)
	if *after.Gross != *before.Gross || *after.Clicks != *before.Clicks || after.Referred != before.Referred || after.sold("USD") != before.sold("USD") {
		t.Errorf("after a restart the summary is %+v, before it was %+v", after, before)
	}
	p = again.partner()
	t.Run("click after restart", func(t *testing.T) { clickCounts(t, p, again.Links[0]) })
}

func checkLinksAddUp(t *testing.T, p partner) {
	t.Helper()
	var gross int64
	for _, l := range p.links(t) {
		gross += l.Gross
	}
	if s := p.summary(t); gross != *s.Gross {
		t.Errorf("the links' gross adds up to %d, the summary says %d", gross, *s.Gross)
	}
}

// clickCounts clicks a link as a new visitor, again as the same one, and as a robot.
func clickCounts(t *testing.T, p partner, url string) {
	before := p.summary(t)
	agent := person + fmt.Sprintf(" visitor/%d", time.Now().UnixNano())
	location := mustClick(t, url, agent)
	if !strings.Contains(location, "wm_cid=") {
		t.Errorf("Location %q carries no click id", location)
	}
	took := eventually(t, 5*time.Second, func() error {
		if s := p.summary(t); *s.Clicks != *before.Clicks+1 || *s.Gross != *before.Gross+1 {
			return fmt.Errorf("clicks %d and gross %d, want one more than %d and %d", *s.Clicks, *s.Gross, *before.Clicks, *before.Gross)
		}
		return nil
	})
	t.Logf("click to number: %v", took.Round(time.Millisecond))
	mustClick(t, url, agent)
	mustClick(t, url, "curl/8.9.1")
	eventually(t, 5*time.Second, func() error {
		s := p.summary(t)
		if *s.Clicks != *before.Clicks+1 || *s.Repeat != *before.Repeat+1 || s.Invalid["bot"] != before.Invalid["bot"]+1 {
			return fmt.Errorf("clicks %d, repeat %d, bot %d after %d, %d, %d; want each one more", *s.Clicks, *s.Repeat, s.Invalid["bot"], *before.Clicks, *before.Repeat, before.Invalid["bot"])
		}
		return nil
	})
	checkLinksAddUp(t, p)
}

func clickID(t *testing.T, location string) string {
	t.Helper()
	_, id, ok := strings.Cut(location, "wm_cid=")
	if !ok {
		t.Fatalf("Location %q carries no click id", location)
	}
	id, _, _ = strings.Cut(id, "&")
	return id
}

func conversionsCount(t *testing.T, sys *process) {
	p := sys.partner()
	before := p.summary(t)
	id := clickID(t, mustClick(t, sys.Links[0], person+" buyer"))
	customer := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
	signup := map[string]any{"type": "signup", "click_id": id, "customer_key": customer, "idempotency_key": customer + "-signup"}
	sale := map[string]any{"type": "sale", "customer_key": customer, "amount": 1234, "currency": "USD", "idempotency_key": customer + "-sale"}
	var ids [2]struct{ ID string }
	url := sys.Tracker + "/v1/conversions"
	for i := range ids { // the same twice: one answer, counted once
		if code, err := call(http.MethodPost, url, sys.ConversionsKey, signup, &ids[i]); err != nil || code != http.StatusAccepted || ids[i].ID == "" {
			t.Fatalf("POST signup = %d, %v, %+v", code, err, ids[i])
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("one idempotency key has two ids: %v", ids)
	}
	var many []struct{ ID string }
	if code, err := call(http.MethodPost, url, sys.ConversionsKey, []any{sale, sale}, &many); err != nil || code != http.StatusAccepted || len(many) != 2 {
		t.Fatalf("POST of two sales = %d, %v, %+v", code, err, many)
	}
	took := eventually(t, 5*time.Second, func() error {
		s := p.summary(t)
		if s.Referred != before.Referred+1 || s.sold("USD") != before.sold("USD")+1234 {
			return fmt.Errorf("referred %d, sold %d; want %d, %d", s.Referred, s.sold("USD"), before.Referred+1, before.sold("USD")+1234)
		}
		return nil
	})
	t.Logf("sale to number: %v", took.Round(time.Millisecond))
	settled(t, p)
	if s := p.summary(t); s.Referred != before.Referred+1 || s.sold("USD") != before.sold("USD")+1234 {
		t.Errorf("a repeated conversion was counted again: %+v", s)
	}
}

// settled waits until everything that was sent before is counted, and returns the summary.
func settled(t *testing.T, p partner) summary {
	t.Helper()
	sent := time.Now()
	var s summary
	eventually(t, 10*time.Second, func() error {
		if s = p.summary(t); !s.AsOf.After(sent) {
			return fmt.Errorf("data as of %v, want after %v", s.AsOf, sent)
		}
		return nil
	})
	return s
}

func linksWork(t *testing.T, sys *process) {
	p := sys.partner()
	slug := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
	destination := p.links(t)[0].Destination
	var made link
	code, err := call(http.MethodPost, p.api+"/links", p.key, map[string]any{"slug": slug, "destination": destination, "title": "Made by a test"}, &made)
	if err != nil || code != http.StatusCreated || made.Kind != "custom" || !made.Enabled {
		t.Fatalf("POST link = %d, %v, %+v", code, err, made)
	}
	took := eventually(t, 2*time.Second, func() error {
		resp, err := click(made.URL, person)
		if err != nil || resp.StatusCode != http.StatusFound {
			return fmt.Errorf("GET %s = %v, %v", made.URL, resp, err)
		}
		return nil
	})
	t.Logf("new link on the edge after %v", took.Round(time.Millisecond))
	base := strings.TrimSuffix(made.URL, slug)
	mustClick(t, base+strings.ToUpper(slug)+"/", person) // slugs know no case and forgive one slash

	if code, err := call(http.MethodPatch, p.api+"/links/"+made.ID, p.key, map[string]any{"enabled": false}, &made); err != nil || code != http.StatusOK || made.Enabled {
		t.Fatalf("PATCH link = %d, %v, %+v", code, err, made)
	}
	took = eventually(t, 2*time.Second, func() error {
		resp, err := click(made.URL, person)
		if err != nil {
			return err
		}
		if strings.Contains(resp.Header.Get("Location"), "wm_cid=") {
			return fmt.Errorf("a disabled link still mints click ids: %s", resp.Header.Get("Location"))
		}
		return nil
	})
	t.Logf("disabled link stopped after %v", took.Round(time.Millisecond))
	before := settled(t, p)
	if _, err := click(made.URL, person); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		if s := p.summary(t); s.Invalid["disabled"] != before.Invalid["disabled"]+1 || *s.Clicks != *before.Clicks {
			return fmt.Errorf("invalid:disabled is %d, want %d", s.Invalid["disabled"], before.Invalid["disabled"]+1)
		}
		return nil
	})
	if code, err := call(http.MethodPatch, p.api+"/links/"+made.ID, p.key, map[string]any{"enabled": true, "title": "On again"}, &made); err != nil || code != http.StatusOK || !made.Enabled || made.Title != "On again" {
		t.Fatalf("PATCH link = %d, %v, %+v", code, err, made)
	}
	eventually(t, 2*time.Second, func() error {
		resp, err := click(made.URL, person)
		if err == nil && !strings.Contains(resp.Header.Get("Location"), "wm_cid=") {
			err = fmt.Errorf("an enabled link mints no click id")
		}
		return err
	})
	checkLinksAddUp(t, p)
	linkLimits(t, p, destination)
}

// linkLimits makes links that are refused, each for its own reason, and then as many as there may be.
func linkLimits(t *testing.T, p partner, destination string) {
	refused := func(in map[string]any, status int, field string) {
		t.Helper()
		var problem struct {
			Status int
			Field  string
			Detail string
		}
		code, err := call(http.MethodPost, p.api+"/links", p.key, in, &problem)
		if err != nil || code != status || problem.Field != field || problem.Detail == "" {
			t.Errorf("POST link %v = %d, %+v, %v; want %d with field %q", in, code, problem, err, status, field)
		}
	}
	refused(map[string]any{"slug": "a b", "destination": destination}, 422, "slug")
	refused(map[string]any{"slug": "v1", "destination": destination}, 422, "slug")
	refused(map[string]any{"slug": "Spring-Guide", "destination": destination}, 409, "slug")
	refused(map[string]any{"slug": "elsewhere", "destination": "https://elsewhere.example/"}, 422, "destination")
	refused(map[string]any{"slug": "script", "destination": "javascript:alert(1)"}, 422, "destination")
	custom := 0
	for _, l := range p.links(t) {
		if l.Kind == "custom" {
			custom++
		}
	}
	for ; custom < 50; custom++ {
		in := map[string]any{"slug": fmt.Sprintf("fill-%d-%d", custom, time.Now().UnixNano()), "destination": destination}
		if code, err := call(http.MethodPost, p.api+"/links", p.key, in, nil); err != nil || code != http.StatusCreated {
			t.Fatalf("custom link %d = %d, %v; want 201", custom+1, code, err)
		}
	}
	var problem struct{ Detail string }
	code, err := call(http.MethodPost, p.api+"/links", p.key, map[string]any{"slug": "one-too-many", "destination": destination}, &problem)
	if err != nil || (code != 409 && code != 422) || !strings.Contains(problem.Detail, "50") {
		t.Errorf("the 51st custom link = %d, %+v, %v; want to be told of the limit", code, problem, err)
	}
}

// problems are requests that must be refused with a problem document.
func problems(t *testing.T, sys *process) {
	f := func(method, url, bearer string, in any, want int) {
		t.Helper()
		var problem struct {
			Status int
			Title  string
		}
		code, err := call(method, url, bearer, in, &problem)
		if err != nil || code != want || problem.Status != want || problem.Title == "" {
			t.Errorf("%s %s = %d, %+v, %v; want a problem document with %d", method, url, code, problem, err, want)
		}
	}
	p := sys.partner()
	f(http.MethodGet, p.api+"/summary", "", nil, 401)
	f(http.MethodGet, p.api+"/summary", "wrong", nil, 401)
	f(http.MethodGet, sys.Dashboard+"/api/v1/programs/nothing/summary", p.key, nil, 404)
	f(http.MethodGet, sys.Dashboard+"/api/v1/programs/harbor/links", p.key, nil, 404)
	f(http.MethodPatch, p.api+"/links/999999999", p.key, map[string]any{"enabled": false}, 404)
	f(http.MethodPost, p.api+"/links", p.key, map[string]any{"slug": strings.Repeat("x", 1<<20)}, 413)
	f(http.MethodPost, p.api+"/links", p.key, "no object", 400)
	conversions := sys.Tracker + "/v1/conversions"
	good := map[string]any{"type": "signup", "customer_key": "c", "idempotency_key": "k"}
	f(http.MethodPost, conversions, "", good, 401)
	f(http.MethodPost, conversions, "wrong", good, 401)
	f(http.MethodPost, conversions, sys.ConversionsKey, "no object", 400)
	f(http.MethodPost, conversions, sys.ConversionsKey, map[string]any{"type": "wish", "customer_key": "c", "idempotency_key": "k2"}, 422)
	f(http.MethodPost, conversions, sys.ConversionsKey, map[string]any{"type": "signup", "customer_key": "c"}, 422)
	f(http.MethodPost, conversions, sys.ConversionsKey, map[string]any{"type": "signup", "click_id": "forged", "customer_key": "c", "idempotency_key": "k3"}, 422)

	var harbor map[string]any
	code, err := call(http.MethodGet, sys.Dashboard+"/api/v1/programs/harbor/summary", p.key, nil, &harbor)
	if _, has := harbor["clicks"]; err != nil || code != http.StatusOK || has {
		t.Errorf("summary of a program with links off = %d, %v, %v; want no click fields", code, harbor, err)
	}
	resp, err := click(sys.Tracker+"/no-such-slug", person)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown slug = %v, %v; want 404", resp, err)
	}
}

func pages(t *testing.T, sys *process) {
	for _, path := range []string{"/", "/programs/" + sys.Program, "/programs/" + sys.Program + "/links"} {
		resp, err := noRedirects.Get(sys.Dashboard + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther {
			t.Errorf("GET %s without a session = %s, want 303 to the sign-in", path, resp.Status)
		}
	}
}
