package tracker

import (
	crand "crypto/rand"
	"math/rand/v2"
	"net/netip"

	"waymark/schema"
	"waymark/tracker/dedupe"
	"waymark/tracker/links"
	"waymark/tracker/visitor"
)

// visit is the state of one visit of a link: what was asked, what it was judged as, and the memory for both. Visits
// are pooled; what points into a request is cleared by reset.
type visit struct {
	// What was asked. The slices belong to the request.
	target                                                       *links.Target
	head, gpc, secure                                            bool
	query, userAgent, acceptLanguage, referer, cookie, fetchDest []byte
	address                                                      netip.Addr
	occurred, received                                           int64 // milliseconds since the Unix epoch

	// What came of it.
	id      visitor.ID
	cookies bool // whether the visitor may have a cookie
	agent   agent
	signals uint32
	clickID schema.RawClickID
	click   schema.Click
	claim   dedupe.Claim

	// Memory.
	host, slug   []byte
	traits       visitor.Traits
	cookieMemory visitor.Cookie
	subIDs       [len(subIDNames)][]byte
	decoded      []byte
	text         []byte
	location     []byte
	setCookie    []byte
	value        []byte
	random       *rand.ChaCha8
}

// The names of sub ids, in the order in which events hold them, and of the parameter that tells how a link was opened.
var subIDNames = [...]string{"sid", "sid1", "sid2", "sid3", "sid4", "sid5"}

const (
	triggerParam = "wm"
	triggerQR    = "qr"
)

func newVisit() *visit {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		panic("BUG: crypto/rand has failed: " + err.Error()) // it never returns an error
	}
	return &visit{
		host: make([]byte, 0, 256), slug: make([]byte, 0, schema.MaxSlug), decoded: make([]byte, 0, 2048), text: make([]byte, 0, schema.ClickIDTextSize),
		location: make([]byte, 0, 1024), setCookie: make([]byte, 0, 128), value: make([]byte, 1024), random: rand.NewChaCha8(seed),
	}
}

// maxKept is the most memory, in bytes, that one buffer of a pooled visit keeps.
const maxKept = 8 << 10

func (v *visit) reset() {
	v.target = nil
	v.head, v.gpc, v.secure, v.cookies = false, false, false, false
	v.query, v.userAgent, v.acceptLanguage, v.referer, v.cookie, v.fetchDest = nil, nil, nil, nil, nil, nil
	v.traits.UserAgent, v.traits.AcceptLanguage = nil, nil
	v.signals = 0
	resetClick(&v.click)
	v.claim = dedupe.Claim{Lane: lane}
	clear(v.subIDs[:])
	v.host, v.slug, v.decoded, v.text = v.host[:0], v.slug[:0], v.decoded[:0], v.text[:0]
	v.location, v.setCookie = kept(v.location), kept(v.setCookie)
	if cap(v.value) > maxKept {
		v.value = make([]byte, 1024)
	}
}

func kept(b []byte) []byte {
	if cap(b) > maxKept {
		return nil
	}
	return b[:0]
}

// resetClick clears an event's fields. Its protobuf state is left alone, which Reset would make anew.
func resetClick(c *schema.Click) {
	c.EdgeVerdict, c.EdgeLinkUnique, c.Signals, c.Trigger = 0, false, 0, 0
	c.ClickId, c.Visitor, c.UserAgent, c.ReferrerHost, c.SubIds = nil, nil, nil, nil, nil
	c.Country, c.Region, c.City = nil, nil, nil
	c.UtmSource, c.UtmMedium, c.UtmCampaign, c.UtmTerm, c.UtmContent = nil, nil, nil, nil, nil
}

// readQuery reads the parameters that are kept of a click. The first of a name counts.
func (v *visit) readQuery() {
	c := &v.click
	query, last := v.query, 0
	for n := 0; len(query) > 0 && n < maxParameters; n++ {
		var key, value []byte
		key, value, query = cutParameter(query)
		switch {
		case len(value) == 0:
		case isKey(key, triggerParam):
			if isKey(value, triggerQR) {
				c.Trigger = schema.Trigger_TRIGGER_QR
			}
		case isKey(key, "utm_source"):
			v.keep(&c.UtmSource, value)
		case isKey(key, "utm_medium"):
			v.keep(&c.UtmMedium, value)
		case isKey(key, "utm_campaign"):
			v.keep(&c.UtmCampaign, value)
		case isKey(key, "utm_term"):
			v.keep(&c.UtmTerm, value)
		case isKey(key, "utm_content"):
			v.keep(&c.UtmContent, value)
		default:
			for i, name := range subIDNames {
				if isKey(key, name) {
					v.keep(&v.subIDs[i], value)
					last = max(last, i+1)
				}
			}
		}
	}
	c.SubIds = v.subIDs[:last]
}

// keep decodes a value into the visit's memory, if the field is still empty.
func (v *visit) keep(field *[]byte, value []byte) {
	if len(*field) > 0 {
		return
	}
	start := len(v.decoded)
	v.decoded = appendDecoded(v.decoded, value, schema.MaxSubID)
	*field = v.decoded[start:len(v.decoded):len(v.decoded)]
}

// allows reports whether a parameter of the request, named by its encoded key, is handed on to the destination.
func (v *visit) allows(key []byte) bool {
	for _, name := range subIDNames {
		if isKey(key, name) {
			return true
		}
	}
	d := decoded{key}
	for i := 0; ; i++ {
		if i == len("utm_") {
			return len(d.rest) > 0
		}
		if c, ok := d.next(); !ok || c != "utm_"[i] {
			break
		}
	}
	for _, name := range v.target.Program.Passthrough {
		if isKey(key, name) {
			return true
		}
	}
	return false
}

// buildLocation writes where the visitor goes: the destination with its parameters, or, when the link is off, the
// program's fallback as it stands. It is empty when there is no fallback.
func (v *visit) buildLocation() {
	program := v.target.Program
	if v.target.Disabled {
		v.location = append(v.location, program.FallbackURL...)
		return
	}
	v.text = v.clickID.AppendText(v.text[:0])
	v.location = appendLocation(v.location, v.target.Destination, ours{
		clickIDParam: program.ClickIDParam, clickID: v.text,
		partnerParam: program.PartnerParam, partner: v.target.PartnerKey,
	}, v.query, v.allows)
}
