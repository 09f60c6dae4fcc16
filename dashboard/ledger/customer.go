package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"waymark/schema"
)

// moment is a conversion that decides whose a customer is. The zero value is none.
type moment struct {
	id     []byte
	millis int64
	credit credit
}

func (m moment) given() bool { return len(m.id) > 0 }

// after reports whether the moment lies after a conversion, or there is none yet. Of two at once the one with the lower id
// is first.
func (m moment) after(f fact) bool {
	return !m.given() || f.occurred < m.millis || f.occurred == m.millis && bytes.Compare(f.id[:], m.id) < 0
}

// customer is a person as the merchant knows them.
type customer struct {
	id     uint64
	signup moment
	touch  moment
}

// owner returns who the customer belongs to, and whether they are referred.
func (c *customer) owner() (credit, bool) {
	switch {
	case c.signup.credit.given():
		return c.signup.credit, true
	case c.touch.given():
		return c.touch.credit, c.signup.given() && c.touch.millis <= c.signup.millis
	}
	return credit{}, false
}

// note takes a conversion in, and reports whether it is the first of its sort now.
func (c *customer) note(f fact) bool {
	m := moment{id: bytes.Clone(f.id[:]), millis: f.occurred, credit: f.credit}
	switch {
	case f.typ == schema.ConversionType_CONVERSION_SIGNUP && c.signup.after(f):
		c.signup = m
		return true
	case f.typ != schema.ConversionType_CONVERSION_SIGNUP && f.typ != schema.ConversionType_CONVERSION_REFUND && f.credit.given() && c.touch.after(f):
		c.touch = m
		return true
	}
	return false
}

// customer returns the program's customer with that key, who is made when nobody knew them.
func (b *book) customer(ctx context.Context, program uint64, key string) (*customer, error) {
	var c customer
	s, t := &c.signup, &c.touch
	err := b.tx.QueryRowContext(ctx, `SELECT id, signup_id, signup_ms, signup_click_ms, signup_link_id, signup_partner_id, signup_partnership_id,
		touch_id, touch_ms, touch_click_ms, touch_link_id, touch_partner_id, touch_partnership_id
		FROM customers WHERE program_id = $1 AND customer_key = $2`, int64(program), key).
		Scan(&c.id, &s.id, &s.millis, &s.credit.clickMillis, &s.credit.link, &s.credit.partner, &s.credit.partnership,
			&t.id, &t.millis, &t.credit.clickMillis, &t.credit.link, &t.credit.partner, &t.credit.partnership)
	if err == nil {
		return &c, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("cannot look up a customer: %w", err)
	}
	if c.id, err = b.l.config.Database.NextIDs(ctx, b.tx, "customer", 1); err != nil {
		return nil, err
	}
	_, err = b.tx.ExecContext(ctx, `INSERT INTO customers (id, program_id, customer_key, signup_ms, signup_click_ms, signup_link_id,
		signup_partner_id, signup_partnership_id, touch_ms, touch_click_ms, touch_link_id, touch_partner_id, touch_partnership_id)
		VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)`, int64(c.id), int64(program), key)
	if err != nil {
		return nil, fmt.Errorf("cannot store a customer: %w", err)
	}
	return &c, nil
}

func (b *book) storeCustomer(ctx context.Context, c *customer) error {
	s, t := c.signup, c.touch
	_, err := b.tx.ExecContext(ctx, `UPDATE customers SET signup_id = $1, signup_ms = $2, signup_click_ms = $3, signup_link_id = $4,
		signup_partner_id = $5, signup_partnership_id = $6, touch_id = $7, touch_ms = $8, touch_click_ms = $9, touch_link_id = $10,
		touch_partner_id = $11, touch_partnership_id = $12 WHERE id = $13`,
		nullable(s.id), s.millis, s.credit.clickMillis, int64(s.credit.link), int64(s.credit.partner), int64(s.credit.partnership),
		nullable(t.id), t.millis, t.credit.clickMillis, int64(t.credit.link), int64(t.credit.partner), int64(t.credit.partnership), int64(c.id))
	if err != nil {
		return fmt.Errorf("cannot store customer %d: %w", c.id, err)
	}
	return nil
}

func nullable(id []byte) any {
	if len(id) == 0 {
		return nil
	}
	return id
}
