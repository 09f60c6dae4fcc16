package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"waymark/schema"
)

// line is one line of the ledger: what one conversion is worth to one partnership. Lines are equal when their entries
// cancel each other out.
type line struct {
	conversion [16]byte
	kind       schema.EntryKind
	link       uint64
	partner    uint64
	// partnership 0 is nobody's.
	partnership uint64
	currency    string
}

// worth is the sum of a line's entries.
type worth struct{ count, amount int64 }

// settle books what a new conversion changes. who is nil for one without a customer key, who is credited by its own click.
func (b *book) settle(ctx context.Context, program uint64, who *customer, f fact) error {
	if who == nil {
		c := customer{touch: moment{id: f.id[:], millis: f.occurred, credit: f.credit}}
		c.note(f)
		return b.enter(ctx, program, 0, f, lines(&c, f), nil)
	}
	owner, referred := who.owner()
	first := who.signup.id
	if who.note(f) {
		if err := b.storeCustomer(ctx, who); err != nil {
			return err
		}
		now, nowReferred := who.owner()
		if now != owner || nowReferred != referred || !slices.Equal(who.signup.id, first) {
			return b.resettle(ctx, program, who)
		}
	}
	return b.enter(ctx, program, who.id, f, lines(who, f), nil)
}

// lines returns what a conversion is worth, given whose the customer is.
func lines(who *customer, f fact) map[line]worth {
	owner, referred := who.owner()
	if !owner.given() {
		return nil
	}
	l := line{conversion: f.id, link: owner.link, partner: owner.partner, partnership: owner.partnership}
	var w worth
	switch f.typ {
	case schema.ConversionType_CONVERSION_SIGNUP:
		if !referred || string(who.signup.id) != string(f.id[:]) {
			return nil
		}
		l.kind, w.count = schema.EntryKind_ENTRY_REFERRED, 1
	case schema.ConversionType_CONVERSION_SALE, schema.ConversionType_CONVERSION_REFUND:
		if f.occurred < owner.clickMillis-clickAhead.Milliseconds() || f.amount == 0 {
			return nil
		}
		l.kind, l.currency, w.amount = schema.EntryKind_ENTRY_SOLD, f.currency, f.amount
		if f.typ == schema.ConversionType_CONVERSION_REFUND {
			w.amount = -f.amount
		}
	default:
		return nil
	}
	return map[line]worth{l: w}
}

// resettle books the difference between what all of a customer's conversions are worth now and what was booked.
func (b *book) resettle(ctx context.Context, program uint64, who *customer) error {
	facts, err := b.facts(ctx, who.id)
	if err != nil {
		return err
	}
	booked, err := b.booked(ctx, who.id)
	if err != nil {
		return err
	}
	for _, f := range facts {
		if err := b.enter(ctx, program, who.id, f, lines(who, f), booked[f.id]); err != nil {
			return err
		}
	}
	return nil
}

func (b *book) facts(ctx context.Context, customer uint64) ([]fact, error) {
	rows, err := b.tx.QueryContext(ctx, `SELECT id, type, amount, currency, occurred_ms, received_ms FROM conversions
		WHERE customer_id = $1 ORDER BY occurred_ms, id`, int64(customer))
	if err != nil {
		return nil, fmt.Errorf("cannot read the conversions of customer %d: %w", customer, err)
	}
	defer rows.Close()
	var facts []fact
	for rows.Next() {
		var f fact
		var id []byte
		if err := rows.Scan(&id, &f.typ, &f.amount, &f.currency, &f.occurred, &f.received); err != nil {
			return nil, fmt.Errorf("cannot read the conversions of customer %d: %w", customer, err)
		}
		copy(f.id[:], id)
		facts = append(facts, f)
	}
	return facts, rows.Err()
}

func (b *book) booked(ctx context.Context, customer uint64) (map[[16]byte]map[line]worth, error) {
	rows, err := b.tx.QueryContext(ctx, `SELECT conversion_id, kind, link_id, partner_id, partnership_id, currency, count, amount
		FROM ledger_entries WHERE customer_id = $1`, int64(customer))
	if err != nil {
		return nil, fmt.Errorf("cannot read the entries of customer %d: %w", customer, err)
	}
	defer rows.Close()
	booked := map[[16]byte]map[line]worth{}
	for rows.Next() {
		var l line
		var w worth
		var id []byte
		if err := rows.Scan(&id, &l.kind, &l.link, &l.partner, &l.partnership, &l.currency, &w.count, &w.amount); err != nil {
			return nil, fmt.Errorf("cannot read the entries of customer %d: %w", customer, err)
		}
		copy(l.conversion[:], id)
		if booked[l.conversion] == nil {
			booked[l.conversion] = map[line]worth{}
		}
		sum := booked[l.conversion][l]
		booked[l.conversion][l] = worth{sum.count + w.count, sum.amount + w.amount}
	}
	return booked, rows.Err()
}

// enter books the entries that lead from what a conversion was worth to what it is worth.
func (b *book) enter(ctx context.Context, program, customer uint64, f fact, want, have map[line]worth) error {
	change := map[line]worth{}
	for l, w := range have {
		change[l] = worth{-w.count, -w.amount}
	}
	for l, w := range want {
		c := change[l]
		change[l] = worth{c.count + w.count, c.amount + w.amount}
	}
	var changed []line
	for l, w := range change {
		if w != (worth{}) {
			changed = append(changed, l)
		}
	}
	// Reversals come first, and the order is the same whenever it is done.
	slices.SortFunc(changed, func(x, y line) int {
		if a, c := change[x].count+change[x].amount, change[y].count+change[y].amount; (a < 0) != (c < 0) {
			if a < 0 {
				return -1
			}
			return 1
		}
		return strings.Compare(fmt.Sprint(x), fmt.Sprint(y))
	})
	for _, l := range changed {
		if err := b.entry(ctx, program, customer, f, l, change[l]); err != nil {
			return err
		}
	}
	return nil
}

// entry books one entry, and puts it into the outbox.
func (b *book) entry(ctx context.Context, program, customer uint64, f fact, l line, w worth) error {
	id, err := b.l.config.Database.NextIDs(ctx, b.tx, "ledger entry", 1)
	if err != nil {
		return err
	}
	_, err = b.tx.ExecContext(ctx, `INSERT INTO ledger_entries (id, conversion_id, customer_id, kind, program_id, partner_id, partnership_id, link_id,
		count, amount, currency, occurred_ms, received_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		int64(id), l.conversion[:], int64(customer), int32(l.kind), int64(program), int64(l.partner), int64(l.partnership), int64(l.link),
		w.count, w.amount, l.currency, f.occurred, f.received)
	if err != nil {
		return fmt.Errorf("cannot book an entry for conversion %x: %w", f.id, err)
	}
	b.tally.entries++
	return b.putEntry(&schema.LedgerEntry{
		EntryId: id, Kind: l.kind, ProgramId: program, PartnerId: l.partner, PartnershipId: l.partnership, LinkId: l.link, CustomerId: customer,
		Count: w.count, Amount: w.amount, Currency: l.currency, OccurredMs: f.occurred, ReceivedMs: f.received,
	})
}

// Booked is one event that a partner is credited for, as it counts now.
type Booked struct {
	// Type is signup, sale or refund.
	Type schema.ConversionType
	// Amount is in minor units of the currency, negative for a refund; 0 for a signup.
	Amount   int64
	Currency string
	LinkID   uint64
	Occurred time.Time
}

// Latest returns the latest limit events that a partnership is credited for, newest first.
func (l *Ledger) Latest(ctx context.Context, partnership uint64, limit int) ([]Booked, error) {
	// Few entries are ever reversed; reading some more than are asked for leaves enough.
	rows, err := l.config.Database.Reader().QueryContext(ctx, `SELECT e.conversion_id, e.link_id, e.currency, e.count, e.amount, c.type, c.occurred_ms
		FROM ledger_entries e JOIN conversions c ON c.id = e.conversion_id
		WHERE e.partnership_id = $1 ORDER BY e.occurred_ms DESC, e.id DESC LIMIT $2`, int64(partnership), 3*limit+10)
	if err != nil {
		return nil, fmt.Errorf("cannot read the entries of partnership %d: %w", partnership, err)
	}
	defer rows.Close()
	at := map[string]int{}
	var all []Booked
	var counts []int64
	for rows.Next() {
		var e Booked
		var id []byte
		var count, amount, occurred int64
		if err := rows.Scan(&id, &e.LinkID, &e.Currency, &count, &amount, &e.Type, &occurred); err != nil {
			return nil, fmt.Errorf("cannot read the entries of partnership %d: %w", partnership, err)
		}
		key := fmt.Sprintf("%x %d", id, e.LinkID)
		i, ok := at[key]
		if !ok {
			i = len(all)
			at[key] = i
			e.Occurred = time.UnixMilli(occurred).UTC()
			all, counts = append(all, e), append(counts, 0)
		}
		all[i].Amount += amount
		counts[i] += count
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the entries of partnership %d: %w", partnership, err)
	}
	var latest []Booked
	for i, e := range all {
		if len(latest) < limit && (e.Amount != 0 || counts[i] != 0) {
			latest = append(latest, e)
		}
	}
	return latest, nil
}
