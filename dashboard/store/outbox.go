package store

import (
	"context"
	"database/sql"
	"fmt"

	"waymark/schema"
)

// catalogCounter numbers the versions of catalog records.
const catalogCounter = "catalog"

// OutboxRecord is the newest catalog record of one entity, as it goes to Kafka.
type OutboxRecord struct {
	Key     string
	Version uint64
	Record  []byte
}

// CatalogChanged returns a channel that is closed at the next change of the catalog by this process. Ask for it before
// reading, so that no change falls in between.
func (s *Store) CatalogChanged() <-chan struct{} { return s.changed.wait() }

// CatalogAfter returns up to limit records with a version above after, in the order of their versions.
func (s *Store) CatalogAfter(ctx context.Context, after uint64, limit int) ([]OutboxRecord, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT key, version, record FROM catalog_outbox WHERE version > $1 ORDER BY version LIMIT $2`, int64(after), limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read the catalog's outbox: %w", err)
	}
	records, err := collect(rows, func(r *OutboxRecord) error { return rows.Scan(&r.Key, &r.Version, &r.Record) })
	if err != nil {
		return nil, fmt.Errorf("cannot read the catalog's outbox: %w", err)
	}
	return records, nil
}

// CatalogVersion returns the highest version in the outbox; 0 when it is empty.
func (s *Store) CatalogVersion(ctx context.Context) (uint64, error) {
	var version uint64
	err := s.reader.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM catalog_outbox`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("cannot read the catalog's version: %w", err)
	}
	return version, nil
}

const putRecordQuery = `INSERT INTO catalog_outbox (key, version, record) VALUES ($1, $2, $3)
	ON CONFLICT (key) DO UPDATE SET version = excluded.version, record = excluded.record`

func putRecord(ctx context.Context, tx *sql.Tx, r *schema.CatalogRecord) error {
	value, err := r.MarshalVT()
	if err != nil {
		return fmt.Errorf("cannot encode the catalog record %s: %w", r.CatalogKey(), err)
	}
	if _, err := tx.ExecContext(ctx, putRecordQuery, r.CatalogKey(), int64(r.Version), value); err != nil {
		return fmt.Errorf("cannot store the catalog record %s: %w", r.CatalogKey(), err)
	}
	return nil
}

func linkRecord(scope linkScope, l *Link) *schema.CatalogRecord {
	return &schema.CatalogRecord{Version: l.Version, Entity: &schema.CatalogRecord_Link{Link: &schema.Link{
		Id: l.ID, ProgramId: scope.program, PartnerId: scope.partner, PartnershipId: scope.partnership,
		Kind: l.Kind, Host: l.Host, Slug: l.Slug, Destination: l.Destination, State: linkState(l.Enabled),
	}}}
}

func programRecord(version uint64, p *Program, conversionKeys [][]byte) *schema.CatalogRecord {
	return &schema.CatalogRecord{Version: version, Entity: &schema.CatalogRecord_Program{Program: &schema.Program{
		Id: p.ID, Key: p.Key, Name: p.Name, State: p.State, LinksEnabled: p.LinksEnabled, Hosts: p.Hosts,
		FallbackUrl: p.FallbackURL, ClickIdParam: p.ClickIDParam, PartnerParam: p.PartnerParam,
		CookieWindowMs: p.CookieWindow.Milliseconds(), HashWindowMs: p.HashWindow.Milliseconds(), CookiesDisabled: p.CookiesDisabled,
		ConversionKeyHashes: conversionKeys, AllowedDestinations: p.AllowedDestinations, ExcludedNetworks: p.ExcludedNetworks,
		OptOutParam: p.OptOutParam, Passthrough: p.Passthrough,
	}}}
}

func partnershipRecord(version uint64, p *Partnership) *schema.CatalogRecord {
	return &schema.CatalogRecord{Version: version, Entity: &schema.CatalogRecord_Partnership{Partnership: &schema.Partnership{
		Id: p.ID, ProgramId: p.ProgramID, PartnerId: p.PartnerID, PartnerKey: p.Key, State: p.State,
	}}}
}
