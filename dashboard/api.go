package dashboard

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"waymark/dashboard/report"
	"waymark/dashboard/store"
	"waymark/schema"
)

// apiTime is how times are written: RFC 3339 in UTC with milliseconds.
const apiTime = "2006-01-02T15:04:05.000Z07:00"

type apiMoney struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// apiSummaryBody is a partner's numbers in one program. The click fields are nil, and left out, when links are off.
type apiSummaryBody struct {
	Clicks   *uint64            `json:"clicks,omitempty"`
	Gross    *uint64            `json:"gross,omitempty"`
	Repeat   *uint64            `json:"repeat,omitempty"`
	Invalid  *map[string]uint64 `json:"invalid,omitempty"`
	Referred int64              `json:"referred"`
	Sold     []apiMoney         `json:"sold"`
	Earned   []apiMoney         `json:"earned"`
	Pending  []apiMoney         `json:"pending"`
	DataAsOf *string            `json:"data_as_of"`
}

type apiLink struct {
	ID          string  `json:"id"`
	URL         string  `json:"url"`
	Kind        string  `json:"kind"`
	Title       string  `json:"title"`
	Destination string  `json:"destination"`
	Unique      *uint64 `json:"unique"`
	Gross       *uint64 `json:"gross"`
	Enabled     bool    `json:"enabled"`
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic("BUG: cannot write an answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}

func (d *Dashboard) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(d.document)
}

func (d *Dashboard) apiSummary(w http.ResponseWriter, r *http.Request, p store.Partner) {
	program, partnership, err := d.c.Store.Membership(r.Context(), p.ID, r.PathValue("program"))
	if err != nil {
		d.broken(w, r, err)
		return
	}
	numbers := d.numbers.read(r.Context(), []uint64{partnership.ID})
	sheet := numbers.sheets[partnership.ID]
	if sheet == nil {
		d.unread(w)
		return
	}
	body := apiSummaryBody{Referred: sheet.Referred, Sold: []apiMoney{}}
	for _, m := range sheet.Sold {
		body.Sold = append(body.Sold, apiMoney{m.Amount, m.Currency})
	}
	if program.LinksEnabled {
		c := sheet.Clicks
		if c.Invalid == nil {
			c.Invalid = map[string]uint64{}
		}
		body.Clicks, body.Gross, body.Repeat, body.Invalid = &c.Unique, &c.Gross, &c.Repeat, &c.Invalid
	}
	if !numbers.tick.Time.IsZero() {
		text := numbers.tick.Time.UTC().Format(apiTime)
		body.DataAsOf = &text
	}
	writeJSON(w, http.StatusOK, body)
}

// unread answers when numbers cannot be read and never were.
func (d *Dashboard) unread(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	writeProblem(w, problem{Status: http.StatusServiceUnavailable, Detail: "The numbers cannot be read at the moment. Clicks are still recorded."})
}

// apiLinkOf shows a link; clicks are nil when they are not known.
func (d *Dashboard) apiLinkOf(l store.Link, clicks map[uint64]report.Clicks) apiLink {
	a := apiLink{ID: strconv.FormatUint(l.ID, 10), URL: d.linkURL(l.Host, l.Slug), Kind: "custom", Title: l.Title, Destination: l.Destination, Enabled: l.Enabled}
	if l.Kind == schema.LinkKind_LINK_DEFAULT {
		a.Kind = "default"
	}
	if clicks != nil {
		c := clicks[l.ID]
		a.Unique, a.Gross = &c.Unique, &c.Gross
	}
	return a
}

func (d *Dashboard) apiLinks(w http.ResponseWriter, r *http.Request, p store.Partner) {
	partnership, err := d.own(r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	links, err := d.c.Store.Links(r.Context(), partnership)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	clicks := d.numbers.readLinks(r.Context(), partnership).clicks
	list := make([]apiLink, 0, len(links))
	for _, l := range links {
		list = append(list, d.apiLinkOf(l, clicks))
	}
	writeJSON(w, http.StatusOK, list)
}

// refuse answers a request that its sender must change, and our own failures.
func (d *Dashboard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var field *store.FieldError
	switch {
	case errors.As(err, &p):
		writeProblem(w, *p)
	case errors.As(err, &field):
		writeProblem(w, problem{Status: fieldStatus(field), Detail: field.Message, Field: field.Field, Code: field.Code})
	default:
		d.broken(w, r, err)
	}
}

func (d *Dashboard) apiCreateLink(w http.ResponseWriter, r *http.Request, p store.Partner) {
	partnership, err := d.own(r, p)
	var body struct {
		Slug        *string `json:"slug"`
		Destination *string `json:"destination"`
		Title       string  `json:"title"`
	}
	if err == nil {
		err = readJSON(r, &body)
	}
	if err == nil {
		switch {
		case body.Slug == nil:
			err = missing("slug")
		case body.Destination == nil:
			err = missing("destination")
		}
	}
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	link, err := d.c.Store.CreateLink(r.Context(), partnership, store.NewLink{Slug: *body.Slug, Destination: *body.Destination, Title: body.Title})
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	// Nobody can have clicked it yet.
	writeJSON(w, http.StatusCreated, d.apiLinkOf(link, map[uint64]report.Clicks{}))
}

func missing(field string) error {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: field + " is needed.", Field: field, Code: store.CodeInvalid}
}

func (d *Dashboard) apiUpdateLink(w http.ResponseWriter, r *http.Request, p store.Partner) {
	partnership, err := d.own(r, p)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	id, err := strconv.ParseUint(r.PathValue("link"), 10, 63)
	if err != nil {
		d.notFound(w, r)
		return
	}
	// What is not this partner's is not found, whatever the body says.
	if _, err := d.c.Store.Link(r.Context(), partnership, id); err != nil {
		d.refuse(w, r, err)
		return
	}
	var body struct {
		Enabled *bool   `json:"enabled"`
		Title   *string `json:"title"`
	}
	if err := readJSON(r, &body); err != nil {
		d.refuse(w, r, err)
		return
	}
	link, err := d.c.Store.UpdateLink(r.Context(), partnership, id, store.LinkChange{Enabled: body.Enabled, Title: body.Title})
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, d.apiLinkOf(link, d.numbers.readLinks(r.Context(), partnership).clicks))
}
