package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// passwordHash is what a password of the file becomes: the hash that is stored already when it is of that password.
type passwordHash struct {
	line     int
	password string
	stored   string
	hash     string
	err      error
}

// hashPasswords hashes the file's passwords on all processors, before any lock is taken.
func (s *Store) hashPasswords(ctx context.Context, programs []fileProgram, p Passwords) (map[string]passwordHash, error) {
	hashes := map[string]passwordHash{}
	var errs []LineError
	for i := range programs {
		for _, partner := range programs[i].partners {
			email := NormalizeEmail(partner.email.value)
			if !partner.password.given() || email == "" {
				continue
			}
			if other, ok := hashes[email]; ok && other.password != partner.password.value {
				errs = append(errs, LineError{partner.password.line, fmt.Sprintf("%s has another password in line %d", email, other.line)})
				continue
			}
			hashes[email] = passwordHash{line: partner.password.line, password: partner.password.value}
		}
	}
	if len(hashes) > 0 && p == nil {
		return nil, errors.New("cannot apply a file with passwords: nothing was given to hash them")
	}
	if err := s.storedHashes(ctx, hashes); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var emails []string
	for email := range hashes {
		emails = append(emails, email)
	}
	for _, email := range emails {
		mu.Lock()
		h := hashes[email]
		mu.Unlock()
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			h.hash, h.err = hashPassword(ctx, p, h)
			mu.Lock()
			defer mu.Unlock()
			hashes[email] = h
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for email, h := range hashes {
		if h.err != nil {
			errs = append(errs, LineError{h.line, fmt.Sprintf("the password of %s can't be used: %v", email, h.err)})
		}
	}
	if len(errs) > 0 {
		return nil, sortErrors(errs)
	}
	return hashes, nil
}

func hashPassword(ctx context.Context, p Passwords, h passwordHash) (string, error) {
	if h.stored != "" {
		if same, err := p.Verify(ctx, h.stored, h.password); err == nil && same {
			return h.stored, nil
		}
	}
	return p.Hash(ctx, h.password)
}

func (s *Store) storedHashes(ctx context.Context, hashes map[string]passwordHash) error {
	var emails []string
	for email := range hashes {
		emails = append(emails, email)
	}
	err := eachIn(ctx, s.reader, `SELECT email, password_hash FROM partners WHERE email IN `, nil, emails, func(rows *sql.Rows) error {
		var email, hash string
		if err := rows.Scan(&email, &hash); err != nil {
			return err
		}
		h := hashes[email]
		h.stored = hash
		hashes[email] = h
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot read password hashes: %w", err)
	}
	return nil
}
