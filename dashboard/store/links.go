package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"waymark/schema"
)

// linkScope is what the rules of links need to know of a partnership.
type linkScope struct {
	program     uint64
	partner     uint64
	partnership uint64
	host        string
	rules       []schema.DestinationRule
}

func linkScopeOf(ctx context.Context, q querier, partnership uint64) (linkScope, error) {
	s := linkScope{partnership: partnership}
	var allowed []string
	err := q.QueryRowContext(ctx, `SELECT p.id, s.partner_id, p.allowed_destinations, h.host
		FROM partnerships s JOIN programs p ON p.id = s.program_id
		JOIN program_hosts h ON h.program_id = p.id AND h.position = 0
		WHERE s.id = $1 AND s.state <> 3 AND p.state <> 3 AND p.links_enabled = 1`, int64(partnership)).
		Scan(&s.program, &s.partner, list{&allowed}, &s.host)
	if err != nil {
		return s, readError("partnership", partnership, err)
	}
	s.rules, err = parseRules(allowed)
	return s, err
}

func parseRules(allowed []string) ([]schema.DestinationRule, error) {
	var rules []schema.DestinationRule
	for _, text := range allowed {
		rule, err := schema.ParseDestinationRule(text)
		if err != nil {
			return nil, fmt.Errorf("cannot read a stored destination rule: %w", err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// checkSlug returns the slug in its normal form.
func checkSlug(slug string) (string, error) {
	normal, err := schema.NormalizeSlug(slug)
	if err == nil {
		return normal, nil
	}
	code := CodeInvalid
	if strings.Contains(err.Error(), "reserved") {
		code = CodeReserved
	}
	return "", &FieldError{"slug", code, sentence(err)}
}

func checkDestination(destination string, rules []schema.DestinationRule) error {
	err := schema.CheckDestination(destination, rules)
	if err == nil {
		return nil
	}
	code := CodeInvalid
	if strings.Contains(err.Error(), "allowed destinations") {
		code = CodeNotAllowed
	}
	return &FieldError{"destination", code, sentence(err)}
}

// checkTitle returns the title without space around it.
func checkTitle(title string) (string, error) {
	title = strings.TrimSpace(title)
	if n := utf8.RuneCountInString(title); n > MaxTitle {
		return "", &FieldError{"title", CodeInvalid, fmt.Sprintf("A title has at most %d characters, this one has %d.", MaxTitle, n)}
	}
	if !utf8.ValidString(title) || strings.ContainsFunc(title, unicode.IsControl) {
		return "", &FieldError{"title", CodeInvalid, "A title is one line of text."}
	}
	return title, nil
}

// sentence returns an error's text as a sentence. One that starts with a URL starts with it.
func sentence(err error) string {
	text := err.Error()
	if !strings.HasPrefix(text, "http") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return text + "."
}

// CreateLink makes a custom link on the program's first host. It returns a *[FieldError] for a bad, taken or reserved
// slug, a bad destination or title and the link beyond MaxCustomLinks, and ErrNotFound when the program's links are off.
func (s *Store) CreateLink(ctx context.Context, partnershipID uint64, n NewLink) (Link, error) {
	link := Link{PartnershipID: partnershipID, Kind: schema.LinkKind_LINK_CUSTOM, Destination: n.Destination, Enabled: true}
	err := s.Update(ctx, func(tx *sql.Tx) error {
		scope, err := linkScopeOf(ctx, tx, partnershipID)
		if err != nil {
			return err
		}
		if link.Slug, err = checkSlug(n.Slug); err != nil {
			return err
		}
		if err := checkDestination(n.Destination, scope.rules); err != nil {
			return err
		}
		if link.Title, err = checkTitle(n.Title); err != nil {
			return err
		}
		link.Host = scope.host
		if err := checkFree(ctx, tx, link.Host, link.Slug); err != nil {
			return err
		}
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM links WHERE partnership_id = $1 AND kind = 2`, int64(partnershipID)).Scan(&count); err != nil {
			return fmt.Errorf("cannot count the links of partnership %d: %w", partnershipID, err)
		}
		if count >= MaxCustomLinks {
			return &FieldError{"slug", CodeLimit, fmt.Sprintf("All %d custom links are made; disabled ones count, because a slug is never used again.", MaxCustomLinks)}
		}
		return s.insertLink(ctx, tx, scope, &link)
	})
	if err != nil {
		return Link{}, err
	}
	s.changed.notify()
	return link, nil
}

func checkFree(ctx context.Context, q querier, host, slug string) error {
	var id int64
	err := q.QueryRowContext(ctx, `SELECT id FROM links WHERE host = $1 AND slug = $2`, host, slug).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look up the slug %q: %w", slug, err)
	}
	return &FieldError{"slug", CodeTaken, fmt.Sprintf("The slug %q is taken on %s.", slug, host)}
}

func (s *Store) insertLink(ctx context.Context, tx *sql.Tx, scope linkScope, l *Link) error {
	id, err := s.NextIDs(ctx, tx, "link", 1)
	if err != nil {
		return err
	}
	if l.Version, err = s.NextIDs(ctx, tx, catalogCounter, 1); err != nil {
		return err
	}
	l.ID, l.CreatedAt = id, s.now().UTC()
	_, err = tx.ExecContext(ctx, `INSERT INTO links (id, partnership_id, kind, position, host, slug, destination, title, state, created_ms, version)
		VALUES ($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10)`, int64(l.ID), int64(l.PartnershipID), int32(l.Kind), l.Host, l.Slug,
		l.Destination, l.Title, int32(linkState(l.Enabled)), l.CreatedAt.UnixMilli(), int64(l.Version))
	if err != nil {
		return fmt.Errorf("cannot store link %s/%s: %w", l.Host, l.Slug, err)
	}
	return putRecord(ctx, tx, linkRecord(scope, l))
}

func linkState(enabled bool) schema.State {
	if enabled {
		return schema.State_STATE_ACTIVE
	}
	return schema.State_STATE_DISABLED
}

// UpdateLink renames, disables or enables a link, and returns it as it is then. A default link keeps its text. It returns
// a *[FieldError] or ErrNotFound, also when the program's links are off.
func (s *Store) UpdateLink(ctx context.Context, partnershipID, linkID uint64, c LinkChange) (Link, error) {
	var link Link
	changed := false
	err := s.Update(ctx, func(tx *sql.Tx) error {
		scope, err := linkScopeOf(ctx, tx, partnershipID)
		if err != nil {
			return err
		}
		if link, err = linkOf(ctx, tx, partnershipID, linkID); err != nil {
			return err
		}
		before := link
		if c.Title != nil {
			if link.Title, err = checkTitle(*c.Title); err != nil {
				return err
			}
			if link.Title != before.Title && link.Kind == schema.LinkKind_LINK_DEFAULT {
				return &FieldError{"title", CodeNotAllowed, "The text of a default link is set by the program."}
			}
		}
		if c.Enabled != nil {
			link.Enabled = *c.Enabled
			if link.Enabled != before.Enabled && link.Kind == schema.LinkKind_LINK_DEFAULT {
				return &FieldError{"enabled", CodeNotAllowed, "A default link is switched on and off by the program."}
			}
		}
		if changed = link != before; !changed {
			return nil
		}
		return s.updateLink(ctx, tx, scope, &link)
	})
	if err != nil {
		return Link{}, err
	}
	if changed {
		s.changed.notify()
	}
	return link, nil
}

func (s *Store) updateLink(ctx context.Context, tx *sql.Tx, scope linkScope, l *Link) error {
	var err error
	if l.Version, err = s.NextIDs(ctx, tx, catalogCounter, 1); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE links SET destination = $1, title = $2, state = $3, version = $4 WHERE id = $5`,
		l.Destination, l.Title, int32(linkState(l.Enabled)), int64(l.Version), int64(l.ID)); err != nil {
		return fmt.Errorf("cannot change link %d: %w", l.ID, err)
	}
	return putRecord(ctx, tx, linkRecord(scope, l))
}
