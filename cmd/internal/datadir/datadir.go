// Package datadir owns a process's data folder: one process at a time, and none that is older than the data.
package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"waymark/schema"
)

// Version is the version of the folder's layout that this program reads and writes.
const Version = 1

const (
	lockName    = "lock"
	versionName = "version"
	secretsName = "secrets"
)

// Dir is a data folder that this process has locked.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the folder if it does not exist and locks it until Close or the end of the process. It returns an error
// and touches nothing if another process holds the lock or a newer program wrote the folder.
func Open(path string) (*Dir, error) {
	if err := checkVersion(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data folder (--data %s): %w", path, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open data folder (--data %s): %w", path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use data folder (--data %s): another waymark process has it locked", path)
		}
		return nil, fmt.Errorf("cannot lock data folder (--data %s): %w", path, err)
	}
	d := &Dir{path: path, lock: lock}
	if err := d.WriteFile(versionName, []byte(strconv.Itoa(Version)+"\n")); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

func checkVersion(path string) error {
	b, err := os.ReadFile(filepath.Join(path, versionName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read data folder (--data %s): %w", path, err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("cannot use data folder (--data %s): its version file holds %q, not a number", path, b)
	}
	if v > Version {
		return fmt.Errorf("cannot use data folder (--data %s): it has version %d and this program reads up to %d; use a newer waymark", path, v, Version)
	}
	return nil
}

// Path returns the path of a name in the folder.
func (d *Dir) Path(name ...string) string { return filepath.Join(append([]string{d.path}, name...)...) }

// Has reports whether a name exists in the folder.
func (d *Dir) Has(name string) bool {
	_, err := os.Stat(d.Path(name))
	return err == nil
}

// WriteFile writes a file of the folder so that after a crash either the old or the new content is there.
func (d *Dir) WriteFile(name string, data []byte) error {
	tmp := d.Path(name + ".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", tmp, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp, d.Path(name))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", d.Path(name), err)
	}
	return d.sync()
}

// Remove removes names and all below them from the folder.
func (d *Dir) Remove(names ...string) error {
	for _, name := range names {
		if err := os.RemoveAll(d.Path(name)); err != nil {
			return fmt.Errorf("cannot remove %s: %w", d.Path(name), err)
		}
	}
	return d.sync()
}

func (d *Dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("cannot open data folder (--data %s): %w", d.path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot sync data folder (--data %s): %w", d.path, err)
	}
	return nil
}

// Secrets reads the folder's secrets file, and writes one with a fresh secret if there is none.
func (d *Dir) Secrets() (*schema.Secrets, error) {
	if !d.Has(secretsName) {
		if err := d.WriteFile(secretsName, []byte(NewSecret(1))); err != nil {
			return nil, err
		}
	}
	return ReadSecrets(d.Path(secretsName))
}

// ReadSecrets reads a secrets file.
func ReadSecrets(path string) (*schema.Secrets, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read secrets: %w", err)
	}
	s, err := schema.ParseSecrets(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// NewSecret returns the line of a secrets file for a fresh random secret.
func NewSecret(id byte) string {
	var raw [32]byte
	rand.Read(raw[:])
	return schema.FormatSecret(id, &raw)
}

// Close unlocks the folder.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("cannot unlock data folder (--data %s): %w", d.path, err)
	}
	return nil
}
