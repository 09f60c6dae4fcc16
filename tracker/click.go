package tracker

import (
	"bytes"
	"cmp"
	"math/bits"
	"net/netip"

	"waymark/schema"
	"waymark/tracker/botfilter"
	"waymark/tracker/dedupe"
	"waymark/tracker/journal"
	"waymark/tracker/links"
	"waymark/tracker/visitor"
)

// signal returns the bit of a verdict in a set of signals.
func signal(v schema.Verdict) uint32 { return 1 << v }

// signals returns every reason not to count the visit. The visit's target and agent must be set.
func (t *Tracker) signals(v *visit) uint32 {
	var s uint32
	program := v.target.Program
	if v.target.Disabled {
		s |= signal(schema.Verdict_VERDICT_DISABLED)
	}
	if excludes(program, v) {
		s |= signal(schema.Verdict_VERDICT_EXCLUDED)
	}
	if v.head {
		s |= signal(schema.Verdict_VERDICT_HEAD)
	}
	if len(bytes.TrimSpace(v.userAgent)) == 0 {
		s |= signal(schema.Verdict_VERDICT_EMPTY_UA)
	}
	found := v.agent.signals
	if found&botfilter.Preview != 0 {
		s |= signal(schema.Verdict_VERDICT_PREVIEW)
	}
	if found&botfilter.Bot != 0 {
		s |= signal(schema.Verdict_VERDICT_BOT)
	}
	if len(v.fetchDest) > 0 && !equalFold(v.fetchDest, "document") {
		s |= signal(schema.Verdict_VERDICT_SUBRESOURCE)
	}
	return s
}

func excludes(p *links.Program, v *visit) bool {
	for _, network := range p.ExcludedNetworks {
		if network.Contains(v.address) {
			return true
		}
	}
	return len(p.OptOutParam) > 0 && hasKey(v.query, p.OptOutParam)
}

// decide returns the verdict of a set of signals: that of the lowest one, and 0 for a valid click.
func decide(signals uint32) schema.Verdict {
	if signals == 0 {
		return 0
	}
	return schema.Verdict(bits.TrailingZeros32(signals))
}

// take judges a visit of a known link, mints its click id and journals it: in memory when take returns. A valid click
// is judged under the lock of its visitor, which is held until the record has its position, so that the set and the
// journal hold the same order. After an error the visit has its verdict and click id, but no record and no mark.
func (t *Tracker) take(v *visit) (schema.Position, error) {
	v.agent = t.agents.read(v.userAgent)
	v.signals = t.signals(v)
	verdict := decide(v.signals)
	t.identify(v)
	t.clickIDs.Mint(&v.clickID, v.occurred, v.target.LinkID, t.journal.Edge(), v.random.Uint64())
	t.fill(v)
	switch {
	case t.closed.Load(): // the set may not be asked any more
		v.click.EdgeVerdict = cmp.Or(verdict, schema.Verdict_VERDICT_REPEAT)
		return 0, journal.ErrClosed
	case verdict == 0:
		return t.count(v)
	}
	v.click.EdgeVerdict = verdict
	return t.append(v)
}

// count judges a valid click by the dedupe set and journals it.
func (t *Tracker) count(v *visit) (position schema.Position, err error) {
	v.claim.Key = dedupe.MakeKey(v.target.PartnershipID, &v.id)
	v.claim.Link = v.target.LinkID
	v.claim.TimeMillis, v.claim.WindowMillis = v.occurred, v.click.WindowMs
	txn := t.set.Begin(&v.claim)
	done := false
	defer func() {
		if !done {
			txn.Abort()
		}
	}()
	decision := txn.Decision()
	v.click.EdgeVerdict = schema.Verdict_VERDICT_REPEAT
	if decision.Unique {
		v.click.EdgeVerdict = schema.Verdict_VERDICT_UNIQUE
	}
	v.click.EdgeLinkUnique = decision.LinkUnique
	if position, err = t.append(v); err != nil {
		return 0, err
	}
	txn.Commit(position)
	done = true
	return position, nil
}

// append encodes the visit's click and hands it to the journal.
func (t *Tracker) append(v *visit) (schema.Position, error) {
	size := v.click.SizeVT()
	if cap(v.value) < size {
		v.value = make([]byte, size+size/2)
	}
	v.value = v.value[:size]
	if _, err := v.click.MarshalToSizedBufferVT(v.value); err != nil {
		return 0, err
	}
	partition := schema.PartitionOf(&v.id, t.config.ClicksPartitions)
	return t.journaled(t.journal.Append(schema.TopicClicks, uint16(partition), schema.RecordClick, v.id[:], v.value))
}

// journaled remembers the highest position that was handed out, for Sync.
func (t *Tracker) journaled(position schema.Position, err error) (schema.Position, error) {
	for last := t.last.Load(); err == nil && last < uint64(position); last = t.last.Load() {
		if t.last.CompareAndSwap(last, uint64(position)) {
			break
		}
	}
	return position, err
}

// unmark takes back the mark of a click whose record was lost before it was durable.
func (t *Tracker) unmark(v *visit, position schema.Position) {
	if v.click.EdgeVerdict.Valid() {
		t.set.Undo(lane, v.claim.Key, position)
	}
}

// identify finds the visitor: by a cookie that we signed, else by the hash of the request, which is also the id that a
// new cookie carries.
func (t *Tracker) identify(v *visit) {
	program := v.target.Program
	v.cookies = !program.CookiesDisabled && !v.gpc
	v.click.Identity, v.click.WindowMs = schema.Identity_IDENTITY_HASH, program.HashWindowMillis
	if v.cookies && len(v.cookie) > 0 && t.cookies.Find(&v.id, &v.cookieMemory, v.target.ProgramID, v.cookie) {
		v.click.Identity, v.click.WindowMs = schema.Identity_IDENTITY_COOKIE, program.CookieWindowMillis
		return
	}
	v.traits.Program, v.traits.Address = v.target.ProgramID, v.address
	v.traits.UserAgent, v.traits.AcceptLanguage = v.userAgent, v.acceptLanguage
	t.hasher.Sum(&v.id, &v.traits)
}

// fill writes what is known of the visit into its event.
func (t *Tracker) fill(v *visit) {
	c := &v.click
	c.ProgramId, c.PartnerId, c.PartnershipId, c.LinkId = v.target.ProgramID, v.target.PartnerID, v.target.PartnershipID, v.target.LinkID
	c.OccurredMs, c.ReceivedMs = v.occurred, v.received
	c.ClickId, c.Visitor = v.clickID[:], v.id[:]
	c.Signals = v.signals
	c.UserAgent = v.userAgent[:min(len(v.userAgent), schema.MaxUserAgent)]
	agent := v.agent.device
	if v.signals&signal(schema.Verdict_VERDICT_BOT) != 0 && agent.Device == schema.DeviceClass_DEVICE_UNKNOWN {
		agent.Device = schema.DeviceClass_DEVICE_BOT
	}
	c.Device, c.Browser, c.Os = agent.Device, agent.Browser, agent.OS
	c.Country = t.countries.Country(v.address)
	start := len(v.decoded)
	v.decoded = appendReferrerHost(v.decoded, v.referer)
	c.ReferrerHost = v.decoded[start:]
	v.readQuery()
}

// clientAddress returns who is behind a request from a socket.
func (t *Tracker) clientAddress(socket netip.Addr, forwarded [][]byte) netip.Addr {
	return t.proxies.Client(socket, forwarded)
}

// appendCookie appends the header that gives the visitor its cookie, for as long as browsers keep one.
func (t *Tracker) appendCookie(dst []byte, v *visit) []byte {
	dst = append(dst, visitor.CookieName+"="...)
	dst = t.cookies.Append(dst, &v.cookieMemory, v.target.ProgramID, &v.id)
	dst = append(dst, "; Max-Age=34560000; Path=/; HttpOnly; SameSite=Lax"...)
	if v.secure {
		dst = append(dst, "; Secure"...)
	}
	return dst
}
