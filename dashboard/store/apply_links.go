package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"waymark/schema"
)

// storedLink is a link as it is, with its place among the default links.
type storedLink struct {
	Link
	position int
}

// wantedLink is a new link of the file.
type wantedLink struct {
	Link
	position int
	line     int
	member   *member
}

// links stores the default and custom links of the members.
func (a *applier) links(ctx context.Context, p *programState, members []*member) error {
	if len(p.Hosts) == 0 {
		return nil
	}
	stored, err := a.loadLinks(ctx, members)
	if err != nil {
		return err
	}
	var wanted []*wantedLink
	for _, m := range members {
		var own []storedLink
		if m.exists {
			own = stored[m.ID]
		}
		defaults, err := a.defaultLinks(ctx, p, m, own)
		if err != nil {
			return err
		}
		custom, err := a.customLinks(ctx, p, m, own)
		if err != nil {
			return err
		}
		wanted = append(append(wanted, defaults...), custom...)
	}
	if err := a.refuseTaken(ctx, p, wanted); err != nil || !a.ok() {
		return err
	}
	for _, w := range wanted {
		if err := a.newLink(ctx, p, w); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) loadLinks(ctx context.Context, members []*member) (map[uint64][]storedLink, error) {
	var ids []int64
	for _, m := range members {
		if m.exists {
			ids = append(ids, int64(m.ID))
		}
	}
	links := map[uint64][]storedLink{}
	err := eachIn(ctx, a.tx, `SELECT `+linkColumns+`, l.position FROM links l WHERE l.partnership_id IN `, nil, ids, func(rows *sql.Rows) error {
		var l storedLink
		err := scanLink(scanFunc(func(to ...any) error { return rows.Scan(append(to, &l.position)...) }), &l.Link)
		links[l.PartnershipID] = append(links[l.PartnershipID], l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read links: %w", err)
	}
	return links, nil
}

type scanFunc func(...any) error

// Scan implements scanner.
func (f scanFunc) Scan(to ...any) error { return f(to...) }

// defaultLinks brings the default links in line with the group's, and returns the missing ones.
func (a *applier) defaultLinks(ctx context.Context, p *programState, m *member, own []storedLink) ([]*wantedLink, error) {
	var missing []*wantedLink
	for i, t := range m.group.templates {
		position := i + 1
		at := slices.IndexFunc(own, func(l storedLink) bool { return l.Kind == schema.LinkKind_LINK_DEFAULT && l.position == position })
		if at >= 0 {
			l := own[at].Link
			l.Title, l.Destination = t.title, t.destination
			if err := a.oldLink(ctx, p, m, own[at].Link, l); err != nil {
				return nil, err
			}
			continue
		}
		slug := m.Key
		if position > 1 {
			slug += "-" + strconv.Itoa(position)
		}
		if _, err := schema.NormalizeSlug(slug); err != nil {
			a.fail(m.line, "the partner key %s is too long for its default link %s: %v", m.Key, slug, err)
			continue
		}
		missing = append(missing, &wantedLink{line: m.line, member: m, position: position, Link: Link{
			Kind: schema.LinkKind_LINK_DEFAULT, Host: p.Hosts[0], Slug: slug, Destination: t.destination, Title: t.title, Enabled: true,
		}})
	}
	return missing, nil
}

// customLinks brings the stored custom links in line with the file, and returns the missing ones.
func (a *applier) customLinks(ctx context.Context, p *programState, m *member, own []storedLink) ([]*wantedLink, error) {
	count := 0
	bySlug := map[string]Link{}
	for _, l := range own {
		if l.Kind != schema.LinkKind_LINK_CUSTOM {
			continue
		}
		count++
		if _, ok := bySlug[l.Slug]; !ok || l.Host == p.Hosts[0] {
			bySlug[l.Slug] = l.Link
		}
	}
	var missing []*wantedLink
	for _, f := range m.links {
		if f.line == 0 {
			continue
		}
		l, ok := a.customLink(p, f)
		if !ok {
			continue
		}
		old, exists := bySlug[l.Slug]
		if !exists {
			if count++; count == MaxCustomLinks+1 {
				a.fail(f.line, "%s has more than %d custom links, disabled ones included", m.Key, MaxCustomLinks)
			}
			l.Host, l.Kind, l.Enabled = p.Hosts[0], schema.LinkKind_LINK_CUSTOM, f.enabled == nil || *f.enabled
			missing = append(missing, &wantedLink{Link: l, line: lineOr(f.slug, f.line), member: m})
			continue
		}
		changed := old
		changed.Destination = l.Destination
		if f.title.given() {
			changed.Title = l.Title
		}
		if f.enabled != nil {
			changed.Enabled = *f.enabled
		}
		if err := a.oldLink(ctx, p, m, old, changed); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// customLink reads a link of the file.
func (a *applier) customLink(p *programState, f fileLink) (Link, bool) {
	slug, err := checkSlug(f.slug.value)
	if err != nil {
		a.fail(lineOr(f.slug, f.line), "%v", err)
	}
	destinationErr := checkDestination(f.destination.value, p.rules)
	if destinationErr != nil {
		a.fail(lineOr(f.destination, f.line), "%v", destinationErr)
	}
	title, titleErr := checkTitle(f.title.value)
	if titleErr != nil {
		a.fail(f.title.line, "%v", titleErr)
	}
	return Link{Slug: slug, Destination: f.destination.value, Title: title}, err == nil && destinationErr == nil && titleErr == nil
}

func (a *applier) oldLink(ctx context.Context, p *programState, m *member, before, now Link) error {
	name := now.Host + "/" + now.Slug
	if now == before {
		a.changed(ActionUnchanged, "link", name)
		return nil
	}
	if !a.ok() {
		return nil
	}
	a.changed(ActionUpdate, "link", name)
	return a.s.updateLink(ctx, a.tx, scopeOf(p, m), &now)
}

func scopeOf(p *programState, m *member) linkScope {
	return linkScope{program: p.ID, partner: m.PartnerID, partnership: m.ID}
}

// refuseTaken names the new links whose slug is another link's, in the file or stored.
func (a *applier) refuseTaken(ctx context.Context, p *programState, wanted []*wantedLink) error {
	lines := make(map[string]int, len(wanted))
	for _, w := range wanted {
		name := w.Host + "/" + w.Slug
		if line, ok := a.slugs[name]; ok {
			a.fail(w.line, "the slug %s is taken on %s, by line %d", w.Slug, w.Host, line)
			continue
		}
		a.slugs[name] = w.line
		lines[w.Slug] = w.line
	}
	err := eachIn(ctx, a.tx, `SELECT slug FROM links WHERE host = $1 AND slug IN `, []any{p.Hosts[0]}, slices.Collect(maps.Keys(lines)), func(rows *sql.Rows) error {
		var slug string
		err := rows.Scan(&slug)
		a.fail(lines[slug], "the slug %s is taken on %s", slug, p.Hosts[0])
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot look up slugs on %s: %w", p.Hosts[0], err)
	}
	return nil
}

func (a *applier) newLink(ctx context.Context, p *programState, w *wantedLink) error {
	id, err := a.id(ctx, "link")
	if err != nil {
		return err
	}
	version, err := a.id(ctx, catalogCounter)
	if err != nil {
		return err
	}
	l := w.Link
	l.ID, l.PartnershipID, l.Version = id, w.member.ID, version
	a.changed(ActionCreate, "link", l.Host+"/"+l.Slug)
	a.newLinks.add(int64(l.ID), int64(l.PartnershipID), int32(l.Kind), w.position, l.Host, l.Slug, l.Destination, l.Title,
		int32(linkState(l.Enabled)), a.s.now().UnixMilli(), int64(l.Version))
	return a.record(linkRecord(scopeOf(p, w.member), &l))
}

// noteStrays says how many links the file leaves out, and how many lead where the program allows no more.
func (a *applier) noteStrays(ctx context.Context, p *programState, sameRules bool) error {
	if !a.ok() || sameRules {
		return nil
	}
	rows, err := a.tx.QueryContext(ctx, `SELECT l.destination FROM links l JOIN partnerships s ON s.id = l.partnership_id WHERE s.program_id = $1`, int64(p.ID))
	if err != nil {
		return fmt.Errorf("cannot read the links of %s: %w", p.Key, err)
	}
	strays := 0
	_, err = collect(rows, func(*struct{}) error {
		var destination string
		err := rows.Scan(&destination)
		if schema.CheckDestination(destination, p.rules) != nil {
			strays++
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot read the links of %s: %w", p.Key, err)
	}
	if strays > 0 {
		a.report.Notes = append(a.report.Notes, fmt.Sprintf("%d links of %s lead outside its allowed destinations; they were left as they are", strays, p.Key))
	}
	return nil
}
