package dashboard

import (
	"net/http"
	"strings"

	"waymark/dashboard/pages"
	"waymark/dashboard/store"
)

// access says who may ask for a route.
type access int

const (
	// everyone may ask.
	everyone access = iota
	// a signed-in partner; others are sent to sign in.
	signedIn
	// a partner's API key.
	apiKey
)

// route is one line of the router. There is no other way to be routed, so that a test can walk them all.
type route struct {
	pattern string
	access  access
	// public serves everyone, partner the other two.
	public  http.HandlerFunc
	partner func(http.ResponseWriter, *http.Request, store.Partner)
	// stream is a response without end: no deadline of the usual kind.
	stream bool
}

func (d *Dashboard) routes() []route {
	return []route{
		{pattern: "GET " + pages.AssetPrefix, public: d.pages.Assets().ServeHTTP},
		{pattern: "GET /favicon.ico", public: d.favicon},
		{pattern: "GET /robots.txt", public: robots},
		{pattern: "GET /sign-in", public: d.signInPage},
		{pattern: "POST /sign-in", public: d.signIn},
		{pattern: "POST /sign-out", public: d.signOut},
		{pattern: "POST /theme", public: d.setTheme},

		{pattern: "GET /{$}", access: signedIn, partner: d.home},
		{pattern: "GET /live", access: signedIn, partner: d.homeLive, stream: true},
		{pattern: "GET /programs/{program}", access: signedIn, partner: d.summary},
		{pattern: "GET /programs/{program}/live", access: signedIn, partner: d.summaryLive, stream: true},
		{pattern: "GET /programs/{program}/links", access: signedIn, partner: d.links},
		{pattern: "GET /programs/{program}/links/live", access: signedIn, partner: d.linksLive, stream: true},
		{pattern: "POST /programs/{program}/links", access: signedIn, partner: d.createLink},
		{pattern: "POST /programs/{program}/links/{link}", access: signedIn, partner: d.updateLink},

		{pattern: "GET /api/v1/openapi.json", public: d.openAPI},
		{pattern: "GET /api/v1/programs/{program}/summary", access: apiKey, partner: d.apiSummary},
		{pattern: "GET /api/v1/programs/{program}/links", access: apiKey, partner: d.apiLinks},
		{pattern: "POST /api/v1/programs/{program}/links", access: apiKey, partner: d.apiCreateLink},
		{pattern: "PATCH /api/v1/programs/{program}/links/{link}", access: apiKey, partner: d.apiUpdateLink},
	}
}

// handler builds the router and what surrounds it.
func (d *Dashboard) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range d.routes() {
		var h http.HandlerFunc
		switch r.access {
		case everyone:
			h = r.public
		case signedIn:
			h = d.withSession(r.partner)
		case apiKey:
			h = d.withKey(r.partner)
		}
		if !r.stream {
			h = withDeadline(h)
		}
		mux.HandleFunc(r.pattern, d.measured(r.pattern, h))
	}
	mux.HandleFunc("/", d.measured("other", func(w http.ResponseWriter, r *http.Request) { d.noRoute(mux, w, r) }))

	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(d.measured("other", func(w http.ResponseWriter, r *http.Request) {
		d.fail(w, r, http.StatusForbidden, "This request came from another site and was refused.")
	}))
	return d.recovered(d.secured(protection.Handler(mux)))
}

// noRoute answers what no route matches: 405 when only the method is wrong.
func (d *Dashboard) noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		d.fail(w, r, http.StatusMethodNotAllowed, "This address does not take "+printable(r.Method)+" requests.")
		return
	}
	d.notFound(w, r)
}

// printable returns a method as it may be shown.
func printable(method string) string {
	if len(method) > 10 || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "such"
	}
	return method
}

// isAPI reports whether a request wants its errors as problem documents.
func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }
