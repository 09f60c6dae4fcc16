package dashboard

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func mustPrefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// foreign holds what only the other partner may see.
var foreign = []string{"rival", "Rival", "secretclub", "Zacharias", "hidden.example", "Hidden", "777,777", "777777", "888,888", "888888"}

// T21: every route of the router, asked by everyone who may not have what it answers with. A route that the matrix does
// not know fails.
func TestEveryRouteForEveryone(t *testing.T) {
	w := start(t)
	lena, stranger := w.asLena(), w.browser()
	type want struct{ stranger, foreign, own int }
	form := url.Values{"slug": {"abc"}, "destination": {"https://northwind.example/"}, "enabled": {"false"}, "theme": {"dark"}}
	const newLink = `{"slug":"abcd","destination":"https://northwind.example/"}`
	matrix := map[string]want{
		"GET /assets/":                                  {404, 0, 404},
		"GET /favicon.ico":                              {302, 0, 302},
		"GET /robots.txt":                               {200, 0, 200},
		"GET /sign-in":                                  {200, 0, 303},
		"POST /sign-in":                                 {422, 0, 422},
		"POST /theme":                                   {303, 0, 303},
		"GET /{$}":                                      {303, 0, 200},
		"GET /live":                                     {303, 0, 200},
		"POST /sign-out":                                {303, 0, 303},
		"GET /api/v1/openapi.json":                      {200, 0, 200},
		"GET /programs/{program}":                       {303, 404, 200},
		"GET /programs/{program}/live":                  {303, 404, 200},
		"GET /programs/{program}/links":                 {303, 404, 200},
		"GET /programs/{program}/links/live":            {303, 404, 200},
		"POST /programs/{program}/links":                {303, 404, 303},
		"POST /programs/{program}/links/{link}":         {303, 404, 303},
		"GET /api/v1/programs/{program}/summary":        {401, 404, 200},
		"GET /api/v1/programs/{program}/links":          {401, 404, 200},
		"POST /api/v1/programs/{program}/links":         {401, 404, 201},
		"PATCH /api/v1/programs/{program}/links/{link}": {401, 404, 200},
	}
	for _, r := range w.d.routes() {
		m, ok := matrix[r.pattern]
		if !ok {
			t.Errorf("the matrix does not know the route %q", r.pattern)
			continue
		}
		delete(matrix, r.pattern)
		method, pattern, _ := strings.Cut(r.pattern, " ")
		ask := func(who string, c *http.Client, key, program, link string, status int) {
			t.Helper()
			path := strings.NewReplacer("{program}", program, "{link}", link, "{$}", "").Replace(pattern)
			var body any
			headers := []string{}
			if r.access == apiKey {
				if method != "GET" {
					body = newLink
				}
				if method == "PATCH" {
					body = `{"enabled":false}`
				}
				if key != "" {
					headers = append(headers, "Authorization", "Bearer "+key)
				}
			} else if method != "GET" {
				body = form
			}
			got, text, header := w.do(c, method, path, body, headers...)
			if got != status {
				t.Errorf("%s %s for %s = %d, want %d: %s", method, path, who, got, status, text)
			}
			for _, f := range foreign {
				// What was asked with is in some answers.
				if strings.Contains(strings.ReplaceAll(text, program, ""), f) {
					t.Errorf("%s %s for %s holds the foreign %q: %s", method, path, who, f, text)
				}
			}
			if header.Get("Content-Security-Policy") == "" || header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s for %s lacks the headers of every answer: %v", method, path, who, header)
			}
		}
		ask("a stranger", stranger, "", "northwind", w.lenaLink, m.stranger)
		if r.access != everyone {
			ask("a stranger with a made-up key", stranger, "wmp_nobody_0123456789abcdef", "northwind", w.lenaLink, m.stranger)
			ask("a stranger with a made-up session", func() *http.Client {
				c := w.browser()
				at, _ := url.Parse(w.url)
				c.Jar.SetCookies(at, []*http.Cookie{{Name: "waymark_session", Value: "AAAA"}})
				return c
			}(), "", "northwind", w.lenaLink, m.stranger)
			// A conversions key of the program is no partner's key.
			ask("a merchant", stranger, "wmc_northwind_0123456789", "northwind", w.lenaLink, m.stranger)
		}
		if m.foreign != 0 {
			ask("a partner of another program", lena, lenaKey, "hidden", w.rivalLink, m.foreign)
			ask("a partner, of no program", lena, lenaKey, "nothing", "1", m.foreign)
			if strings.Contains(pattern, "{link}") {
				ask("a partner, of another's link", lena, lenaKey, "northwind", w.rivalLink, m.foreign)
				ask("a partner, of no link", lena, lenaKey, "northwind", "999999", m.foreign)
				ask("a partner, of nonsense", lena, lenaKey, "northwind", "-1", m.foreign)
			}
			if strings.Contains(pattern, "/links") {
				ask("a partner, of a program without links", lena, lenaKey, "fable", w.lenaLink, m.foreign)
			}
		}
		// A key opens no page, a session no API.
		if r.access == signedIn {
			ask("a key", stranger, lenaKey, "northwind", w.lenaLink, m.stranger)
		}
		if r.access == apiKey {
			ask("a session", lena, "", "northwind", w.lenaLink, m.stranger)
		}
		owner := lena
		if r.pattern == "POST /sign-out" {
			owner = w.asLena()
		}
		ask("its owner", owner, lenaKey, "northwind", w.lenaLink, m.own)
	}
	for pattern := range matrix {
		t.Errorf("the matrix knows the route %q, which does not exist", pattern)
	}
}

// T22: requests that change something, from elsewhere.
func TestUnsafeMethodsFromElsewhere(t *testing.T) {
	w := start(t)
	lena := w.asLena()
	at, _ := url.Parse(w.url)
	origins := []struct {
		name    string
		headers []string
		allowed bool
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		{"the same site", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://other." + at.Host}, false},
		{"an old browser elsewhere", []string{"Origin", "https://evil.example"}, false},
		{"a sandbox", []string{"Origin", "null"}, false},
		{"another port", []string{"Origin", "http://" + at.Hostname() + ":1"}, false},
		{"our own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", w.url}, true},
	}
	for _, r := range w.d.routes() {
		method, pattern, _ := strings.Cut(r.pattern, " ")
		if method == "GET" {
			continue
		}
		for _, o := range origins {
			if r.pattern == "POST /sign-out" && o.allowed {
				continue
			}
			path := strings.NewReplacer("{program}", "northwind", "{link}", w.lenaLink).Replace(pattern)
			var body any = url.Values{"slug": {"x-" + strings.ToLower(method)}, "destination": {"https://northwind.example/"}, "enabled": {"true"}, "theme": {"dark"},
				"email": {"lena@trailnotes.example"}, "password": {"lena's password"}}
			headers := o.headers
			if r.access == apiKey {
				body = `{"title":"x"}`
				headers = append([]string{"Authorization", "Bearer " + lenaKey}, o.headers...)
			}
			status, text, _ := w.do(lena, method, path, body, headers...)
			if o.allowed == (status == 403) {
				t.Errorf("%s %s from %s = %d, want it allowed: %v", method, path, o.name, status, o.allowed)
			}
			if status == 403 && r.access == apiKey && !strings.Contains(text, `"status":403`) {
				t.Errorf("%s %s from %s: the refusal is no problem document: %s", method, path, o.name, text)
			}
		}
	}
	if links, err := w.d.c.Store.Links(t.Context(), w.lena); err != nil || len(links) != 3 {
		t.Errorf("after the attempts there are %d links (%v), want the two of the file and the one of our own page", len(links), err)
	}
	if status, _, _ := w.do(lena, "GET", "/", nil); status != 200 {
		t.Errorf("after the attempts Home = %d, want to be signed in still", status)
	}
}
