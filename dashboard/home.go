package dashboard

import (
	"net/http"
	"strconv"
	"time"

	"waymark/dashboard/pages"
	"waymark/dashboard/report"
	"waymark/dashboard/store"
	"waymark/schema"
)

func partnershipsOf(members []store.Member) []uint64 {
	ids := make([]uint64, len(members))
	for i, m := range members {
		ids[i] = m.Partnership.ID
	}
	return ids
}

func (d *Dashboard) home(w http.ResponseWriter, r *http.Request, p store.Partner) {
	members, err := d.c.Store.Memberships(r.Context(), p.ID)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	d.render(w, http.StatusOK, d.homeView(r, p, members, d.numbers.read(r.Context(), partnershipsOf(members))))
}

func (d *Dashboard) homeView(r *http.Request, p store.Partner, members []store.Member, numbers reading) *pages.Home {
	v := &pages.Home{Chrome: d.chrome(r, p, members, "All programs", ""), AsOf: asOfView(numbers.standing, d.c.Now()), Zone: time.UTC}
	v.Live = "/live"
	total, linksOn := &report.Sheet{}, false
	for _, m := range members {
		sheet := numbers.sheets[m.Partnership.ID]
		on := m.Program.LinksEnabled
		linksOn = linksOn || on
		if total != nil && sheet != nil {
			addSheet(total, sheet, on)
		} else {
			total = nil
		}
		hp := pages.HomeProgram{Key: m.Program.Key, Name: m.Program.Name, Figures: figuresOf("p"+strconv.FormatUint(m.Program.ID, 10)+"-", sheet, on)}
		if m.Program.State != schema.State_STATE_ACTIVE || m.Partnership.State != schema.State_STATE_ACTIVE {
			hp.Off = "Paused"
		}
		v.Programs = append(v.Programs, hp)
	}
	v.Totals = figuresOf("total-", total, linksOn)
	for i := range v.Totals {
		if v.Totals[i].ID == "total-clicks" {
			v.Totals[i].Meaning = "Unique clicks of all your programs that have links. A visitor of two programs counts once in each."
		}
	}
	return v
}

// addSheet adds a program to the totals over all. Clicks of a program without links are not shown, nor added.
func addSheet(total, s *report.Sheet, links bool) {
	total.Referred += s.Referred
	for _, m := range s.Sold {
		found := false
		for i := range total.Sold {
			if total.Sold[i].Currency == m.Currency {
				total.Sold[i].Amount += m.Amount
				found = true
			}
		}
		if !found {
			total.Sold = append(total.Sold, m)
		}
	}
	if !links {
		return
	}
	c := &total.Clicks
	c.Unique, c.Repeat, c.Gross = c.Unique+s.Clicks.Unique, c.Repeat+s.Clicks.Repeat, c.Gross+s.Clicks.Gross
	for reason, n := range s.Clicks.Invalid {
		if c.Invalid == nil {
			c.Invalid = map[string]uint64{}
		}
		c.Invalid[reason] += n
	}
}
