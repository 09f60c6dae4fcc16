package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed shop.html
var shopHTML string

//go:embed shop.css
var shopCSS []byte

const (
	clickCookie    = "shop_click"
	customerCookie = "shop_customer"
	salePrice      = 4900
)

// Shop is the demo's merchant: it keeps the click id that a link brought, and its server reports signups and purchases
// to the conversions API, as a real shop's server would.
type Shop struct {
	conversions string
	client      *http.Client
	page        *template.Template
	mux         *http.ServeMux
	log         *slog.Logger
}

// NewShop returns a shop that reports to the tracker at the given base URL.
func NewShop(tracker string, log *slog.Logger) *Shop {
	s := &Shop{
		conversions: tracker + "/v1/conversions",
		client:      &http.Client{Timeout: 5 * time.Second},
		page:        template.Must(template.New("shop").Parse(shopHTML)),
		mux:         http.NewServeMux(),
		log:         log,
	}
	s.mux.HandleFunc("GET /shop.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Write(shopCSS)
	})
	s.mux.HandleFunc("GET /", s.show)
	s.mux.HandleFunc("POST /signup", s.signUp)
	s.mux.HandleFunc("POST /buy", s.buy)
	return s
}

// ServeHTTP serves the shop's pages.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Shop) show(w http.ResponseWriter, r *http.Request) {
	click := r.URL.Query().Get("wm_cid")
	if click != "" {
		http.SetCookie(w, shopCookie(clickCookie, click))
	} else {
		click = cookie(r, clickCookie)
	}
	notice, failed := notices[r.URL.Query().Get("done")], false
	if reason := r.URL.Query().Get("failed"); reason != "" {
		notice, failed = "The conversions API did not take it: "+reason, true
	}
	var b bytes.Buffer
	err := s.page.Execute(&b, map[string]any{
		"Product": "Summit Cloud", "ClickID": click, "Customer": cookie(r, customerCookie), "Nonce": rand.Text(),
		"Path": r.URL.Path, "Notice": notice, "Failed": failed,
	})
	if err != nil {
		s.log.Error("cannot render the demo shop", "error", err)
		http.Error(w, "the demo shop is out of order", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'")
	w.Write(b.Bytes())
}

var notices = map[string]string{
	"signup": "Signed up. The partner's Referred goes up in a moment.",
	"sale":   "Bought. The partner's Sold goes up in a moment.",
}

func (s *Shop) signUp(w http.ResponseWriter, r *http.Request) {
	customer := "shop-" + strings.ToLower(rand.Text()[:8])
	s.report(w, r, map[string]any{"type": "signup", "customer_key": customer}, "signup", shopCookie(customerCookie, customer))
}

func (s *Shop) buy(w http.ResponseWriter, r *http.Request) {
	s.report(w, r, map[string]any{"type": "sale", "customer_key": cookie(r, customerCookie), "amount": salePrice, "currency": "USD"}, "sale", nil)
}

func (s *Shop) report(w http.ResponseWriter, r *http.Request, conversion map[string]any, done string, set *http.Cookie) {
	conversion["idempotency_key"] = done + "-" + r.FormValue("nonce")
	conversion["occurred_at"] = time.Now().UTC().Format(time.RFC3339Nano)
	if click := cookie(r, clickCookie); click != "" {
		conversion["click_id"] = click
	}
	query := url.Values{"done": {done}}
	if err := s.send(r.Context(), conversion); err != nil {
		query = url.Values{"failed": {err.Error()}}
	} else if set != nil {
		http.SetCookie(w, set)
	}
	path := "/" + strings.TrimLeft(r.FormValue("path"), "/\\")
	http.Redirect(w, r, (&url.URL{Path: path, RawQuery: query.Encode()}).String(), http.StatusSeeOther)
}

// send hands a conversion to the conversions API. A problem document's detail becomes the error.
func (s *Shop) send(ctx context.Context, conversion map[string]any) error {
	body, err := json.Marshal(conversion)
	if err != nil {
		return fmt.Errorf("cannot encode the conversion: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.conversions, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+ConversionsKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the conversions API: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusAccepted {
		return nil
	}
	var problem struct{ Title, Detail string }
	if err != nil || json.Unmarshal(answer, &problem) != nil {
		return fmt.Errorf("the conversions API answered %s", resp.Status)
	}
	return fmt.Errorf("%s", strings.TrimSpace(problem.Title+" "+problem.Detail))
}

func shopCookie(name, value string) *http.Cookie {
	return &http.Cookie{Name: name, Value: url.QueryEscape(value), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 90 * 24 * 3600}
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	value, err := url.QueryUnescape(c.Value)
	if err != nil {
		return ""
	}
	return value
}
