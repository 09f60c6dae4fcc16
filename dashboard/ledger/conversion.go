package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"waymark/schema"
)

const (
	// clickAhead is how far a click may lie after the conversion that names it: merchants report dates, and clocks differ.
	clickAhead = 24 * time.Hour
	// maxAmount keeps sums of many amounts far from the end of an int64.
	maxAmount = 1_000_000_000_000_000
	// maxOwners bounds the memory of who owns which link.
	maxOwners = 100_000
)

// What becomes of a conversion's click id. Only an attributed one credits somebody.
const (
	clickNone       = "none"
	clickAttributed = "attributed"
	clickForged     = "forged"
	clickForeign    = "foreign"
	clickExpired    = "expired"
	clickEarly      = "early"
)

// What becomes of a conversion besides.
const (
	outcomeRepeated = "repeated"
	outcomeConflict = "conflict"
)

// owner is who a link belongs to, for ever. The zero value is nobody.
type owner struct{ program, partner, partnership uint64 }

// credit is a click that somebody is credited for. The zero value is none.
type credit struct {
	clickMillis int64
	link        uint64
	partner     uint64
	partnership uint64
}

func (c credit) given() bool { return c.partnership != 0 }

// fact is what counts of a conversion.
type fact struct {
	id       [16]byte
	typ      schema.ConversionType
	amount   int64
	currency string
	occurred int64
	received int64
	credit   credit
}

// usable reports whether a conversion is one that an edge would write.
func usable(c *schema.Conversion) bool {
	money := c.Type == schema.ConversionType_CONVERSION_SALE || c.Type == schema.ConversionType_CONVERSION_REFUND
	return len(c.Id) == 16 && c.ProgramId != 0 && c.Type >= schema.ConversionType_CONVERSION_LEAD && c.Type <= schema.ConversionType_CONVERSION_REFUND &&
		c.Amount >= 0 && c.Amount <= maxAmount && (!money || len(c.Currency) == 3) &&
		c.OccurredMs >= 0 && c.OccurredMs < maxMillis && c.ReceivedMs >= 0 && c.ReceivedMs < maxMillis &&
		isText(c.CustomerKey) && isText(c.Currency) && isText(c.IdempotencyKey)
}

// isText reports whether every database takes the string as text.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// content returns a hash of what the merchant said. A time that the edge filled in, because none was said, is no part of
// it, so that a report that is sent again is the same.
func content(c *schema.Conversion) [32]byte {
	occurred := c.OccurredMs
	if occurred == c.ReceivedMs {
		occurred = -1
	}
	h := sha256.New()
	number := func(n int64) { h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	text := func(s string) {
		number(int64(len(s)))
		h.Write([]byte(s))
	}
	number(int64(c.ProgramId))
	number(int64(c.Type))
	text(string(c.ClickId))
	text(c.CustomerKey)
	text(c.Code)
	number(c.Amount)
	text(c.Currency)
	number(occurred)
	return [32]byte(h.Sum(nil))
}

// conversion takes in one conversion whose record is new.
func (b *book) conversion(ctx context.Context, c *schema.Conversion, payload []byte) error {
	sum := content(c)
	var before []byte
	err := b.tx.QueryRowContext(ctx, `SELECT content FROM conversions WHERE id = $1`, c.Id).Scan(&before)
	switch {
	case err == nil && bytes.Equal(before, sum[:]):
		b.tally.conversions[outcomeRepeated]++
		return nil
	case err == nil:
		return b.conflict(ctx, c, sum, payload)
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("cannot look up conversion %x: %w", c.Id, err)
	}
	f := fact{id: [16]byte(c.Id), typ: c.Type, amount: c.Amount, currency: c.Currency, occurred: c.OccurredMs, received: c.ReceivedMs}
	click, err := b.judge(ctx, c, &f.credit)
	if err != nil {
		return err
	}
	b.tally.conversions[click]++
	var who *customer
	if c.CustomerKey != "" {
		if who, err = b.customer(ctx, c.ProgramId, c.CustomerKey); err != nil {
			return err
		}
	}
	var customerID uint64
	if who != nil {
		customerID = who.id
	}
	_, err = b.tx.ExecContext(ctx, `INSERT INTO conversions (id, content, program_id, type, customer_id, amount, currency, occurred_ms, received_ms,
		idempotency_key, click, click_ms, link_id, partner_id, partnership_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		c.Id, sum[:], int64(c.ProgramId), int32(c.Type), int64(customerID), c.Amount, c.Currency, c.OccurredMs, c.ReceivedMs,
		c.IdempotencyKey, click, f.credit.clickMillis, int64(f.credit.link), int64(f.credit.partner), int64(f.credit.partnership))
	if err != nil {
		return fmt.Errorf("cannot store conversion %x: %w", c.Id, err)
	}
	return b.settle(ctx, c.ProgramId, who, f)
}

func (b *book) conflict(ctx context.Context, c *schema.Conversion, sum [32]byte, payload []byte) error {
	b.tally.conversions[outcomeConflict]++
	_, err := b.tx.ExecContext(ctx, `INSERT INTO conversion_conflicts (id, content, received_ms, payload) VALUES ($1, $2, $3, $4)
		ON CONFLICT DO NOTHING`, c.Id, sum[:], c.ReceivedMs, payload)
	if err != nil {
		return fmt.Errorf("cannot keep the conflict with conversion %x: %w", c.Id, err)
	}
	return nil
}

// judge says what becomes of the click id, and whom it credits.
func (b *book) judge(ctx context.Context, c *schema.Conversion, to *credit) (string, error) {
	if len(c.ClickId) == 0 {
		return clickNone, nil
	}
	if len(c.ClickId) != schema.ClickIDSize {
		return clickForged, nil
	}
	id := schema.RawClickID(c.ClickId)
	if !b.l.config.ClickIDs.Check(&id) {
		return clickForged, nil
	}
	o, err := b.owner(ctx, id.Link())
	if err != nil {
		return "", err
	}
	age := time.Duration(c.OccurredMs-id.TimeMillis()) * time.Millisecond
	switch {
	case o.partnership == 0 || o.program != c.ProgramId:
		return clickForeign, nil
	case age > b.l.config.Window:
		return clickExpired, nil
	case age < -clickAhead:
		return clickEarly, nil
	}
	*to = credit{clickMillis: id.TimeMillis(), link: id.Link(), partner: o.partner, partnership: o.partnership}
	return clickAttributed, nil
}

// owner returns who a link belongs to; nobody for one that does not exist.
func (b *book) owner(ctx context.Context, link uint64) (owner, error) {
	if o, ok := b.owners[link]; ok {
		return o, nil
	}
	var o owner
	err := b.tx.QueryRowContext(ctx, `SELECT s.program_id, s.partner_id, s.id FROM links l JOIN partnerships s ON s.id = l.partnership_id
		WHERE l.id = $1`, int64(link)).Scan(&o.program, &o.partner, &o.partnership)
	if errors.Is(err, sql.ErrNoRows) {
		return owner{}, nil
	}
	if err != nil {
		return owner{}, fmt.Errorf("cannot look up the owner of link %d: %w", link, err)
	}
	if len(b.owners) >= maxOwners {
		clear(b.owners)
	}
	b.owners[link] = o
	return o, nil
}
