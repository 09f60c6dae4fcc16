package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"time"
	_ "time/tzdata" // time zones must be known on every machine

	"waymark/schema"
)

// programState is a program as it will be.
type programState struct {
	Program
	rules []schema.DestinationRule
	keys  [][]byte
	// groups by key.
	groups map[string]*groupState
}

var (
	keyPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	paramPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	tokenPattern = regexp.MustCompile(`^[!-~]{16,256}$`)
)

func (a *applier) program(ctx context.Context, f *fileProgram) error {
	p, exists, err := a.loadProgram(ctx, f)
	if err != nil {
		return err
	}
	before := p.Program
	before.Hosts = slices.Clone(p.Hosts)
	a.mergeProgram(f, p)
	newHosts, err := a.programHosts(ctx, f, p, before.Hosts)
	if err != nil {
		return err
	}
	newKeys, err := a.conversionKeys(ctx, f, p)
	if err != nil {
		return err
	}
	changed := !reflect.DeepEqual(before, p.Program) || len(newKeys) > 0
	if err := a.storeProgram(ctx, p, exists, changed, newHosts, newKeys); err != nil {
		return err
	}
	if err := a.groups(ctx, f, p); err != nil {
		return err
	}
	if err := a.programPartners(ctx, f, p); err != nil {
		return err
	}
	if err := a.flush(ctx); err != nil {
		return err
	}
	return a.noteStrays(ctx, p, slices.Equal(before.AllowedDestinations, p.AllowedDestinations))
}

// loadProgram returns the program as it is, or as a new one starts.
func (a *applier) loadProgram(ctx context.Context, f *fileProgram) (*programState, bool, error) {
	p := &programState{groups: map[string]*groupState{}, Program: Program{
		Key: f.key.value, State: schema.State_STATE_ACTIVE, LinksEnabled: true, HashWindow: 24 * time.Hour, TimeZone: "UTC",
		AllowedDestinations: []string{}, ExcludedNetworks: []string{}, Passthrough: []string{},
	}}
	if !keyPattern.MatchString(f.key.value) {
		a.fail(lineOr(f.key, f.line), "a program needs a key of 1 to 64 lower-case letters, digits and hyphens")
		return p, false, nil
	}
	row := a.tx.QueryRowContext(ctx, `SELECT `+programColumns+` FROM programs p WHERE p.key = $1`, f.key.value)
	err := scanProgram(row, &p.Program)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	if err == nil {
		p.Hosts, err = programHosts(ctx, a.tx, p.ID)
	}
	if err == nil {
		p.keys, err = conversionHashes(ctx, a.tx, p.ID)
	}
	return p, true, readError("the program", f.key.value, err)
}

func conversionHashes(ctx context.Context, q querier, program uint64) ([][]byte, error) {
	rows, err := q.QueryContext(ctx, `SELECT hash FROM conversion_keys WHERE program_id = $1 ORDER BY hash`, int64(program))
	if err != nil {
		return nil, err
	}
	return collect(rows, func(hash *[]byte) error { return rows.Scan(hash) })
}

func lineOr(t text, line int) int {
	if t.given() {
		return t.line
	}
	return line
}

// mergeProgram puts what the file says over what is stored, and checks it.
func (a *applier) mergeProgram(f *fileProgram, p *programState) {
	if p.Name = f.name.or(p.Name); p.Name == "" || len(p.Name) > 200 {
		a.fail(lineOr(f.name, f.line), "a program needs a name of up to 200 bytes")
	}
	p.State = a.state(f.state, p.State)
	p.CookieWindow = a.window(f.cookieWindow, p.CookieWindow)
	p.HashWindow = a.window(f.hashWindow, p.HashWindow)
	if f.links != nil {
		p.LinksEnabled = *f.links
	}
	if f.cookies != nil {
		p.CookiesDisabled = !*f.cookies
	}
	if p.FallbackURL = f.fallback.or(p.FallbackURL); f.fallback.given() && p.FallbackURL != "" {
		if err := checkAnywhere(p.FallbackURL); err != nil {
			a.fail(f.fallback.line, "the fallback URL can't be used: %v", err)
		}
	}
	p.OptOutParam = a.param(f.optOut, p.OptOutParam)
	p.ClickIDParam = a.param(f.clickID, p.ClickIDParam)
	p.PartnerParam = a.param(f.partnerID, p.PartnerParam)
	if f.passedOn.given {
		p.Passthrough = append([]string{}, f.passedOn.values()...)
		for _, t := range f.passedOn.items {
			a.param(t, "")
		}
	}
	if f.excluded.given {
		p.ExcludedNetworks = []string{}
		for _, t := range f.excluded.items {
			network, err := netip.ParsePrefix(t.value)
			if err != nil {
				a.fail(t.line, "%q is not a network such as 192.0.2.0/24", t.value)
			}
			p.ExcludedNetworks = append(p.ExcludedNetworks, network.Masked().String())
		}
	}
	if p.TimeZone = f.timeZone.or(p.TimeZone); f.timeZone.given() {
		if _, err := time.LoadLocation(p.TimeZone); err != nil || p.TimeZone == "" || p.TimeZone == "Local" {
			a.fail(f.timeZone.line, "%q is not a time zone such as Europe/Paris", p.TimeZone)
		}
	}
	a.allowed(f, p)
}

func (a *applier) allowed(f *fileProgram, p *programState) {
	if f.allowed.given {
		p.AllowedDestinations = append([]string{}, f.allowed.values()...)
	}
	for i, rule := range p.AllowedDestinations {
		parsed, err := schema.ParseDestinationRule(rule)
		if err != nil {
			line := f.line
			if f.allowed.given {
				line = f.allowed.items[i].line
			}
			a.fail(line, "%v", err)
			continue
		}
		p.rules = append(p.rules, parsed)
	}
}

func (a *applier) state(t text, old schema.State) schema.State {
	switch t.or("") {
	case "active":
		return schema.State_STATE_ACTIVE
	case "disabled":
		return schema.State_STATE_DISABLED
	}
	if t.given() {
		a.fail(t.line, "the state must be active or disabled, not %q", t.value)
	}
	return old
}

func (a *applier) window(t text, old time.Duration) time.Duration {
	if !t.given() {
		return old
	}
	if t.value == "lifetime" {
		return 0
	}
	d, err := time.ParseDuration(t.value)
	if err != nil || d < time.Second || d > 10*365*24*time.Hour || d%time.Millisecond != 0 {
		a.fail(t.line, "a window must be lifetime or a duration such as 24h, up to 87600h, not %q", t.value)
	}
	return d
}

func (a *applier) param(t text, old string) string {
	if t.given() && t.value != "" && !paramPattern.MatchString(t.value) {
		a.fail(t.line, "%q is not the name of a query parameter: want 1 to 32 letters, digits, _ and -", t.value)
	}
	return t.or(old)
}

// checkAnywhere applies the rules of destinations except the one about allowed hosts.
func checkAnywhere(destination string) error {
	u, err := url.Parse(destination)
	if err != nil {
		return schema.CheckDestination(destination, nil)
	}
	rule, err := schema.ParseDestinationRule(u.Scheme + "://" + u.Host)
	if err != nil {
		return schema.CheckDestination(destination, nil)
	}
	return schema.CheckDestination(destination, []schema.DestinationRule{rule})
}

// programHosts adds the file's hosts, in its order, before those that the file leaves out, and returns the new ones.
func (a *applier) programHosts(ctx context.Context, f *fileProgram, p *programState, old []string) ([]string, error) {
	var hosts, added []string
	for _, t := range f.hosts.items {
		host, err := schema.NormalizeHost(t.value)
		if err != nil || slices.Contains(hosts, host) {
			a.fail(t.line, "%q is not a host name, or stands twice", t.value)
			continue
		}
		if other, ok := a.hosts[host]; ok {
			a.fail(t.line, "the host %s belongs to the program %s already", host, other)
		}
		a.hosts[host] = p.Key
		hosts = append(hosts, host)
		if slices.Contains(old, host) {
			continue
		}
		added = append(added, host)
		var owner string
		err = a.tx.QueryRowContext(ctx, `SELECT p.key FROM programs p JOIN program_hosts h ON h.program_id = p.id WHERE h.host = $1`, host).Scan(&owner)
		if err == nil {
			a.fail(t.line, "the host %s belongs to the program %s already", host, owner)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("cannot look up the host %s: %w", host, err)
		}
	}
	for _, host := range old {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
			if f.hosts.given {
				a.report.Notes = append(a.report.Notes, fmt.Sprintf("the host %s of %s is not in the file; it was left as it is", host, p.Key))
			}
		}
	}
	if len(hosts) == 0 {
		a.fail(f.line, "a program needs at least one host")
	}
	p.Hosts = hosts
	return added, nil
}

func (a *applier) conversionKeys(ctx context.Context, f *fileProgram, p *programState) ([][]byte, error) {
	var added [][]byte
	inFile := 0
	for _, t := range f.conversionKeys.items {
		if !tokenPattern.MatchString(t.value) {
			a.fail(t.line, "a key has 16 to 256 visible characters of ASCII")
			continue
		}
		hash := sha256.Sum256([]byte(t.value))
		inFile++
		if slices.ContainsFunc(p.keys, func(k []byte) bool { return string(k) == string(hash[:]) }) {
			continue
		}
		var owner string
		err := a.tx.QueryRowContext(ctx, `SELECT p.key FROM programs p JOIN conversion_keys k ON k.program_id = p.id WHERE k.hash = $1`, hash[:]).Scan(&owner)
		if err == nil {
			a.fail(t.line, "this key belongs to the program %s already", owner)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("cannot look up a conversion key: %w", err)
		}
		added, p.keys = append(added, hash[:]), append(p.keys, hash[:])
	}
	if n := len(p.keys) - inFile; n > 0 && f.conversionKeys.given {
		a.report.Notes = append(a.report.Notes, fmt.Sprintf("%d conversion keys of %s are not in the file; they were left as they are", n, p.Key))
	}
	slices.SortFunc(p.keys, bytes.Compare)
	return added, nil
}

func (a *applier) storeProgram(ctx context.Context, p *programState, exists, changed bool, hosts []string, keys [][]byte) error {
	if !a.ok() {
		return nil
	}
	values := []any{p.Key, p.Name, int32(p.State), number(p.LinksEnabled), p.FallbackURL, p.ClickIDParam, p.PartnerParam,
		p.CookieWindow.Milliseconds(), p.HashWindow.Milliseconds(), number(p.CookiesDisabled), p.TimeZone, p.OptOutParam,
		listText(p.ExcludedNetworks), listText(p.AllowedDestinations), listText(p.Passthrough)}
	var err error
	switch {
	case !exists:
		a.changed(ActionCreate, "program", p.Key)
		if p.ID, err = a.id(ctx, "program"); err != nil {
			return err
		}
		_, err = a.tx.ExecContext(ctx, `INSERT INTO programs (key, name, state, links_enabled, fallback_url, click_id_param, partner_param,
			cookie_window_ms, hash_window_ms, cookies_disabled, time_zone, opt_out_param, excluded_networks, allowed_destinations, passthrough, id)
			VALUES `+placeholders(1, 16), append(values, int64(p.ID))...)
	case changed:
		a.changed(ActionUpdate, "program", p.Key)
		_, err = a.tx.ExecContext(ctx, `UPDATE programs SET key = $1, name = $2, state = $3, links_enabled = $4, fallback_url = $5,
			click_id_param = $6, partner_param = $7, cookie_window_ms = $8, hash_window_ms = $9, cookies_disabled = $10, time_zone = $11,
			opt_out_param = $12, excluded_networks = $13, allowed_destinations = $14, passthrough = $15 WHERE id = $16`, append(values, int64(p.ID))...)
	default:
		a.changed(ActionUnchanged, "program", p.Key)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot store the program %s: %w", p.Key, err)
	}
	return a.storeProgramParts(ctx, p, hosts, keys)
}

func (a *applier) storeProgramParts(ctx context.Context, p *programState, hosts []string, keys [][]byte) error {
	for _, host := range hosts {
		if _, err := a.tx.ExecContext(ctx, `INSERT INTO program_hosts (host, program_id, position) VALUES ($1, $2, 0)`, host, int64(p.ID)); err != nil {
			return fmt.Errorf("cannot store the host %s: %w", host, err)
		}
	}
	for i, host := range p.Hosts {
		if _, err := a.tx.ExecContext(ctx, `UPDATE program_hosts SET position = $1 WHERE host = $2`, i, host); err != nil {
			return fmt.Errorf("cannot store the place of the host %s: %w", host, err)
		}
	}
	for _, hash := range keys {
		if _, err := a.tx.ExecContext(ctx, `INSERT INTO conversion_keys (hash, program_id) VALUES ($1, $2)`, hash, int64(p.ID)); err != nil {
			return fmt.Errorf("cannot store a conversion key of %s: %w", p.Key, err)
		}
	}
	version, err := a.id(ctx, catalogCounter)
	if err != nil {
		return err
	}
	return a.record(programRecord(version, &p.Program, p.keys))
}

// record puts a catalog record behind all that were given before.
func (a *applier) record(r *schema.CatalogRecord) error {
	value, err := r.MarshalVT()
	if err != nil {
		return fmt.Errorf("cannot encode the catalog record %s: %w", r.CatalogKey(), err)
	}
	a.records.add(r.CatalogKey(), int64(r.Version), value)
	return nil
}

func number(on bool) int32 {
	if on {
		return 1
	}
	return 0
}
