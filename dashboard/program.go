package dashboard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"waymark/dashboard/pages"
	"waymark/dashboard/report"
	"waymark/dashboard/store"
	"waymark/schema"
)

// linkURL is the address of a link, as people share it.
func (d *Dashboard) linkURL(host, slug string) string {
	port := ""
	if d.c.LinkPort != 0 {
		port = strconv.Itoa(d.c.LinkPort)
	}
	switch {
	case port != "" && !(port == "443" && d.c.LinkScheme == "https" || port == "80" && d.c.LinkScheme == "http"):
		host = net.JoinHostPort(host, port)
	case slices.Contains([]byte(host), ':'):
		host = "[" + host + "]"
	}
	return d.c.LinkScheme + "://" + host + "/" + slug
}

// zoneOf is the program's time zone; one that nobody knows any more is UTC.
func zoneOf(p store.Program) *time.Location {
	zone, err := time.LoadLocation(p.TimeZone)
	if err != nil {
		return time.UTC
	}
	return zone
}

func offWords(p store.Program, s store.Partnership) string {
	switch {
	case p.State != schema.State_STATE_ACTIVE:
		return "This program is paused: its links lead on, but clicks do not count."
	case s.State != schema.State_STATE_ACTIVE:
		return "Your partnership is paused: your links lead on, but clicks do not count."
	}
	return ""
}

func (d *Dashboard) chrome(r *http.Request, p store.Partner, members []store.Member, title, current string) pages.Chrome {
	c := pages.Chrome{Title: title, Theme: theme(r), Path: r.URL.Path, Account: &pages.Account{Name: p.Name, Email: p.Email}, Current: current}
	for _, m := range members {
		c.Programs = append(c.Programs, pages.ProgramRef{Key: m.Program.Key, Name: m.Program.Name})
	}
	return c
}

// program is what every page of one program starts from.
type program struct {
	partner store.Partner
	members []store.Member
	store.Member
}

func (p *program) path() string { return "/programs/" + url.PathEscape(p.Program.Key) }

func (p *program) tabs(current string) []pages.Tab {
	tabs := []pages.Tab{{Label: "Summary", Href: p.path(), Current: current == "summary"}}
	if p.Program.LinksEnabled {
		tabs = append(tabs, pages.Tab{Label: "Links", Href: p.path() + "/links", Current: current == "links"})
	}
	return tabs
}

// programOf finds the program of a request among the partner's own; anybody else's is ErrNotFound.
func (d *Dashboard) programOf(ctx context.Context, r *http.Request, p store.Partner) (*program, error) {
	members, err := d.c.Store.Memberships(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Program.Key == r.PathValue("program") {
			return &program{partner: p, members: members, Member: m}, nil
		}
	}
	return nil, store.ErrNotFound
}

func (d *Dashboard) summary(w http.ResponseWriter, r *http.Request, p store.Partner) {
	pr, err := d.programOf(r.Context(), r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	view, err := d.summaryView(r, pr, d.numbers.read(r.Context(), []uint64{pr.Partnership.ID}))
	if err != nil {
		d.broken(w, r, err)
		return
	}
	d.render(w, http.StatusOK, view)
}

func (d *Dashboard) summaryView(r *http.Request, pr *program, numbers reading) (*pages.Summary, error) {
	zone, now := zoneOf(pr.Program), d.c.Now()
	sheet := numbers.sheets[pr.Partnership.ID]
	v := &pages.Summary{
		Chrome: d.chrome(r, pr.partner, pr.members, pr.Program.Name, pr.Program.Key), Name: pr.Program.Name, AsOf: asOfView(numbers.standing, now), Zone: zone,
		Figures: figuresOf("", sheet, pr.Program.LinksEnabled), Offers: pr.Partnership.Offers, LinksOn: pr.Program.LinksEnabled, Off: offWords(pr.Program, pr.Partnership),
	}
	v.Tabs, v.Live = pr.tabs("summary"), pr.path()+"/live"
	var links []store.Link
	if v.LinksOn {
		var err error
		if links, err = d.c.Store.Links(r.Context(), pr.Partnership.ID); err != nil {
			return nil, err
		}
		for _, l := range links {
			if l.Kind == schema.LinkKind_LINK_DEFAULT {
				v.Links = append(v.Links, d.linkView(l, nil))
			}
		}
		if sheet != nil {
			v.Split = splitOf(sheet.Clicks)
		}
	}
	recent, err := d.recent(r.Context(), pr, v, links, now.In(zone))
	if err != nil {
		return nil, err
	}
	v.Recent = recent
	return v, nil
}

// recent returns the latest events of a partnership, clicks and what the ledger booked, and fills the chart on the way.
func (d *Dashboard) recent(ctx context.Context, pr *program, v *pages.Summary, links []store.Link, now time.Time) ([]pages.Activity, error) {
	events, err := d.booked(ctx, pr.Partnership.ID)
	if err != nil {
		return nil, err
	}
	if v.LinksOn {
		names := make(map[uint64]string, len(links))
		for _, l := range links {
			names[l.ID] = l.Title
			if l.Title == "" {
				names[l.ID] = l.Host + "/" + l.Slug
			}
		}
		a := d.numbers.act(ctx, pr.Partnership.ID, now)
		for _, c := range a.recent {
			name := names[c.LinkID]
			if name == "" {
				name = "Click"
			}
			events = append(events, clickActivity(c, name))
		}
		for _, day := range a.days {
			v.Days = append(v.Days, pages.Day{Date: day.Date, Unique: day.Unique, Gross: day.Gross})
		}
	}
	slices.SortStableFunc(events, func(a, b pages.Activity) int { return b.Time.Compare(a.Time) })
	return events[:min(len(events), recentEvents)], nil
}

func (d *Dashboard) linkView(l store.Link, counts *report.Clicks) pages.Link {
	v := pages.Link{ID: strconv.FormatUint(l.ID, 10), URL: d.linkURL(l.Host, l.Slug), Title: l.Title, Destination: l.Destination,
		Default: l.Kind == schema.LinkKind_LINK_DEFAULT, Enabled: l.Enabled}
	if counts != nil {
		v.Unique, v.Gross = pages.Count(counts.Unique), pages.Count(counts.Gross)
	}
	return v
}

func (d *Dashboard) links(w http.ResponseWriter, r *http.Request, p store.Partner) {
	flash := map[string]string{"created": "Link created. It works within two seconds.", "enabled": "Link enabled. It counts again within two seconds.",
		"disabled": "Link disabled. It stops counting within two seconds."}[r.URL.Query().Get("done")]
	d.linksPage(w, r, p, http.StatusOK, pages.LinkForm{}, flash)
}

func (d *Dashboard) linksPage(w http.ResponseWriter, r *http.Request, p store.Partner, status int, form pages.LinkForm, flash string) {
	pr, err := d.programOf(r.Context(), r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	if !pr.Program.LinksEnabled {
		d.notFound(w, r)
		return
	}
	view, err := d.linksView(r, pr)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	view.Form, view.Flash = form, flash
	d.render(w, status, view)
}

func (d *Dashboard) linksView(r *http.Request, pr *program) (*pages.Links, error) {
	numbers := d.numbers.readLinks(r.Context(), pr.Partnership.ID)
	links, err := d.c.Store.Links(r.Context(), pr.Partnership.ID)
	if err != nil {
		return nil, err
	}
	v := &pages.Links{Chrome: d.chrome(r, pr.partner, pr.members, "Links · "+pr.Program.Name, pr.Program.Key), Name: pr.Program.Name,
		AsOf: asOfView(numbers.standing, d.c.Now()), Zone: zoneOf(pr.Program), Max: store.MaxCustomLinks, Allowed: pr.Program.AllowedDestinations,
		Off: offWords(pr.Program, pr.Partnership)}
	v.Path, v.Tabs, v.Live = pr.path()+"/links", pr.tabs("links"), pr.path()+"/links/live"
	if len(pr.Program.Hosts) > 0 {
		v.Prefix = d.linkURL(pr.Program.Hosts[0], "")
	}
	for _, l := range links {
		var counts *report.Clicks
		if numbers.clicks != nil {
			c := numbers.clicks[l.ID]
			counts = &c
		}
		v.Links = append(v.Links, d.linkView(l, counts))
		if l.Kind == schema.LinkKind_LINK_CUSTOM {
			v.Custom++
		}
	}
	return v, nil
}

// own finds the partnership of a request whose program has links, for what changes them.
func (d *Dashboard) own(r *http.Request, p store.Partner) (uint64, error) {
	program, partnership, err := d.c.Store.Membership(r.Context(), p.ID, r.PathValue("program"))
	if err == nil && !program.LinksEnabled {
		err = store.ErrNotFound
	}
	return partnership.ID, err
}

func (d *Dashboard) createLink(w http.ResponseWriter, r *http.Request, p store.Partner) {
	partnership, err := d.own(r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	if !d.form(w, r) {
		return
	}
	form := pages.LinkForm{Title: r.PostForm.Get("title"), Slug: r.PostForm.Get("slug"), Destination: r.PostForm.Get("destination")}
	_, err = d.c.Store.CreateLink(r.Context(), partnership, store.NewLink{Slug: form.Slug, Destination: form.Destination, Title: form.Title})
	var field *store.FieldError
	switch {
	case err == nil:
		http.Redirect(w, r, "/programs/"+url.PathEscape(r.PathValue("program"))+"/links?done=created", http.StatusSeeOther)
	case errors.As(err, &field):
		switch field.Field {
		case "slug":
			form.SlugError = field.Message
		case "destination":
			form.DestinationError = field.Message
		case "title":
			form.TitleError = field.Message
		default:
			form.Err = field.Message
		}
		d.linksPage(w, r, p, fieldStatus(field), form, "")
	default:
		d.broken(w, r, err)
	}
}

func (d *Dashboard) updateLink(w http.ResponseWriter, r *http.Request, p store.Partner) {
	partnership, err := d.own(r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	id, err := strconv.ParseUint(r.PathValue("link"), 10, 63)
	if err != nil {
		d.notFound(w, r)
		return
	}
	if !d.form(w, r) {
		return
	}
	enabled, err := strconv.ParseBool(r.PostForm.Get("enabled"))
	if err != nil {
		d.fail(w, r, http.StatusBadRequest, "The form could not be read.")
		return
	}
	_, err = d.c.Store.UpdateLink(r.Context(), partnership, id, store.LinkChange{Enabled: &enabled})
	var field *store.FieldError
	switch {
	case errors.As(err, &field):
		d.linksPage(w, r, p, fieldStatus(field), pages.LinkForm{Err: field.Message}, "")
	case err != nil:
		d.broken(w, r, err)
	case enabled:
		http.Redirect(w, r, "/programs/"+url.PathEscape(r.PathValue("program"))+"/links?done=enabled", http.StatusSeeOther)
	default:
		http.Redirect(w, r, "/programs/"+url.PathEscape(r.PathValue("program"))+"/links?done=disabled", http.StatusSeeOther)
	}
}
