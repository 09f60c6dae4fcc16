package store

import (
	"context"
	"fmt"
	"slices"
)

// template is what one default link of a group looks like.
type template struct{ title, destination string }

// groupState is a group as it will be.
type groupState struct {
	id        uint64
	key       string
	name      string
	offers    []string
	templates []template
	// redrawn: the templates of a group that partners are in already have changed.
	redrawn bool
}

func (a *applier) groups(ctx context.Context, f *fileProgram, p *programState) error {
	if err := a.loadGroups(ctx, p); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range f.groups {
		g := &f.groups[i]
		if g.line == 0 {
			continue
		}
		if !keyPattern.MatchString(g.key.value) || seen[g.key.value] {
			a.fail(lineOr(g.key, g.line), "a group needs a key of its own: 1 to 64 lower-case letters, digits and hyphens")
			continue
		}
		seen[g.key.value] = true
		if err := a.group(ctx, g, p); err != nil {
			return err
		}
	}
	if p.ID == 0 {
		return nil
	}
	return a.noteRest(ctx, `SELECT key FROM groups_of_partners WHERE program_id = $1 ORDER BY key`, []any{int64(p.ID)},
		"the group %s of "+p.Key, func(key string) bool { return seen[key] })
}

func (a *applier) loadGroups(ctx context.Context, p *programState) error {
	if p.ID == 0 {
		return nil
	}
	rows, err := a.tx.QueryContext(ctx, `SELECT id, key, name, offers FROM groups_of_partners WHERE program_id = $1 ORDER BY id`, int64(p.ID))
	if err != nil {
		return fmt.Errorf("cannot read the groups of %s: %w", p.Key, err)
	}
	groups, err := collect(rows, func(g *groupState) error { return rows.Scan(&g.id, &g.key, &g.name, list{&g.offers}) })
	if err != nil {
		return fmt.Errorf("cannot read the groups of %s: %w", p.Key, err)
	}
	for i := range groups {
		g := &groups[i]
		p.groups[g.key] = g
		rows, err := a.tx.QueryContext(ctx, `SELECT title, destination FROM default_links WHERE group_id = $1 ORDER BY position`, int64(g.id))
		if err != nil {
			return fmt.Errorf("cannot read the default links of %s/%s: %w", p.Key, g.key, err)
		}
		if g.templates, err = collect(rows, func(t *template) error { return rows.Scan(&t.title, &t.destination) }); err != nil {
			return fmt.Errorf("cannot read the default links of %s/%s: %w", p.Key, g.key, err)
		}
	}
	return nil
}

func (a *applier) group(ctx context.Context, f *fileGroup, p *programState) error {
	name := p.Key + "/" + f.key.value
	g, exists := p.groups[f.key.value]
	if !exists {
		g = &groupState{key: f.key.value}
		p.groups[g.key] = g
	}
	before := *g
	if g.name = f.name.or(g.name); g.name == "" || len(g.name) > 200 {
		a.fail(lineOr(f.name, f.line), "a group needs a name of up to 200 bytes")
	}
	if f.offers.given {
		g.offers = f.offers.values()
		for _, t := range f.offers.items {
			if t.value == "" || len(t.value) > 500 {
				a.fail(t.line, "an offer has 1 to 500 bytes")
			}
		}
	}
	a.templates(f, p, g, name)
	g.redrawn = exists && !slices.Equal(before.templates, g.templates)
	if !a.ok() {
		return nil
	}
	return a.storeGroup(ctx, p, g, exists, g.redrawn || before.name != g.name || !slices.Equal(before.offers, g.offers), name)
}

// templates reads the group's default links. Those behind the file's last one stay.
func (a *applier) templates(f *fileGroup, p *programState, g *groupState, name string) {
	if len(f.defaults) > MaxDefaultLinks {
		a.fail(f.defaults[MaxDefaultLinks].line, "a group has at most %d default links", MaxDefaultLinks)
	}
	templates := slices.Clone(g.templates)
	for i, l := range f.defaults {
		title, err := checkTitle(l.title.value)
		if err != nil {
			a.fail(lineOr(l.title, l.line), "%v", err)
		}
		if err := checkDestination(l.destination.value, p.rules); err != nil {
			a.fail(lineOr(l.destination, l.line), "%v", err)
		}
		t := template{title, l.destination.value}
		if i < len(templates) {
			templates[i] = t
		} else {
			templates = append(templates, t)
		}
	}
	if n := len(templates) - len(f.defaults); n > 0 && f.defaultsGiven {
		a.report.Notes = append(a.report.Notes, fmt.Sprintf("%d default links of %s are not in the file; they were left as they are", n, name))
	}
	g.templates = templates
}

func (a *applier) storeGroup(ctx context.Context, p *programState, g *groupState, exists, changed bool, name string) error {
	var err error
	switch {
	case !exists:
		a.changed(ActionCreate, "group", name)
		if g.id, err = a.id(ctx, "group"); err != nil {
			return err
		}
		_, err = a.tx.ExecContext(ctx, `INSERT INTO groups_of_partners (id, program_id, key, name, offers) VALUES ($1, $2, $3, $4, $5)`,
			int64(g.id), int64(p.ID), g.key, g.name, listText(g.offers))
	case changed:
		a.changed(ActionUpdate, "group", name)
		_, err = a.tx.ExecContext(ctx, `UPDATE groups_of_partners SET name = $1, offers = $2 WHERE id = $3`, g.name, listText(g.offers), int64(g.id))
	default:
		a.changed(ActionUnchanged, "group", name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot store the group %s: %w", name, err)
	}
	for i, t := range g.templates {
		if _, err := a.tx.ExecContext(ctx, `INSERT INTO default_links (group_id, position, title, destination) VALUES ($1, $2, $3, $4)
			ON CONFLICT (group_id, position) DO UPDATE SET title = excluded.title, destination = excluded.destination`,
			int64(g.id), i+1, t.title, t.destination); err != nil {
			return fmt.Errorf("cannot store a default link of %s: %w", name, err)
		}
	}
	return nil
}
