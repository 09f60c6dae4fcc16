package tracker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"waymark/schema"
	"waymark/tracker/journal"
)

// Visit is one visit of a link that is handed in instead of being received: the same as a request with these headers
// at that time.
type Visit struct {
	Time time.Time
	// Host and Slug name the link, in any case.
	Host, Slug string
	// Method is GET, the default, or HEAD.
	Method string
	// Query is the request's query, with or without its "?".
	Query          string
	Address        netip.Addr
	UserAgent      string
	AcceptLanguage string
	Referrer       string
	// Cookie is a Cookie header.
	Cookie       string
	SecFetchDest string
	GPC          bool
}

// ErrUnknownLink is returned for a visit of a link that the edge does not know.
var ErrUnknownLink = errors.New("the link is not known")

// Record judges and journals a visit by the code that serves requests, and returns its click id. It does not wait until
// the record is durable: see Sync. Visits of the past should be handed in in their order, because the windows of the
// dedupe set follow the time of the visits. It is safe for concurrent use.
func (t *Tracker) Record(ctx context.Context, in Visit) (clickID string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	v := t.visits.Get().(*visit)
	defer t.release(v)
	host, ok := appendHost(v.host[:0], []byte(in.Host))
	if !ok || !isSlug([]byte(in.Slug)) {
		return "", fmt.Errorf("cannot record a visit (%s/%s): %w", in.Host, in.Slug, ErrUnknownLink)
	}
	v.host, v.slug = host, appendLower(v.slug[:0], []byte(in.Slug))
	if v.target = t.links.Lookup(v.host, v.slug); v.target == nil {
		return "", fmt.Errorf("cannot record a visit (%s/%s): %w", in.Host, in.Slug, ErrUnknownLink)
	}
	if in.Method != "" && in.Method != "GET" && in.Method != "HEAD" {
		return "", fmt.Errorf("cannot record a visit (%s): want GET or HEAD", in.Method)
	}
	v.head, v.gpc = in.Method == "HEAD", in.GPC
	query := in.Query
	if len(query) > 0 && query[0] == '?' {
		query = query[1:]
	}
	v.query, v.userAgent, v.acceptLanguage = []byte(query), []byte(in.UserAgent), []byte(in.AcceptLanguage)
	v.referer, v.cookie, v.fetchDest = []byte(in.Referrer), []byte(in.Cookie), []byte(in.SecFetchDest)
	v.address = in.Address.Unmap()
	v.occurred, v.received = in.Time.UnixMilli(), time.Now().UnixMilli()
	if err = t.retryBusy(ctx, func() error { return t.retake(v) }); err != nil {
		return "", fmt.Errorf("cannot record a visit (%s/%s): %w", in.Host, in.Slug, err)
	}
	t.metrics.outcomes[v.click.EdgeVerdict].Inc()
	return v.clickID.String(), nil
}

// RecordConversion journals a conversion of a program by the code that serves the conversions API. Its type,
// idempotency key and time must be set; its id, program and receive time are filled in. It does not wait until the
// record is durable: see Sync. It is safe for concurrent use.
func (t *Tracker) RecordConversion(ctx context.Context, program uint64, c *schema.Conversion) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Type == schema.ConversionType_CONVERSION_UNSPECIFIED || c.IdempotencyKey == "" || c.OccurredMs == 0 {
		return fmt.Errorf("cannot record a conversion (%s): it needs a type, an idempotency key and a time", c.IdempotencyKey)
	}
	c.ProgramId, c.ReceivedMs = program, time.Now().UnixMilli()
	if err := t.retryBusy(ctx, func() error { _, err := t.appendConversion(c); return err }); err != nil {
		return fmt.Errorf("cannot record a conversion (%s): %w", c.IdempotencyKey, err)
	}
	t.metrics.outcomes[outcomeConversion].Inc()
	return nil
}

// retryBusy does something again, after a sync, while it fails because the journal's buffer is full: what is handed in
// comes faster than what is clicked.
func (t *Tracker) retryBusy(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, journal.ErrBusy) {
			return err
		}
		if err := t.Sync(ctx); err != nil {
			return err
		}
	}
}

// retake takes a visit, perhaps not for the first time.
func (t *Tracker) retake(v *visit) error {
	v.decoded = v.decoded[:0]
	clear(v.subIDs[:])
	resetClick(&v.click)
	_, err := t.take(v)
	return err
}
