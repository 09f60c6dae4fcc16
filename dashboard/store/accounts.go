package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// NormalizeEmail returns an e-mail address as it is stored and compared: without space around it, in lower case.
func NormalizeEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

const partnerQuery = `SELECT r.id, r.email, r.name, r.password_hash FROM partners r `

func scanPartner(row scanner) (Partner, error) {
	var p Partner
	err := row.Scan(&p.ID, &p.Email, &p.Name, &p.PasswordHash)
	return p, err
}

// PartnerByEmail returns the partner with that address in any case, or ErrNotFound.
func (s *Store) PartnerByEmail(ctx context.Context, email string) (Partner, error) {
	p, err := scanPartner(s.reader.QueryRowContext(ctx, partnerQuery+`WHERE r.email = $1`, NormalizeEmail(email)))
	return p, readError("the partner with e-mail", email, err)
}

// PartnerByAPIKey returns the partner whose API key that is, or ErrNotFound.
func (s *Store) PartnerByAPIKey(ctx context.Context, key string) (Partner, error) {
	hash := sha256.Sum256([]byte(key))
	p, err := scanPartner(s.reader.QueryRowContext(ctx, partnerQuery+`JOIN api_keys k ON k.partner_id = r.id WHERE k.hash = $1`, hash[:]))
	return p, readError("the partner of", "an API key", err)
}

// CreateSession stores a session under the SHA-256 of its token, until it expires, and forgets the expired ones.
func (s *Store) CreateSession(ctx context.Context, token [32]byte, partnerID uint64, expires time.Time) error {
	return s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires_ms < $1`, s.now().UnixMilli()); err != nil {
			return fmt.Errorf("cannot remove expired sessions: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO sessions (hash, partner_id, expires_ms) VALUES ($1, $2, $3)`,
			token[:], int64(partnerID), expires.UnixMilli()); err != nil {
			return fmt.Errorf("cannot store a session: %w", err)
		}
		return nil
	})
}

// SessionPartner returns the partner whose session has the token with that SHA-256, and the session's end. It returns
// ErrNotFound for one that does not exist or has expired.
func (s *Store) SessionPartner(ctx context.Context, token [32]byte) (Partner, time.Time, error) {
	var p Partner
	var expires int64
	err := s.reader.QueryRowContext(ctx, `SELECT r.id, r.email, r.name, r.password_hash, s.expires_ms
		FROM partners r JOIN sessions s ON s.partner_id = r.id WHERE s.hash = $1 AND s.expires_ms >= $2`,
		token[:], s.now().UnixMilli()).Scan(&p.ID, &p.Email, &p.Name, &p.PasswordHash, &expires)
	return p, time.UnixMilli(expires).UTC(), readError("the partner of", "a session", err)
}

// DeleteSession ends a session; one that does not exist is no error.
func (s *Store) DeleteSession(ctx context.Context, token [32]byte) error {
	return s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE hash = $1`, token[:]); err != nil {
			return fmt.Errorf("cannot end a session: %w", err)
		}
		return nil
	})
}
