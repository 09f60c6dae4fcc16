package dashboard

import (
	"context"
	"fmt"
	"time"

	"waymark/dashboard/ledger"
	"waymark/dashboard/pages"
	"waymark/dashboard/store/relay"
	"waymark/schema"

	"github.com/prometheus/client_golang/prometheus"
)

// newBackground makes what works without being asked: the catalog's relay and the ledger.
func (d *Dashboard) newBackground() error {
	if d.c.Kafka == nil || d.c.Secrets == nil {
		return nil
	}
	var reg prometheus.Registerer = prometheus.NewRegistry()
	if d.c.Registerer != nil {
		reg = d.c.Registerer
	}
	d.relay = relay.New(relay.Config{Store: d.c.Store, Kafka: d.c.Kafka, Generation: d.c.Generation, Logger: d.log, Metrics: relay.NewMetrics(reg)})
	var err error
	d.ledger, err = ledger.New(ledger.Config{Database: d.c.Store, Kafka: d.c.Kafka, ClickIDs: schema.NewClickIDs(d.c.Secrets), Generation: d.c.Generation,
		ConversionPartitions: d.c.ConversionPartitions, LedgerPartitions: d.c.LedgerPartitions, Logger: d.log, Metrics: ledger.NewMetrics(reg)})
	return err
}

// LedgerOffsets returns the next offset of each partition of the conversions log: what lies before is in SQL for good. It
// is empty while another process keeps the ledger.
func (d *Dashboard) LedgerOffsets() map[int]int64 {
	if d.ledger == nil {
		return nil
	}
	return d.ledger.Offsets()
}

// CatalogSent returns the version of the catalog up to which Kafka holds everything, as far as this process knows.
func (d *Dashboard) CatalogSent() uint64 {
	if d.relay == nil {
		return 0
	}
	return d.relay.Sent()
}

// background lists the work that Run starts besides serving.
func (d *Dashboard) background(work map[string]func(context.Context) error) {
	if d.relay != nil {
		work["catalog relay"], work["ledger"] = d.relay.Run, d.ledger.Run
	}
}

// Entries of one conversion share its time; a correction is an entry more. The newest entries by far suffice for the
// newest conversions.
const bookedQuery = `SELECT conversion_id, kind, count, amount, currency, occurred_ms FROM ledger_entries
	WHERE partnership_id = $1 ORDER BY occurred_ms DESC, id DESC LIMIT $2`

// booked returns the latest signups, sales and refunds of a partnership, newest first.
func (d *Dashboard) booked(ctx context.Context, partnership uint64) ([]pages.Activity, error) {
	rows, err := d.c.Store.Reader().QueryContext(ctx, bookedQuery, int64(partnership), 10*recentEvents)
	if err != nil {
		return nil, fmt.Errorf("cannot read the latest entries of partnership %d: %w", partnership, err)
	}
	defer rows.Close()
	type entry struct {
		kind          schema.EntryKind
		count, amount int64
		currency      string
		occurred      int64
	}
	var order []string
	entries := map[string]*entry{}
	for rows.Next() {
		var id []byte
		var e entry
		if err := rows.Scan(&id, &e.kind, &e.count, &e.amount, &e.currency, &e.occurred); err != nil {
			return nil, fmt.Errorf("cannot read an entry of partnership %d: %w", partnership, err)
		}
		key := fmt.Sprintf("%x %d %s", id, e.kind, e.currency)
		if entries[key] == nil {
			entries[key] = &entry{kind: e.kind, currency: e.currency, occurred: e.occurred}
			order = append(order, key)
		}
		entries[key].count += e.count
		entries[key].amount += e.amount
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the latest entries of partnership %d: %w", partnership, err)
	}
	var events []pages.Activity
	for _, key := range order {
		e := entries[key]
		a := pages.Activity{Time: time.UnixMilli(e.occurred).UTC(), Tone: "good"}
		switch {
		case e.kind == schema.EntryKind_ENTRY_REFERRED && e.count > 0:
			a.Kind, a.Label, a.Subject = "signup", "Signup", "New customer"
		case e.kind == schema.EntryKind_ENTRY_SOLD && e.amount > 0:
			a.Kind, a.Label, a.Subject = "sale", "Sale", pages.Money(e.amount, e.currency)
		case e.kind == schema.EntryKind_ENTRY_SOLD && e.amount < 0:
			a.Kind, a.Label, a.Subject, a.Tone = "refund", "Refund", pages.Money(e.amount, e.currency), "muted"
		default:
			continue
		}
		if events = append(events, a); len(events) == recentEvents {
			break
		}
	}
	return events, nil
}
