package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"waymark/dashboard/auth"
	"waymark/dashboard/pages"
	"waymark/dashboard/store"
)

// maxBody bounds the body of every request, in bytes.
const maxBody = 64 << 10

// requestTimeout bounds the work on a request that is not a stream.
const requestTimeout = 15 * time.Second

// recorder remembers the status that a handler answered.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves [http.ResponseController].
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recovered turns a panic into a 500, so that one request never ends the process.
func (d *Dashboard) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			d.metrics.panics.Inc()
			d.log.Error("BUG: a request panicked", "panic", v, "path", r.URL.Path, "stack", string(debug.Stack()))
			if rec.status == 0 {
				d.fail(rec, r, http.StatusInternalServerError, "Something went wrong on our side. Please try again.")
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// secured sets the headers that every answer carries, and bounds the body.
func (d *Dashboard) secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pages.Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "private, no-store")
		if d.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func withDeadline(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next(w, r.WithContext(ctx))
	}
}

// measured counts the answers of a route by the class of their status.
func (d *Dashboard) measured(pattern string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			class := "aborted"
			if rec.status > 0 {
				class = string('0'+rune(rec.status/100)) + "xx"
			}
			d.metrics.requests.WithLabelValues(pattern, class).Inc()
			d.metrics.seconds.WithLabelValues(pattern).Observe(time.Since(start).Seconds())
		}()
		next(rec, r)
	}
}

// sessionCookie is the name of the cookie; over https the browser itself holds it to this host and to https.
func (d *Dashboard) sessionCookie() string {
	if d.secure {
		return "__Host-waymark_session"
	}
	return "waymark_session"
}

// session returns the partner who is signed in, or ErrNotFound.
func (d *Dashboard) session(r *http.Request) (store.Partner, error) {
	c, err := r.Cookie(d.sessionCookie())
	if err != nil || c.Value == "" || len(c.Value) > 128 {
		return store.Partner{}, store.ErrNotFound
	}
	p, _, err := d.c.Store.SessionPartner(r.Context(), auth.HashToken(c.Value))
	return p, err
}

func (d *Dashboard) withSession(next func(http.ResponseWriter, *http.Request, store.Partner)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := d.session(r)
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				d.broken(w, r, err)
				return
			}
			d.sendToSignIn(w, r)
			return
		}
		next(w, r, p)
	}
}

// sendToSignIn answers who is not signed in and must be.
func (d *Dashboard) sendToSignIn(w http.ResponseWriter, r *http.Request) {
	target := "/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/" {
		target += "?next=" + url.QueryEscape(r.URL.Path)
	}
	switch {
	case r.Header.Get("HX-Request") != "":
		w.Header().Set("HX-Redirect", "/sign-in")
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream"):
		w.WriteHeader(http.StatusUnauthorized)
	default:
		http.Redirect(w, r, target, http.StatusSeeOther)
	}
}

func (d *Dashboard) withKey(next func(http.ResponseWriter, *http.Request, store.Partner)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		key = strings.TrimSpace(key)
		p, err := store.Partner{}, store.ErrNotFound
		if strings.EqualFold(scheme, "bearer") && key != "" && len(key) <= 256 {
			p, err = d.c.Store.PartnerByAPIKey(r.Context(), key)
		}
		switch {
		case errors.Is(err, store.ErrNotFound):
			if !d.strangers.take(clientNetwork(d.clientAddress(r)), d.c.Now()) {
				d.tooMany(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="Waymark"`)
			d.fail(w, r, http.StatusUnauthorized, "A valid API key is needed, as Authorization: Bearer <key>.")
		case err != nil:
			d.broken(w, r, err)
		case !d.callers.take(p.ID, d.c.Now()):
			d.tooMany(w, r)
		default:
			next(w, r, p)
		}
	}
}

func (d *Dashboard) tooMany(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "1")
	d.fail(w, r, http.StatusTooManyRequests, "Too many requests. Please slow down.")
}

// clientAddress is the address of the client, looked for behind trusted proxies only.
func (d *Dashboard) clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		ip, err := netip.ParseAddr(host)
		if err != nil || !slices.ContainsFunc(d.c.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) }) {
			break
		}
		if next, err := netip.ParseAddr(strings.TrimSpace(hop)); err == nil {
			host = next.String()
		} else {
			break
		}
	}
	return host
}

// clientNetwork is what one person's addresses have in common.
func clientNetwork(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// fail answers with an error page, or a problem document to machines. The text is for people.
func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	if isAPI(r) {
		writeProblem(w, problem{Status: status, Detail: text})
		return
	}
	d.errorPage(w, r, status, text)
}

func (d *Dashboard) notFound(w http.ResponseWriter, r *http.Request) {
	d.fail(w, r, http.StatusNotFound, "There is nothing at this address, or it is not yours to see.")
}

// broken answers a failure of ours. A request that its sender gave up is not logged.
func (d *Dashboard) broken(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, store.ErrNotFound) {
		d.notFound(w, r)
		return
	}
	if r.Context().Err() == nil || errors.Is(context.Cause(r.Context()), context.DeadlineExceeded) {
		d.log.LogAttrs(r.Context(), slog.LevelError, "cannot answer a request", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	w.Header().Set("Retry-After", "5")
	d.fail(w, r, http.StatusServiceUnavailable, "This is not available at the moment. Please try again in a few seconds; links keep working meanwhile.")
}
