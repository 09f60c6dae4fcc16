package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/mail"

	"waymark/schema"
)

// partnerState is a partner as it will be.
type partnerState struct {
	Partner
	exists bool
	// line is where the file names the partner first; nameLine where it says the name.
	line     int
	nameLine int
}

// member is a partnership as it will be, with the part of the file that speaks of it.
type member struct {
	Partnership
	group  *groupState
	exists bool
	// line is that of the partner key, or of the partner.
	line  int
	links []fileLink
}

func (a *applier) programPartners(ctx context.Context, f *fileProgram, p *programState) error {
	if err := a.loadPartners(ctx, f); err != nil {
		return err
	}
	byPartner, byKey, err := a.loadMembers(ctx, p)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var members []*member
	for i := range f.partners {
		fp := &f.partners[i]
		if fp.line == 0 {
			continue
		}
		partner, err := a.partner(ctx, fp)
		if err != nil {
			return err
		}
		if partner == nil {
			continue
		}
		if seen[partner.Email] {
			a.fail(fp.line, "the partner %s stands twice in the program %s", partner.Email, p.Key)
			continue
		}
		seen[partner.Email] = true
		m, err := a.partnership(ctx, fp, p, partner, byPartner[partner.ID], byKey)
		if err != nil {
			return err
		}
		if m != nil {
			members = append(members, m)
		}
	}
	inFile := map[uint64]bool{}
	for _, m := range members {
		inFile[m.ID] = m.exists
	}
	for _, m := range byPartner {
		if m.group.redrawn && !inFile[m.ID] {
			members = append(members, m)
		}
	}
	if err := a.links(ctx, p, members); err != nil || p.ID == 0 {
		return err
	}
	return a.noteRest(ctx, `SELECT r.email FROM partners r JOIN partnerships s ON s.partner_id = r.id WHERE s.program_id = $1 AND s.state <> 3 ORDER BY r.email`,
		[]any{int64(p.ID)}, "the partner %s of "+p.Key, func(email string) bool { return seen[email] })
}

// loadPartners reads those of the file's partners that are stored already.
func (a *applier) loadPartners(ctx context.Context, f *fileProgram) error {
	var emails []string
	for _, p := range f.partners {
		if email := NormalizeEmail(p.email.value); a.partners[email] == nil {
			emails = append(emails, email)
		}
	}
	err := eachIn(ctx, a.tx, partnerQuery+`WHERE r.email IN `, nil, emails, func(rows *sql.Rows) error {
		p, err := scanPartner(rows)
		a.partners[p.Email] = &partnerState{Partner: p, exists: true}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot read partners: %w", err)
	}
	return nil
}

func (a *applier) loadMembers(ctx context.Context, p *programState) (byPartner map[uint64]*member, byKey map[string]*member, err error) {
	byPartner, byKey = map[uint64]*member{}, map[string]*member{}
	if p.ID == 0 {
		return byPartner, byKey, nil
	}
	byID := map[uint64]*groupState{}
	for _, g := range p.groups {
		byID[g.id] = g
	}
	rows, err := a.tx.QueryContext(ctx, `SELECT id, program_id, partner_id, group_id, partner_key, state FROM partnerships WHERE program_id = $1 ORDER BY id`, int64(p.ID))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the partnerships of %s: %w", p.Key, err)
	}
	members, err := collect(rows, func(m *member) error {
		var group uint64
		err := rows.Scan(&m.ID, &m.ProgramID, &m.PartnerID, &group, &m.Key, &m.State)
		m.group, m.exists = byID[group], true
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the partnerships of %s: %w", p.Key, err)
	}
	for i := range members {
		byPartner[members[i].PartnerID], byKey[members[i].Key] = &members[i], &members[i]
	}
	return byPartner, byKey, nil
}

// partner stores a partner where the file names it, and returns nil for one that nobody could be.
func (a *applier) partner(ctx context.Context, f *filePartner) (*partnerState, error) {
	email := NormalizeEmail(f.email.value)
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || len(email) > 254 {
		a.fail(lineOr(f.email, f.line), "a partner needs an e-mail address")
		return nil, nil
	}
	p := a.partners[email]
	if p == nil {
		p = &partnerState{Partner: Partner{Email: email}}
		a.partners[email] = p
	}
	first := p.line == 0
	before := p.Partner
	if f.name.given() {
		if p.nameLine > 0 && p.Name != f.name.value {
			a.fail(f.name.line, "%s has another name in line %d", email, p.nameLine)
		} else {
			p.Name, p.nameLine = f.name.value, f.name.line
		}
	}
	if p.Name == "" || len(p.Name) > 200 {
		a.fail(lineOr(f.name, f.line), "a partner needs a name of up to 200 bytes")
	}
	if h, ok := a.hashes[email]; ok {
		p.PasswordHash = h.hash
	}
	if first {
		p.line = f.line
	}
	if !a.ok() {
		return p, nil
	}
	if err := a.storePartner(ctx, p, before, first); err != nil {
		return nil, err
	}
	return p, a.partnerKeys(ctx, f, p)
}

func (a *applier) storePartner(ctx context.Context, p *partnerState, before Partner, first bool) error {
	switch {
	case !p.exists:
		id, err := a.id(ctx, "partner")
		if err != nil {
			return err
		}
		p.ID, p.exists = id, true
		a.changed(ActionCreate, "partner", p.Email)
		a.newPartners.add(int64(p.ID), p.Email, p.Name, p.PasswordHash)
	case before != p.Partner:
		a.changed(ActionUpdate, "partner", p.Email)
		if _, err := a.tx.ExecContext(ctx, `UPDATE partners SET name = $1, password_hash = $2 WHERE id = $3`, p.Name, p.PasswordHash, int64(p.ID)); err != nil {
			return fmt.Errorf("cannot store the partner %s: %w", p.Email, err)
		}
	case first:
		a.changed(ActionUnchanged, "partner", p.Email)
	}
	return nil
}

func (a *applier) partnerKeys(ctx context.Context, f *filePartner, p *partnerState) error {
	for _, t := range f.apiKeys.items {
		if !tokenPattern.MatchString(t.value) {
			a.fail(t.line, "a key has 16 to 256 visible characters of ASCII")
			continue
		}
		hash := sha256.Sum256([]byte(t.value))
		owner, known := a.apiKeys[hash]
		if !known {
			err := a.tx.QueryRowContext(ctx, `SELECT partner_id FROM api_keys WHERE hash = $1`, hash[:]).Scan(&owner)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("cannot look up an API key: %w", err)
			}
			known = err == nil
		}
		if known && owner != p.ID {
			a.fail(t.line, "this API key belongs to another partner already")
			continue
		}
		a.apiKeys[hash] = p.ID
		if known || !a.ok() {
			continue
		}
		if err := a.newPartners.flush(ctx, a.tx); err != nil {
			return err
		}
		if _, err := a.tx.ExecContext(ctx, `INSERT INTO api_keys (hash, partner_id) VALUES ($1, $2)`, hash[:], int64(p.ID)); err != nil {
			return fmt.Errorf("cannot store an API key of %s: %w", p.Email, err)
		}
		a.changed(ActionCreate, "api key", p.Email)
	}
	return nil
}

// partnership stores one partner's place in the program, and returns nil for one that can't be.
func (a *applier) partnership(ctx context.Context, f *filePartner, p *programState, partner *partnerState, m *member, byKey map[string]*member) (*member, error) {
	m, before := memberOf(m, p, partner, f)
	key, err := schema.NormalizeSlug(f.key.or(m.Key))
	if err != nil {
		a.fail(m.line, "a partner needs a key that can be a slug: %v", err)
		return nil, nil
	}
	if m.exists && key != m.Key {
		a.fail(m.line, "the key of %s in %s is %s and can't change, because a slug is for ever", partner.Email, p.Key, m.Key)
		return nil, nil
	}
	if other := byKey[key]; other != nil && other != m {
		a.fail(m.line, "the partner key %s is taken in the program %s", key, p.Key)
		return nil, nil
	}
	m.Key, byKey[key] = key, m
	if f.group.given() {
		if m.group = p.groups[f.group.value]; m.group == nil {
			a.fail(f.group.line, "the program %s has no group %q", p.Key, f.group.value)
			return nil, nil
		}
	}
	if m.group == nil {
		a.fail(f.line, "a partner needs a group")
		return nil, nil
	}
	m.State = a.state(f.state, m.State)
	if !a.ok() {
		return m, nil
	}
	return m, a.storePartnership(ctx, p, m, before)
}

// memberOf returns the partnership as it will be, as far as it is known, and as it was.
func memberOf(m *member, p *programState, partner *partnerState, f *filePartner) (now *member, before member) {
	if m == nil {
		m = &member{Partnership: Partnership{ProgramID: p.ID, PartnerID: partner.ID, State: schema.State_STATE_ACTIVE}}
	}
	before = *m
	m.line, m.links = lineOr(f.key, f.line), f.links
	return m, before
}

func (a *applier) storePartnership(ctx context.Context, p *programState, m *member, before member) error {
	name := p.Key + "/" + m.Key
	switch {
	case !m.exists:
		id, err := a.id(ctx, "partnership")
		if err != nil {
			return err
		}
		m.ID = id
		a.changed(ActionCreate, "partnership", name)
		a.newPartnerships.add(int64(m.ID), int64(p.ID), int64(m.PartnerID), int64(m.group.id), m.Key, int32(m.State))
	case before.group != m.group || before.State != m.State:
		a.changed(ActionUpdate, "partnership", name)
		if _, err := a.tx.ExecContext(ctx, `UPDATE partnerships SET group_id = $1, state = $2 WHERE id = $3`,
			int64(m.group.id), int32(m.State), int64(m.ID)); err != nil {
			return fmt.Errorf("cannot store the partnership %s: %w", name, err)
		}
		if before.State == m.State {
			return nil
		}
	default:
		a.changed(ActionUnchanged, "partnership", name)
		return nil
	}
	version, err := a.id(ctx, catalogCounter)
	if err != nil {
		return err
	}
	return a.record(partnershipRecord(version, &m.Partnership))
}
