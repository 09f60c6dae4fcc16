package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile makes this process the only one on an SQLite file, until the returned file is closed or the process ends.
func lockFile(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the database (%s): %w", path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use the database (%s): another waymark process has it locked", path)
		}
		return nil, fmt.Errorf("cannot lock the database (%s): %w", path, err)
	}
	return lock, nil
}

// forgetLeases ends the leases that a process left behind which was killed: with the file locked there is no other one.
func (s *Store) forgetLeases(ctx context.Context) error {
	return s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM leases`); err != nil {
			return fmt.Errorf("cannot end old leases: %w", err)
		}
		return nil
	})
}
