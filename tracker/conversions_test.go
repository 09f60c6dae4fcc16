package tracker

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"waymark/schema"
)

// report posts a body with a key and returns the status and the answer.
func (e *edge) post(key, body string) (*http.Response, []byte) {
	e.t.Helper()
	req, err := http.NewRequest("POST", "http://"+e.Addr().String()+"/v1/conversions", strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp, answer
}

func (e *edge) conversions() []*schema.Conversion {
	e.t.Helper()
	var all []*schema.Conversion
	for _, r := range e.records(schema.RecordConversion) {
		c := &schema.Conversion{}
		if err := c.UnmarshalVT(r.Value); err != nil {
			e.t.Fatal(err)
		}
		if want := schema.PartitionOf((*[16]byte)(c.Id), 2); int(r.Partition) != want || string(r.Key) != string(c.Id) || r.Topic != schema.TopicConversions {
			e.t.Errorf("conversion %x lies in %v/%d under %x, want partition %d", c.Id, r.Topic, r.Partition, r.Key, want)
		}
		all = append(all, c)
	}
	return all
}

// clickID clicks a link and returns the click id that it was given.
func (e *edge) clickID(host, path string) string {
	e.t.Helper()
	_, id, _ := strings.Cut(e.get("GET", host, path).Header.Get("Location"), "cid=")
	id, _, _ = strings.Cut(id, "&")
	return id
}

func TestConversion(t *testing.T) {
	e := startEdge(t, nil)
	id := e.clickID(testHost, "/spring")
	body := fmt.Sprintf(`{"type":"sale","click_id":%q,"customer_key":"c1","amount":4900,"currency":"EUR","occurred_at":"2026-03-14T15:09:26.5+01:00","idempotency_key":"order-1"}`, id)
	resp, answer := e.post(testKey, body)
	var first accepted
	if err := json.Unmarshal(answer, &first); err != nil || resp.StatusCode != http.StatusAccepted || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("POST = %s %s %q, %v", resp.Status, resp.Header.Get("Content-Type"), answer, err)
	}
	want := schema.NewConversionIDs(testSecrets(t)).ID(1, []byte("order-1"))
	if first.ID != hex.EncodeToString(want[:]) {
		t.Errorf("id %s, want %x, from any edge", first.ID, want)
	}
	if _, again := e.post(testKey, body); string(again) != string(answer) {
		t.Errorf("the same report is answered %s, then %s", answer, again)
	}
	all := e.conversions()
	if len(all) != 2 {
		t.Fatalf("%d conversions were journaled, want both", len(all))
	}
	c := all[0]
	at := time.Date(2026, 3, 14, 14, 9, 26, 5e8, time.UTC).UnixMilli()
	raw := schema.RawClickID(c.ClickId)
	if c.ProgramId != 1 || c.Type != schema.ConversionType_CONVERSION_SALE || raw.String() != id || c.CustomerKey != "c1" || c.Amount != 4900 || c.Currency != "EUR" || c.OccurredMs != at ||
		time.Since(time.UnixMilli(c.ReceivedMs)) > time.Minute || c.IdempotencyKey != "order-1" || string(c.Id) != string(want[:]) {
		t.Errorf("journaled %v", c)
	}
	if resp, answer := e.post("wmc_other", `{"type":"signup","customer_key":"c","idempotency_key":"order-1"}`); resp.StatusCode != 202 || strings.Contains(string(answer), first.ID) {
		t.Errorf("another program's report under the same key = %s %s, want an id of its own", resp.Status, answer)
	}
	for _, body := range []string{
		`{"type":"lead","customer_key":"c","idempotency_key":"k"}`,
		` {"type":"signup","customer_key":"c","idempotency_key":"k","amount":0,"currency":null,"click_id":""} `,
		`{"type":"sale","click_id":"` + id + `","amount":0,"currency":"JPY","idempotency_key":"k"}`,
		`{"type":"refund","customer_key":"\u00e4","amount":1,"currency":"USD","idempotency_key":"k"}`,
	} {
		if resp, answer := e.post(testKey, body); resp.StatusCode != 202 {
			t.Errorf("POST %s = %s %s, want 202", body, resp.Status, answer)
		}
	}
}

func TestConversionProblems(t *testing.T) {
	e := startEdge(t, nil)
	foreign := e.clickID("two.example", "/spring")
	own := e.clickID(testHost, "/spring")
	f := func(key, body string, status int, field string) {
		t.Helper()
		resp, answer := e.post(key, body)
		var p problem
		err := json.Unmarshal(answer, &p)
		if err != nil || resp.StatusCode != status || p.Status != status || p.Field != field || p.Title == "" || p.Detail == "" || p.Type == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("POST %.200s = %s %s, %v; want a problem document with %d and field %q", body, resp.Status, answer, err, status, field)
		}
		if status == 401 && resp.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
	}
	const good = `{"type":"signup","customer_key":"c","idempotency_key":"k"}`
	f("", good, 401, "")
	f("wrong", good, 401, "")
	for _, bad := range []string{"", " ", `"no object"`, "7", "null", "{", `{"type":}`, good + good, "[" + good, `[1,]`, "{\"type\":\"\xff\"}", "\x00"} {
		f(testKey, bad, 400, "")
	}
	f(testKey, "[]", 422, "")
	f(testKey, `{}`, 422, "type")
	f(testKey, `{"type":"wish","customer_key":"c","idempotency_key":"k"}`, 422, "type")
	f(testKey, `{"type":7,"customer_key":"c","idempotency_key":"k"}`, 422, "type")
	f(testKey, `{"type":"signup","customer_key":"c"}`, 422, "idempotency_key")
	f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":""}`, 422, "idempotency_key")
	f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"`+strings.Repeat("k", 256)+`"}`, 422, "idempotency_key")
	f(testKey, `{"type":"signup","customer_key":"a\nb","idempotency_key":"k"}`, 422, "customer_key")
	f(testKey, `{"type":"signup","customer_key":"`+strings.Repeat("k", 256)+`","idempotency_key":"k"}`, 422, "customer_key")
	f(testKey, `{"type":"signup","idempotency_key":"k"}`, 422, "customer_key")
	f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"k","extra":1}`, 422, "extra")
	f(testKey, `{"Type":"signup","customer_key":"c","idempotency_key":"k"}`, 422, "Type")
	f(testKey, `{"type":"signup","type":"sale","customer_key":"c","idempotency_key":"k"}`, 422, "type")
	f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"k","amount":5}`, 422, "amount")
	sale := func(rest string) string {
		return `{"type":"sale","customer_key":"c","idempotency_key":"k"` + rest + `}`
	}
	f(testKey, sale(`,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":-1,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":1.5,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":"1","currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":1e3,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":99999999999999999999,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":1000000000000001,"currency":"USD"`), 422, "amount")
	f(testKey, sale(`,"amount":1`), 422, "currency")
	for _, currency := range []string{"usd", "US", "EURO", "€", "U D"} {
		f(testKey, sale(`,"amount":1,"currency":"`+currency+`"`), 422, "currency")
	}
	for _, at := range []string{"yesterday", "2026-03-14", "2026-03-14 15:09:26", "2026-02-30T00:00:00Z", "1999-12-31T23:59:59Z", "2999-01-01T00:00:00Z"} {
		f(testKey, sale(`,"amount":1,"currency":"USD","occurred_at":"`+at+`"`), 422, "occurred_at")
	}
	for _, id := range []string{"forged", own[:len(own)-1], own[:len(own)-1] + "~", strings.ToUpper(own), foreign} {
		f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"k","click_id":"`+id+`"}`, 422, "click_id")
	}
	f(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"k","x":"`+strings.Repeat("x", maxConversionSize)+`"}`, 413, "")
	f(testKey, "["+strings.Repeat(good+",", maxConversions)+good+"]", 413, "")
	f(testKey, strings.Repeat(" ", maxListBody+1), 413, "")
	f("wrong", strings.Repeat(" ", maxBody+1), 413, "")
	if n := len(e.conversions()); n != 0 {
		t.Errorf("%d refused conversions were journaled", n)
	}
}

func TestConversionList(t *testing.T) {
	e := startEdge(t, nil)
	var items []string
	for i := range maxConversions {
		switch i % 4 {
		case 0:
			items = append(items, `{"type":"sale","customer_key":"c","idempotency_key":"k"}`)
		case 1:
			items = append(items, `["no object"]`)
		default:
			items = append(items, fmt.Sprintf(`{"type":"signup","customer_key":"c%d","idempotency_key":"k%d"}`, i, i))
		}
	}
	resp, answer := e.post(testKey, "["+strings.Join(items, ",")+"]")
	var got []struct {
		ID, Field string
		Status    int
	}
	if err := json.Unmarshal(answer, &got); err != nil || resp.StatusCode != 202 || len(got) != maxConversions {
		t.Fatalf("POST of a list = %s with %d items, %v", resp.Status, len(got), err)
	}
	ids := map[string]bool{}
	for i, item := range got {
		switch i % 4 {
		case 0:
			if item.Status != 422 || item.Field != "amount" || item.ID != "" {
				t.Errorf("item %d: %+v, want its own problem", i, item)
			}
		case 1:
			if item.Status != 400 || item.ID != "" {
				t.Errorf("item %d: %+v, want its own problem", i, item)
			}
		default:
			if len(item.ID) != 32 || ids[item.ID] {
				t.Errorf("item %d: %+v, want an id of its own", i, item)
			}
			ids[item.ID] = true
		}
	}
	if n := len(e.conversions()); n != maxConversions/2 {
		t.Errorf("%d conversions were journaled, want %d", n, maxConversions/2)
	}
	if resp, answer := e.post(testKey, `[{"type":"wish"},{"type":"wish"}]`); resp.StatusCode != 422 || !strings.Contains(string(answer), `"field":"type"`) {
		t.Errorf("a list of nothing but mistakes = %s %s", resp.Status, answer)
	}
	if resp, answer := e.post(testKey, `[{"type":"lead","customer_key":"c","idempotency_key":"k"}]`); resp.StatusCode != 202 || !strings.HasPrefix(string(answer), `[{"id":"`) {
		t.Errorf("a list of one = %s %s", resp.Status, answer)
	}
}

// TestConversionAtOnce: one idempotency key from many clients has one id, and every report is kept for the ledger.
func TestConversionAtOnce(t *testing.T) {
	e := startEdge(t, nil)
	const clients = 64
	answers := make([]string, clients)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			_, answer := e.post(testKey, `{"type":"signup","customer_key":"c","idempotency_key":"once"}`)
			answers[i] = string(answer)
		})
	}
	group.Wait()
	for _, a := range answers {
		if a != answers[0] || !strings.Contains(a, `"id"`) {
			t.Fatalf("answers %q and %q to the same report", answers[0], a)
		}
	}
	if n := len(e.conversions()); n != clients {
		t.Errorf("%d reports were journaled, want %d", n, clients)
	}
}

func FuzzConversion(f *testing.F) {
	f.Add(`{"type":"sale","customer_key":"c","amount":1,"currency":"USD","occurred_at":"2026-03-14T15:09:26Z","idempotency_key":"k"}`)
	f.Add(`[{"type":"lead"},{"type":"sale","amount":-1}]`)
	ids := schema.NewClickIDs(testSecrets(f))
	now := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body string) {
		items, list, bad := splitConversions([]byte(body))
		if (bad == nil) == (len(items) == 0) || bad == nil && !list && len(items) != 1 {
			t.Fatalf("splitConversions(%q) = %d items, list %v, %v", body, len(items), list, bad)
		}
		for _, item := range items {
			c, bad := parseConversion(item, 1, now, ids)
			if bad != nil {
				if bad.Status < 400 || bad.Status > 422 || bad.Detail == "" || len(bad.Field) > maxField {
					t.Errorf("parseConversion(%q): problem %+v", item, bad)
				}
				continue
			}
			if c.Type == 0 || c.IdempotencyKey == "" || c.Amount < 0 || c.Amount > maxAmount || c.Currency != "" && !isCurrency(c.Currency) || c.CustomerKey == "" && len(c.ClickId) == 0 {
				t.Errorf("parseConversion(%q) accepted %v", item, c)
			}
			if _, err := c.MarshalVT(); err != nil {
				t.Errorf("parseConversion(%q) = %v, which cannot be encoded: %v", item, c, err)
			}
		}
	})
}
