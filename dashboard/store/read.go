package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"waymark/schema"
)

const programColumns = `p.id, p.key, p.name, p.state, p.links_enabled, p.fallback_url, p.click_id_param, p.partner_param,
	p.cookie_window_ms, p.hash_window_ms, p.cookies_disabled, p.time_zone, p.opt_out_param, p.excluded_networks,
	p.allowed_destinations, p.passthrough`

type scanner interface{ Scan(...any) error }

func scanProgram(row scanner, p *Program, more ...any) error {
	var cookieMillis, hashMillis int64
	err := row.Scan(append([]any{&p.ID, &p.Key, &p.Name, &p.State, &p.LinksEnabled, &p.FallbackURL, &p.ClickIDParam, &p.PartnerParam,
		&cookieMillis, &hashMillis, &p.CookiesDisabled, &p.TimeZone, &p.OptOutParam, list{&p.ExcludedNetworks},
		list{&p.AllowedDestinations}, list{&p.Passthrough}}, more...)...)
	p.CookieWindow, p.HashWindow = time.Duration(cookieMillis)*time.Millisecond, time.Duration(hashMillis)*time.Millisecond
	return err
}

// list reads a column of JSON strings.
type list struct{ to *[]string }

// Scan implements [sql.Scanner].
func (l list) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), l.to)
	case []byte:
		return json.Unmarshal(v, l.to)
	}
	return fmt.Errorf("cannot read a list from %T", v)
}

func listText(items []string) string {
	if items == nil {
		items = []string{}
	}
	text, err := json.Marshal(items)
	if err != nil {
		panic("BUG: cannot write strings as JSON: " + err.Error())
	}
	return string(text)
}

func programHosts(ctx context.Context, q querier, program uint64) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT host FROM program_hosts WHERE program_id = $1 ORDER BY position`, program)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(host *string) error { return rows.Scan(host) })
}

// collect reads all rows, each by scan, and closes them.
func collect[T any](rows *sql.Rows, scan func(*T) error) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

const memberQuery = `SELECT ` + programColumns + `, s.id, s.program_id, s.partner_id, s.partner_key, s.state, g.key, g.name, g.offers
	FROM partnerships s JOIN programs p ON p.id = s.program_id JOIN groups_of_partners g ON g.id = s.group_id
	WHERE s.partner_id = $1 AND s.state <> 3 AND p.state <> 3`

func scanMember(row scanner, m *Member) error {
	s := &m.Partnership
	return scanProgram(row, &m.Program, &s.ID, &s.ProgramID, &s.PartnerID, &s.Key, &s.State, &s.GroupKey, &s.GroupName, list{&s.Offers})
}

// Membership returns a partner's partnership in the program with that key, or ErrNotFound.
func (s *Store) Membership(ctx context.Context, partnerID uint64, programKey string) (Program, Partnership, error) {
	var m Member
	err := scanMember(s.reader.QueryRowContext(ctx, memberQuery+` AND p.key = $2`, int64(partnerID), programKey), &m)
	if err == nil {
		m.Program.Hosts, err = programHosts(ctx, s.reader, m.Program.ID)
	}
	return m.Program, m.Partnership, readError("the partnership in", programKey, err)
}

// Memberships returns all partnerships of a partner, in the order of the programs' names.
func (s *Store) Memberships(ctx context.Context, partnerID uint64) ([]Member, error) {
	rows, err := s.reader.QueryContext(ctx, memberQuery+` ORDER BY p.name, p.id`, int64(partnerID))
	if err != nil {
		return nil, readError("the partnerships of", partnerID, err)
	}
	members, err := collect(rows, func(m *Member) error { return scanMember(rows, m) })
	for i := range members {
		if err == nil {
			members[i].Program.Hosts, err = programHosts(ctx, s.reader, members[i].Program.ID)
		}
	}
	return members, readError("the partnerships of", partnerID, err)
}

func readError(what string, which any, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	}
	return fmt.Errorf("cannot read %s %v: %w", what, which, err)
}

const linkColumns = `l.id, l.partnership_id, l.kind, l.host, l.slug, l.destination, l.title, l.state, l.created_ms, l.version`

func scanLink(row scanner, l *Link) error {
	var state schema.State
	var created int64
	err := row.Scan(&l.ID, &l.PartnershipID, &l.Kind, &l.Host, &l.Slug, &l.Destination, &l.Title, &state, &created, &l.Version)
	l.Enabled, l.CreatedAt = state == schema.State_STATE_ACTIVE, time.UnixMilli(created).UTC()
	return err
}

const linksQuery = `SELECT ` + linkColumns + ` FROM links l
	JOIN partnerships s ON s.id = l.partnership_id JOIN programs p ON p.id = s.program_id
	WHERE l.partnership_id = $1 AND l.state <> 3 AND p.links_enabled = 1`

// Links returns the links of a partnership: the default ones first, each kind in the order of making. It returns
// ErrNotFound when the program's links are off.
func (s *Store) Links(ctx context.Context, partnershipID uint64) ([]Link, error) {
	if _, err := linkScopeOf(ctx, s.reader, partnershipID); err != nil {
		return nil, err
	}
	rows, err := s.reader.QueryContext(ctx, linksQuery+` ORDER BY l.kind, l.position, l.id`, int64(partnershipID))
	if err != nil {
		return nil, readError("the links of partnership", partnershipID, err)
	}
	links, err := collect(rows, func(l *Link) error { return scanLink(rows, l) })
	return links, readError("the links of partnership", partnershipID, err)
}

// Link returns one link of a partnership, or ErrNotFound, also when the program's links are off.
func (s *Store) Link(ctx context.Context, partnershipID, linkID uint64) (Link, error) {
	return linkOf(ctx, s.reader, partnershipID, linkID)
}

func linkOf(ctx context.Context, q querier, partnershipID, linkID uint64) (Link, error) {
	var l Link
	err := scanLink(q.QueryRowContext(ctx, linksQuery+` AND l.id = $2`, int64(partnershipID), int64(linkID)), &l)
	return l, readError("link", linkID, err)
}

// LinkURLs returns the address of each link without its scheme ("host/slug"), by id, for the ids that exist.
func (s *Store) LinkURLs(ctx context.Context, ids []uint64) (map[uint64]string, error) {
	urls := make(map[uint64]string, len(ids))
	for _, id := range ids {
		var host, slug string
		err := s.reader.QueryRowContext(ctx, `SELECT host, slug FROM links WHERE id = $1`, int64(id)).Scan(&host, &slug)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, readError("link", id, err)
		}
		urls[id] = host + "/" + slug
	}
	return urls, nil
}
