package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrLeaseLost is returned when a lease that was held belongs to someone else now.
var ErrLeaseLost = errors.New("the lease is held by another process")

// TakeLease takes or prolongs the lease of that name for the holder, who is anyone that no other one is called like. It
// reports false while another holder's lease runs.
func (s *Store) TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	now := s.now().UnixMilli()
	var taken int64
	err := s.Update(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO leases (name, holder, until_ms) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
			WHERE leases.holder = excluded.holder OR leases.until_ms < $4`, name, holder, now+ttl.Milliseconds(), now)
		if err != nil {
			return err
		}
		taken, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot take the lease (%s): %w", name, err)
	}
	return taken == 1, nil
}

// CheckLease returns ErrLeaseLost unless the holder still has the lease: within a transaction of [Store.Update], what
// follows can then happen only under it.
func (s *Store) CheckLease(ctx context.Context, tx *sql.Tx, name, holder string) error {
	var got string
	err := tx.QueryRowContext(ctx, `SELECT holder FROM leases WHERE name = $1`, name).Scan(&got)
	if errors.Is(err, sql.ErrNoRows) || err == nil && got != holder {
		return ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("cannot check the lease (%s): %w", name, err)
	}
	return nil
}

// DropLease gives the lease up, so that another process need not wait for its end.
func (s *Store) DropLease(ctx context.Context, name, holder string) error {
	return s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE name = $1 AND holder = $2`, name, holder); err != nil {
			return fmt.Errorf("cannot give up the lease (%s): %w", name, err)
		}
		return nil
	})
}
