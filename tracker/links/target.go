package links

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync/atomic"

	"waymark/schema"
)

// Program is what the edge knows of a program. It never changes; a change makes a new one.
type Program struct {
	ID           uint64
	Key          string
	LinksEnabled bool
	// Where customers of disabled links go; empty: a plain page.
	FallbackURL []byte
	// Query parameters that carry the click id and, if not empty, the partner key.
	ClickIDParam, PartnerParam []byte
	// Windows in milliseconds; 0 = for ever.
	CookieWindowMillis, HashWindowMillis int64
	CookiesDisabled                      bool
	ExcludedNetworks                     []netip.Prefix
	// OptOutParam is the query parameter whose presence excludes a visit; empty: none.
	OptOutParam []byte
	// Passthrough lists query keys that are handed on besides the sub ids and UTM.
	Passthrough [][]byte

	state   schema.State
	version uint64
	rules   []schema.DestinationRule
	keys    [][sha256.Size]byte
}

// Target is where a link leads and whom its clicks belong to. It never changes; a change makes a new one.
type Target struct {
	LinkID, PartnershipID, PartnerID, ProgramID uint64
	Destination                                 []byte
	PartnerKey                                  []byte
	// Disabled says that the link, its partnership or its program is off.
	Disabled bool
	Program  *Program
}

// DefaultClickIDParam is the query parameter that carries the click id where a program names none.
const DefaultClickIDParam = "wm_cid"

func newProgram(p *schema.Program, version uint64) (*Program, error) {
	if p.GetId() == 0 || p.GetKey() == "" {
		return nil, fmt.Errorf("program %d has no id or key", p.GetId())
	}
	program := &Program{
		ID: p.GetId(), Key: p.GetKey(), LinksEnabled: p.GetLinksEnabled(), FallbackURL: []byte(p.GetFallbackUrl()),
		ClickIDParam: []byte(p.GetClickIdParam()), PartnerParam: []byte(p.GetPartnerParam()),
		CookieWindowMillis: p.GetCookieWindowMs(), HashWindowMillis: p.GetHashWindowMs(), CookiesDisabled: p.GetCookiesDisabled(),
		OptOutParam: []byte(p.GetOptOutParam()), state: p.GetState(), version: version,
	}
	if len(program.ClickIDParam) == 0 {
		program.ClickIDParam = []byte(DefaultClickIDParam)
	}
	if program.CookieWindowMillis < 0 || program.HashWindowMillis < 0 {
		return nil, fmt.Errorf("program %d has a negative window", p.GetId())
	}
	for _, s := range p.GetAllowedDestinations() {
		rule, err := schema.ParseDestinationRule(s)
		if err != nil {
			return nil, fmt.Errorf("program %d: %w", p.GetId(), err)
		}
		program.rules = append(program.rules, rule)
	}
	if len(program.FallbackURL) > 0 {
		if err := schema.CheckDestination(p.GetFallbackUrl(), program.rules); err != nil {
			return nil, fmt.Errorf("program %d: fallback: %w", p.GetId(), err)
		}
	}
	for _, s := range p.GetExcludedNetworks() {
		network, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("program %d: %w", p.GetId(), err)
		}
		program.ExcludedNetworks = append(program.ExcludedNetworks, network)
	}
	for _, key := range p.GetPassthrough() {
		program.Passthrough = append(program.Passthrough, []byte(key))
	}
	for _, hash := range p.GetConversionKeyHashes() {
		if len(hash) != sha256.Size {
			return nil, fmt.Errorf("program %d has a key hash of %d bytes", p.GetId(), len(hash))
		}
		program.keys = append(program.keys, [sha256.Size]byte(hash))
	}
	return program, nil
}

type partnership struct {
	programID, partnerID uint64
	key                  []byte
	state                schema.State
	version              uint64
	links                []*link
}

// link is one link of the catalog. Its target is nil while its program or partnership is not known, or when it has been
// deleted. All else is guarded by Table.mu.
type link struct {
	target        atomic.Pointer[Target]
	version       uint64
	id            uint64
	programID     uint64
	partnershipID uint64
	partnerID     uint64
	place         string // host, a zero byte, slug
	destination   []byte
	state         schema.State
}

// checkLink returns the place of a link whose record is well formed.
func checkLink(l *schema.Link) (place string, err error) {
	host, err := schema.NormalizeHost(l.GetHost())
	if err != nil || host != l.GetHost() {
		return "", fmt.Errorf("link %d: %q is not a host in normal form", l.GetId(), l.GetHost())
	}
	slug, err := schema.NormalizeSlug(l.GetSlug())
	if err != nil || slug != l.GetSlug() {
		return "", fmt.Errorf("link %d: %q is not a slug in normal form", l.GetId(), l.GetSlug())
	}
	if l.GetId() == 0 || l.GetProgramId() == 0 || l.GetPartnershipId() == 0 {
		return "", fmt.Errorf("link %d has no id, program or partnership", l.GetId())
	}
	return host + "\x00" + slug, nil
}
