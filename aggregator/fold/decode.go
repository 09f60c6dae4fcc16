package fold

import (
	"errors"
	"fmt"

	"waymark/schema"
)

// Record is one record of a partition as it lies in Kafka. The fold keeps no reference to its bytes after Apply, except in
// dead letters.
type Record struct {
	Offset uint64
	// Header is the value of the record header [schema.HeaderKey]; nil if there is none.
	Header []byte
	Key    []byte
	Value  []byte
}

// Reason says why a record became a dead letter. It is one of a closed set, fit for a metric label.
type Reason string

// The reasons of dead letters.
const (
	ReasonHeader  Reason = "header"  // no header, or one that cannot be read
	ReasonVersion Reason = "version" // written under a version that is not known
	ReasonType    Reason = "type"    // of a type that has no place in this log
	ReasonNumber  Reason = "number"  // numbered 0
	ReasonPayload Reason = "payload" // the message cannot be decoded
	ReasonValue   Reason = "value"   // a field holds what no edge writes
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{ReasonHeader, ReasonVersion, ReasonType, ReasonNumber, ReasonPayload, ReasonValue}
}

// DeadLetter is a record that could not be folded.
type DeadLetter struct {
	Log       string
	Partition uint16
	Record    Record
	Reason    Reason
	Detail    string
}

// maxMillis is the end of the year 2105, the last that a quarter's 32 bits of seconds hold whole.
const maxMillis = 4291747200000

// maxText bounds, in bytes, the texts that have no bound of their own in schema.
const maxText = 256

// event is a decoded record. Exactly one of its messages is set, unless reason is.
type event struct {
	rec    Record
	header schema.Header
	// numbered says that the header can be read and its number counts.
	numbered bool
	reason   Reason
	detail   error

	click *schema.Click
	entry *schema.LedgerEntry
	tick  *schema.Tick
	open  *schema.Open
	hole  *schema.Hole
	end   bool
}

// decode reads a record. It depends on nothing but the record.
func decode(topic schema.Topic, rec Record) event {
	e := event{rec: rec}
	h, err := schema.ParseHeader(rec.Header)
	if err != nil {
		return e.dead(ReasonHeader, err)
	}
	e.header = h
	if h.Type != schema.RecordTick {
		if h.Number == 0 {
			return e.dead(ReasonNumber, errors.New("numbers start at 1"))
		}
		e.numbered = true
	}
	if h.Version != schema.Version {
		return e.dead(ReasonVersion, fmt.Errorf("version %d, want %d", h.Version, schema.Version))
	}
	switch {
	case h.Type == schema.RecordTick:
		e.tick = &schema.Tick{}
		err = e.tick.UnmarshalVT(rec.Value)
		if err == nil && !validMillis(e.tick.TimeMs) {
			return e.dead(ReasonValue, fmt.Errorf("tick at %d ms", e.tick.TimeMs))
		}
	case h.Type == schema.RecordOpen:
		e.open = &schema.Open{}
		err = e.open.UnmarshalVT(rec.Value)
	case h.Type == schema.RecordHole:
		e.hole = &schema.Hole{}
		err = e.hole.UnmarshalVT(rec.Value)
		if err == nil && (e.hole.First == 0 || e.hole.First > e.hole.Last) {
			return e.dead(ReasonValue, fmt.Errorf("hole of numbers %d to %d", e.hole.First, e.hole.Last))
		}
	case h.Type == schema.RecordEnd:
		e.end = true
		err = new(schema.End).UnmarshalVT(rec.Value)
	case h.Type == schema.RecordClick && topic == schema.TopicClicks:
		return e.decodeClick()
	case h.Type == schema.RecordLedgerEntry && topic == schema.TopicLedger:
		return e.decodeEntry()
	default:
		return e.dead(ReasonType, fmt.Errorf("type %d in %s", h.Type, topic))
	}
	if err != nil {
		return e.dead(ReasonPayload, err)
	}
	return e
}

func (e event) dead(r Reason, detail error) event {
	return event{rec: e.rec, header: e.header, numbered: e.numbered, reason: r, detail: detail}
}

func (e event) decodeClick() event {
	c := &schema.Click{}
	if err := c.UnmarshalVT(e.rec.Value); err != nil {
		return e.dead(ReasonPayload, err)
	}
	var bad error
	switch {
	case !validMillis(c.OccurredMs) || !validMillis(c.ReceivedMs):
		bad = fmt.Errorf("occurred at %d ms, received at %d ms", c.OccurredMs, c.ReceivedMs)
	case len(c.Visitor) != 16:
		bad = fmt.Errorf("visitor of %d bytes, want 16", len(c.Visitor))
	case len(c.ClickId) != 0 && len(c.ClickId) != schema.ClickIDSize:
		bad = fmt.Errorf("click id of %d bytes, want %d", len(c.ClickId), schema.ClickIDSize)
	case c.WindowMs < 0:
		bad = fmt.Errorf("window of %d ms", c.WindowMs)
	case !c.EdgeVerdict.Valid() && c.EdgeVerdict.Reason() == "":
		bad = fmt.Errorf("verdict %d", c.EdgeVerdict)
	case c.PartnershipId == 0 || c.LinkId == 0:
		bad = fmt.Errorf("partnership %d, link %d", c.PartnershipId, c.LinkId)
	}
	if bad != nil {
		return e.dead(ReasonValue, bad)
	}
	bound(c)
	e.click = c
	return e
}

// bound cuts texts that are longer than any edge writes.
func bound(c *schema.Click) {
	cut := func(b *[]byte, limit int) {
		if len(*b) > limit {
			*b = (*b)[:limit]
		}
	}
	cut(&c.UserAgent, schema.MaxUserAgent)
	cut(&c.ReferrerHost, schema.MaxReferrerHost)
	for _, b := range []*[]byte{&c.Country, &c.Region, &c.City, &c.UtmSource, &c.UtmMedium, &c.UtmCampaign, &c.UtmTerm, &c.UtmContent} {
		cut(b, maxText)
	}
	if len(c.SubIds) > 6 {
		c.SubIds = c.SubIds[:6]
	}
	for i := range c.SubIds {
		cut(&c.SubIds[i], schema.MaxSubID)
	}
}

func (e event) decodeEntry() event {
	l := &schema.LedgerEntry{}
	if err := l.UnmarshalVT(e.rec.Value); err != nil {
		return e.dead(ReasonPayload, err)
	}
	var bad error
	switch {
	case !validMillis(l.OccurredMs):
		bad = fmt.Errorf("occurred at %d ms", l.OccurredMs)
	case l.PartnershipId == 0:
		bad = errors.New("no partnership")
	case kindOf(l.Kind) == 0:
		bad = fmt.Errorf("kind %d", l.Kind)
	case l.Kind != schema.EntryKind_ENTRY_REFERRED && len(l.Currency) != 3:
		bad = fmt.Errorf("currency %q", l.Currency)
	}
	if bad != nil {
		return e.dead(ReasonValue, bad)
	}
	e.entry = l
	return e
}

// kindOf returns the kind of total that an entry of the ledger goes to, or 0.
func kindOf(k schema.EntryKind) schema.TotalKind {
	switch k {
	case schema.EntryKind_ENTRY_REFERRED:
		return schema.TotalReferred
	case schema.EntryKind_ENTRY_SOLD:
		return schema.TotalSold
	case schema.EntryKind_ENTRY_EARNED:
		return schema.TotalEarned
	case schema.EntryKind_ENTRY_PENDING:
		return schema.TotalPending
	}
	return 0
}

func validMillis(t int64) bool { return t >= 0 && t < maxMillis }
