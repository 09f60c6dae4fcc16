package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

func loadDocument(t *testing.T, w *world) (*openapi3.T, routers.Router) {
	t.Helper()
	status, body, header := w.do(w.browser(), "GET", "/api/v1/openapi.json", nil)
	if status != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("GET /api/v1/openapi.json = %d %v", status, header)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	// The tracker's server is not this one; its paths are.
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// Every route of the API is in the document and, the tracker's own path aside, the other way round.
func TestDocumentAndRouterAgree(t *testing.T) {
	w := start(t)
	doc, _ := loadDocument(t, w)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("the document is of OpenAPI %s, want 3.1", doc.OpenAPI)
	}
	documented := map[string]*openapi3.Operation{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			documented[method+" "+path] = op
		}
	}
	if documented["POST /v1/conversions"] == nil {
		t.Error("the document lacks the tracker's POST /v1/conversions")
	}
	delete(documented, "POST /v1/conversions")
	for _, r := range w.d.routes() {
		if !strings.Contains(r.pattern, " /api/") {
			continue
		}
		op := documented[r.pattern]
		if op == nil {
			t.Errorf("the document lacks %s", r.pattern)
			continue
		}
		delete(documented, r.pattern)
		if open := op.Security != nil && len(*op.Security) == 0; open != (r.access == everyone) {
			t.Errorf("%s: the document says it is open: %v, the router says %v", r.pattern, open, r.access == everyone)
		}
	}
	for op := range documented {
		t.Errorf("the router lacks %s, which the document has", op)
	}
}

// checked sends a request and holds request and answer against the document.
type checked struct {
	w      *world
	router routers.Router
	seen   map[string]bool
}

func (c *checked) send(method, path, key string, body any, wantStatus int, wantField string) map[string]any {
	c.w.t.Helper()
	status, text, header := c.w.api(method, path, key, body)
	if status != wantStatus {
		c.w.t.Errorf("%s %s %v = %d, want %d: %s", method, path, body, status, wantStatus, text)
	}
	r, _ := http.NewRequest(method, c.w.url+"/api/v1"+path, nil)
	if r.URL.Host != "" {
		r.URL.Scheme, r.URL.Host = "", ""
	}
	route, params, err := c.router.FindRoute(r)
	if err != nil {
		c.w.t.Errorf("%s %s is not in the document: %v", method, path, err)
		return nil
	}
	c.seen[fmt.Sprintf("%s %s %d", method, route.Path, status)] = true
	if route.Operation.Responses.Status(status) == nil {
		c.w.t.Errorf("%s %s: the document lacks the answer %d", method, route.Path, status)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 status, Header: header, Body: io.NopCloser(strings.NewReader(text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		c.w.t.Errorf("%s %s = %d: the answer is not the documented one: %v\n%s", method, path, status, err, text)
	}
	var answer map[string]any
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			c.w.t.Errorf("%s %s: %v in %s", method, path, err, text)
		}
	}
	if status >= 400 {
		if header.Get("Content-Type") != "application/problem+json" {
			c.w.t.Errorf("%s %s = %d with Content-Type %q, want a problem document", method, path, status, header.Get("Content-Type"))
		}
		if field, _ := answer["field"].(string); field != wantField {
			c.w.t.Errorf("%s %s %v: field %q, want %q: %s", method, path, body, field, wantField, text)
		}
	}
	return answer
}

func TestAnswersAreTheDocumentedOnes(t *testing.T) {
	w := start(t)
	_, router := loadDocument(t, w)
	c := &checked{w, router, map[string]bool{}}
	const links = "/programs/northwind/links"
	post := func(body string, status int, field string) map[string]any {
		t.Helper()
		return c.send("POST", links, lenaKey, body, status, field)
	}
	summary := c.send("GET", "/programs/northwind/summary", lenaKey, nil, 200, "")
	const want = `"clicks":1234,"earned":null,"gross":1600,"invalid":{"bot":60,"head":6},"pending":null,"referred":31,"repeat":300,"sold":[{"amount":4200,"currency":"EUR"},{"amount":181550,"currency":"USD"}]}`
	asOf, _ := summary["data_as_of"].(string)
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", asOf); err != nil || time.Since(at) > time.Minute {
		t.Errorf("data_as_of = %q, want RFC 3339 with milliseconds, of just now", asOf)
	}
	delete(summary, "data_as_of")
	if got, _ := json.Marshal(summary); string(got) != "{"+want {
		t.Errorf("summary = %s, want {%s", got, want)
	}
	off := c.send("GET", "/programs/fable/summary", lenaKey, nil, 200, "")
	for _, field := range []string{"clicks", "gross", "repeat", "invalid"} {
		if _, ok := off[field]; ok {
			t.Errorf("the summary of a program without links has %q: %v", field, off)
		}
	}
	c.send("GET", links, lenaKey, nil, 200, "")
	c.send("GET", "/openapi.json", "", nil, 200, "")
	for _, path := range []string{"/programs/northwind/summary", links} {
		c.send("GET", path, "wmp_nobody_0123456789abcdef", nil, 401, "")
		c.send("GET", path, "", nil, 401, "")
		c.send("GET", strings.Replace(path, "northwind", "hidden", 1), lenaKey, nil, 404, "")
	}
	c.send("GET", "/programs/fable/links", lenaKey, nil, 404, "")

	made := post(`{"slug":"Autumn","destination":"https://northwind.example/autumn?a=1","title":"Autumn"}`, 201, "")
	if made["url"] != "https://go.northwind.example/autumn" || made["kind"] != "custom" || made["enabled"] != true || made["unique"] != 0.0 || made["gross"] != 0.0 {
		t.Errorf("the new link is %v", made)
	}
	post(`{`, 400, "")
	post(``, 400, "")
	post(`[]`, 400, "")
	post(`{"slug":"a","destination":"https://northwind.example/"} {}`, 400, "")
	post(`{"slug":"a","destination":"https://northwind.example/","colour":"red"}`, 400, "colour")
	post(`{"destination":"https://northwind.example/"}`, 422, "slug")
	post(`{"slug":"a"}`, 422, "destination")
	post(`{"slug":1,"destination":"https://northwind.example/"}`, 422, "slug")
	post(`{"slug":"no spaces","destination":"https://northwind.example/"}`, 422, "slug")
	post(`{"slug":"v1","destination":"https://northwind.example/"}`, 422, "slug")
	post(`{"slug":"","destination":"https://northwind.example/"}`, 422, "slug")
	post(`{"slug":"AUTUMN","destination":"https://northwind.example/"}`, 409, "slug")
	post(`{"slug":"a","destination":"https://evil.example/"}`, 422, "destination")
	post(`{"slug":"a","destination":"javascript:alert(1)"}`, 422, "destination")
	post(`{"slug":"a","destination":"https://northwind.example/","title":"`+strings.Repeat("x", 121)+`"}`, 422, "title")
	post(`{"slug":"`+strings.Repeat("x", 70000)+`"}`, 413, "")
	for i := range 48 {
		post(fmt.Sprintf(`{"slug":"link-%d","destination":"https://northwind.example/"}`, i), 201, "")
	}
	post(`{"slug":"beyond","destination":"https://northwind.example/"}`, 409, "slug")

	id, _ := made["id"].(string)
	patch := func(id, body string, status int, field string) map[string]any {
		t.Helper()
		return c.send("PATCH", links+"/"+id, lenaKey, body, status, field)
	}
	if changed := patch(id, `{"enabled":false}`, 200, ""); changed["enabled"] != false || changed["title"] != "Autumn" {
		t.Errorf("after disabling: %v", changed)
	}
	if changed := patch(id, `{"title":"Winter","enabled":true}`, 200, ""); changed["enabled"] != true || changed["title"] != "Winter" {
		t.Errorf("after renaming: %v", changed)
	}
	patch(id, `{}`, 200, "")
	patch(id, `{"enabled":"yes"}`, 422, "enabled")
	patch(id, `{"slug":"other"}`, 400, "slug")
	patch(id, `x`, 400, "")
	patch(w.rivalLink, `{"enabled":false}`, 404, "")
	patch(w.rivalLink, `{"enabled":"not even valid"}`, 404, "")
	patch("999999999", `{"enabled":false}`, 404, "")
	patch(id, `{"title":"`+strings.Repeat("x", 70000)+`"}`, 413, "")
	c.send("PATCH", links+"/"+id, "", `{}`, 401, "")
	defaults, err := w.d.c.Store.Links(t.Context(), w.lena)
	if err != nil {
		t.Fatal(err)
	}
	patch(fmt.Sprint(defaults[0].ID), `{"enabled":false}`, 422, "enabled")
	c.send("POST", links, "", `{}`, 401, "")
	c.send("POST", "/programs/fable/links", lenaKey, `{"slug":"a","destination":"https://fable.example/"}`, 404, "")

	w.source.with(func() { w.source.down = errDown })
	c.send("GET", "/programs/hidden/summary", rivalKey, nil, 503, "")
	c.send("GET", "/programs/hidden/links", rivalKey, nil, 200, "")
	if len(c.seen) < 20 {
		t.Errorf("only %d kinds of answers were checked: %v", len(c.seen), c.seen)
	}
}

func TestTooManyRequests(t *testing.T) {
	now := time.Now()
	w := start(t, func(c *Config) { c.APIRate, c.APIBurst, c.Now = 1, 3, func() time.Time { return now } })
	_, router := loadDocument(t, w)
	c := &checked{w, router, map[string]bool{}}
	for range 3 {
		c.send("GET", "/programs/northwind/summary", lenaKey, nil, 200, "")
	}
	c.send("GET", "/programs/northwind/summary", lenaKey, nil, 429, "")
	c.send("GET", "/programs/northwind/links", lenaKey, nil, 429, "")
	c.send("GET", "/programs/northwind/summary", rivalKey, nil, 200, "")
	for range 100 {
		c.send("GET", "/programs/northwind/summary", "wmp_nobody_0123456789abcdef", nil, 401, "")
	}
	c.send("GET", "/programs/northwind/summary", "wmp_nobody_0123456789abcdef", nil, 429, "")
	c.send("GET", "/programs/northwind/summary", rivalKey, nil, 200, "")
}

func TestEveryReadingAddsUp(t *testing.T) {
	w := start(t)
	var summary struct {
		Clicks, Gross, Repeat uint64
		Invalid               map[string]uint64
	}
	_, body, _ := w.api("GET", "/programs/northwind/summary", lenaKey, nil)
	if err := json.Unmarshal([]byte(body), &summary); err != nil {
		t.Fatal(err)
	}
	sum := summary.Clicks + summary.Repeat
	for _, n := range summary.Invalid {
		sum += n
	}
	var links []struct{ Gross uint64 }
	_, body, _ = w.api("GET", "/programs/northwind/links", lenaKey, nil)
	if err := json.Unmarshal([]byte(body), &links); err != nil {
		t.Fatal(err)
	}
	var gross uint64
	for _, l := range links {
		gross += l.Gross
	}
	if sum != summary.Gross || gross != summary.Gross {
		t.Errorf("gross %d, unique + repeat + invalid %d, links' gross %d: want all the same", summary.Gross, sum, gross)
	}
}

func TestAdmin(t *testing.T) {
	w := start(t)
	post := func(query, file string) (int, string) {
		r, err := http.NewRequest("POST", "/v1/apply"+query, bytes.NewReader([]byte(file)))
		if err != nil {
			t.Fatal(err)
		}
		rec := &memory{header: http.Header{}}
		w.d.AdminHandler().ServeHTTP(rec, r)
		return rec.status, rec.body.String()
	}
	if status, body := post("", programFile); status != 200 || strings.Contains(body, `"action":"create"`) {
		t.Errorf("the same file again = %d %s, want 200 and nothing made", status, body)
	}
	more := strings.Replace(programFile, "Fable Books", "Fable Press", 1)
	if status, body := post("?dry_run=1", more); status != 200 || !strings.Contains(body, `{"action":"update","kind":"program","key":"fable"}`) {
		t.Errorf("a dry run = %d %s, want what would change", status, body)
	}
	if status, body := post("", more); status != 200 || !strings.Contains(body, `"action":"update"`) {
		t.Errorf("the real run = %d %s, want the change", status, body)
	}
	if status, body := post("", "programs:\n  - key: x\n    nonsense: 1\n"); status != 422 || !strings.Contains(body, `"line":3`) {
		t.Errorf("a wrong file = %d %s, want 422 with the line", status, body)
	}
	if status, _ := post("?dry_run=maybe", programFile); status != 400 {
		t.Errorf("dry_run=maybe = %d, want 400", status)
	}
}

type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(status int)      { m.status = status }
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }
