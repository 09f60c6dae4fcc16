package dashboard

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"waymark/dashboard/auth"
	"waymark/dashboard/pages"
	"waymark/dashboard/store"
)

// themeCookie holds light or dark; the script writes it, too.
const themeCookie = "waymark_theme"

func theme(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// render answers with a page. A page that cannot be drawn is a bug; the reader gets a plain sentence.
func (d *Dashboard) render(w http.ResponseWriter, status int, view any) {
	var b bytes.Buffer
	if err := d.pages.Render(&b, view); err != nil {
		d.log.Error("BUG: a page cannot be drawn", "error", err)
		http.Error(w, "This page cannot be shown. Please try again later.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

var headings = map[int]string{
	http.StatusBadRequest: "That did not work", http.StatusForbidden: "Not allowed", http.StatusNotFound: "Page not found",
	http.StatusMethodNotAllowed: "Not possible", http.StatusRequestEntityTooLarge: "Too large", http.StatusTooManyRequests: "Please wait a moment",
	http.StatusInternalServerError: "Something went wrong", http.StatusServiceUnavailable: "Not available at the moment",
}

func (d *Dashboard) errorPage(w http.ResponseWriter, r *http.Request, status int, text string) {
	heading := headings[status]
	if heading == "" {
		heading = http.StatusText(status)
	}
	view := &pages.Error{Chrome: pages.Chrome{Title: heading, Theme: theme(r), Path: "/"}, Status: status, Heading: heading, Text: text}
	if status < http.StatusInternalServerError {
		if p, err := d.session(r); err == nil {
			members, _ := d.c.Store.Memberships(r.Context(), p.ID)
			view.Chrome = d.chrome(r, p, members, heading, "")
			view.Path = "/"
		}
	}
	d.render(w, status, view)
}

// localPath returns a path of our own to go to, or "/": nobody can be sent elsewhere.
func localPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\\\r\n\t") {
		return "/"
	}
	return s
}

// form reads a posted form, or answers why it cannot.
func (d *Dashboard) form(w http.ResponseWriter, r *http.Request) bool {
	err := r.ParseForm()
	if err == nil {
		return true
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		d.fail(w, r, http.StatusRequestEntityTooLarge, "What was sent is too large.")
	} else {
		d.fail(w, r, http.StatusBadRequest, "The form could not be read.")
	}
	return false
}

func (d *Dashboard) signInPage(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if _, err := d.session(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	d.render(w, http.StatusOK, &pages.SignIn{Chrome: pages.Chrome{Title: "Sign in", Theme: theme(r), Path: "/sign-in"}, Next: next})
}

func (d *Dashboard) signIn(w http.ResponseWriter, r *http.Request) {
	if !d.form(w, r) {
		return
	}
	email, password := store.NormalizeEmail(r.PostForm.Get("email")), r.PostForm.Get("password")
	next, address := localPath(r.PostForm.Get("next")), d.clientAddress(r)
	refuse := func(status int, outcome, text string) {
		d.metrics.signIns.WithLabelValues(outcome).Inc()
		d.render(w, status, &pages.SignIn{Chrome: pages.Chrome{Title: "Sign in", Theme: theme(r), Path: "/sign-in"}, Email: email, Error: text, Next: next})
	}
	const wrong = "That e-mail and password do not match."
	if email == "" || password == "" || len(email) > 254 {
		refuse(http.StatusUnprocessableEntity, "refused", "Please enter your e-mail and password.")
		return
	}
	if ok, wait := d.guesses.Allow(email, address); !ok {
		seconds := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		refuse(http.StatusTooManyRequests, "limited", "Too many attempts. Please wait "+spanWords(time.Duration(seconds)*time.Second)+" and try again.")
		return
	}
	partner, err := d.c.Store.PartnerByEmail(r.Context(), email)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		d.broken(w, r, err)
		return
	}
	// One who does not exist has the hash "", whose check takes as long.
	ok, err := d.passwords.Verify(r.Context(), partner.PasswordHash, password)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	if !ok {
		refuse(http.StatusUnauthorized, "refused", wrong)
		return
	}
	d.guesses.Succeeded(email, address)
	if err := d.beginSession(w, r, partner); err != nil {
		d.broken(w, r, err)
		return
	}
	d.metrics.signIns.WithLabelValues("ok").Inc()
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// beginSession gives out a new token, always: one that was there before the sign-in is worth nothing after it.
func (d *Dashboard) beginSession(w http.ResponseWriter, r *http.Request, p store.Partner) error {
	if c, err := r.Cookie(d.sessionCookie()); err == nil && c.Value != "" {
		if err := d.c.Store.DeleteSession(r.Context(), auth.HashToken(c.Value)); err != nil {
			return err
		}
	}
	token, hash := auth.NewToken()
	expires := d.c.Now().Add(d.c.SessionLifetime)
	if err := d.c.Store.CreateSession(r.Context(), hash, p.ID, expires); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: d.sessionCookie(), Value: token, Path: "/", Expires: expires, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteLaxMode})
	return nil
}

func (d *Dashboard) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(d.sessionCookie()); err == nil && c.Value != "" {
		if err := d.c.Store.DeleteSession(r.Context(), auth.HashToken(c.Value)); err != nil {
			d.broken(w, r, err)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: d.sessionCookie(), Path: "/", MaxAge: -1, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

func (d *Dashboard) setTheme(w http.ResponseWriter, r *http.Request) {
	if !d.form(w, r) {
		return
	}
	chosen := r.PostForm.Get("theme")
	if chosen != "light" && chosen != "dark" {
		d.fail(w, r, http.StatusBadRequest, "The colours are light or dark.")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: themeCookie, Value: chosen, Path: "/", MaxAge: 365 * 24 * 3600, Secure: d.secure, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, localPath(r.PostForm.Get("back")), http.StatusSeeOther)
}

func (d *Dashboard) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, d.pages.Assets().URL("favicon.svg"), http.StatusFound)
}

func robots(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n"))
}
