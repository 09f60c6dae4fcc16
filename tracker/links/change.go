package links

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"

	"waymark/schema"
)

var errOld = errors.New("an older version than the one in force")

// change applies a record to the table in memory, whose mutex is held. With an error nothing has changed.
func (t *Table) change(r *schema.CatalogRecord) (refusal, error) {
	switch e := r.GetEntity().(type) {
	case *schema.CatalogRecord_Program:
		return refusedProgram, t.changeProgram(e.Program, r.GetVersion())
	case *schema.CatalogRecord_Partnership:
		return refusedPartnership, t.changePartnership(e.Partnership, r.GetVersion())
	case *schema.CatalogRecord_Link:
		return t.changeLink(e.Link, r.GetVersion())
	}
	return refusedGarbage, errors.New("the record is about nothing that is known here")
}

func (t *Table) changeProgram(p *schema.Program, version uint64) error {
	old := t.programs[p.GetId()]
	if old != nil && old.version >= version {
		return errOld
	}
	program, err := newProgram(p, version)
	if err != nil {
		return err
	}
	t.programs[program.ID] = program
	keys := map[[sha256.Size]byte]*Program{}
	for _, p := range t.programs {
		if p.state != schema.State_STATE_ACTIVE {
			continue
		}
		for _, k := range p.keys {
			keys[k] = p
		}
	}
	t.keys.Store(&keys)
	for _, partnership := range t.partnerships {
		if partnership.programID == program.ID {
			t.resolve(partnership.links...)
		}
	}
	return nil
}

func (t *Table) changePartnership(p *schema.Partnership, version uint64) error {
	if p.GetId() == 0 || p.GetProgramId() == 0 {
		return fmt.Errorf("partnership %d has no id or program", p.GetId())
	}
	known := t.partnershipOf(p.GetId())
	if known.version >= version {
		return errOld
	}
	known.programID, known.partnerID, known.key = p.GetProgramId(), p.GetPartnerId(), []byte(p.GetPartnerKey())
	known.state, known.version = p.GetState(), version
	t.resolve(known.links...)
	return nil
}

// partnershipOf returns a partnership, which has version 0 as long as its record has not come.
func (t *Table) partnershipOf(id uint64) *partnership {
	p := t.partnerships[id]
	if p == nil {
		p = &partnership{}
		t.partnerships[id] = p
	}
	return p
}

func (t *Table) changeLink(l *schema.Link, version uint64) (refusal, error) {
	known := t.links[l.GetId()]
	if known != nil && known.version >= version {
		return refusedLink, errOld
	}
	place, err := checkLink(l)
	if err != nil {
		return refusedLink, err
	}
	if program := t.programs[l.GetProgramId()]; program != nil && l.GetState() == schema.State_STATE_ACTIVE {
		if err := schema.CheckDestination(l.GetDestination(), program.rules); err != nil {
			return refusedDestination, fmt.Errorf("link %d: %w", l.GetId(), err)
		}
	}
	sh := &t.shards[maphash.String(t.seed, place)%shardCount]
	sh.mu.RLock()
	holder := sh.links[place]
	sh.mu.RUnlock()
	if holder != nil && holder.id != l.GetId() {
		return refusedLink, fmt.Errorf("link %d has the place of link %d", l.GetId(), holder.id)
	}
	if known != nil && (known.place != place || known.programID != l.GetProgramId() || known.partnershipID != l.GetPartnershipId()) {
		return refusedLink, fmt.Errorf("link %d has moved, which links never do", l.GetId())
	}
	if known == nil {
		known = &link{id: l.GetId(), programID: l.GetProgramId(), partnershipID: l.GetPartnershipId(), place: place}
		t.links[known.id] = known
		partnership := t.partnershipOf(known.partnershipID)
		partnership.links = append(partnership.links, known)
	}
	known.version, known.partnerID, known.state = version, l.GetPartnerId(), l.GetState()
	known.destination = []byte(l.GetDestination())
	t.resolve(known)
	if holder == nil {
		sh.mu.Lock()
		sh.links[place] = known
		sh.mu.Unlock()
	}
	return 0, nil
}

// resolve makes the targets of links anew from what is known of their programs and partnerships.
func (t *Table) resolve(links ...*link) {
	for _, l := range links {
		l.target.Store(t.target(l))
	}
}

func (t *Table) target(l *link) *Target {
	program, partnership := t.programs[l.programID], t.partnerships[l.partnershipID]
	if program == nil || partnership == nil || partnership.version == 0 || l.state == schema.State_STATE_DELETED {
		return nil
	}
	active := schema.State_STATE_ACTIVE
	target := &Target{
		LinkID: l.id, PartnershipID: l.partnershipID, PartnerID: l.partnerID, ProgramID: l.programID,
		Destination: l.destination, PartnerKey: partnership.key, Program: program,
		Disabled: l.state != active || partnership.state != active || program.state != active || !program.LinksEnabled,
	}
	if !target.Disabled && schema.CheckDestination(string(l.destination), program.rules) != nil {
		t.metrics.refused[refusedDestination].Inc()
		target.Disabled = true
	}
	return target
}
