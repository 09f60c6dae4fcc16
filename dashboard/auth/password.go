package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The bounds of a password, in bytes.
const (
	MinPassword = 8
	MaxPassword = 512
)

// ErrPassword is returned for a password that can't be one.
var ErrPassword = fmt.Errorf("a password has %d to %d bytes of text", MinPassword, MaxPassword)

// The cost of a hash (argon2id, version 19): OWASP's least, so that a file of thousands of partners applies in time.
// Hashes carry their own cost, so that it can grow.
const (
	memoryKiB  = 19 * 1024
	passes     = 2
	lanes      = 1
	saltBytes  = 16
	hashBytes  = 32
	maxMemory  = 256 * 1024
	maxPasses  = 16
	hashPrefix = "$argon2id$v=19$"
)

// Passwords hashes and verifies passwords, one per processor at a time, which bounds its memory. It is safe for
// concurrent use.
type Passwords struct {
	running chan struct{}
	decoy   string
}

// NewPasswords returns a hasher.
func NewPasswords() *Passwords {
	p := &Passwords{running: make(chan struct{}, runtime.GOMAXPROCS(0))}
	p.decoy = encode(make([]byte, saltBytes), make([]byte, hashBytes))
	return p
}

// Hash returns the hash of a password with a salt of its own, or ErrPassword, or the context's error.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if len(password) < MinPassword || len(password) > MaxPassword || !utf8.ValidString(password) {
		return "", ErrPassword
	}
	if err := p.begin(ctx); err != nil {
		return "", err
	}
	defer p.end()
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	return encode(salt, argon2.IDKey([]byte(password), salt, passes, memoryKiB, lanes, hashBytes)), nil
}

// Verify reports whether the hash is that of the password. The hash "", for one who does not exist or has no password,
// is never right and takes the same time. It returns the context's error, or one for a hash that nobody can read.
func (p *Passwords) Verify(ctx context.Context, hash, password string) (bool, error) {
	known := hash != ""
	if !known {
		hash = p.decoy
	}
	h, err := decode(hash)
	if err != nil {
		return false, err
	}
	if len(password) > MaxPassword {
		password, known = password[:MaxPassword], false
	}
	if err := p.begin(ctx); err != nil {
		return false, err
	}
	defer p.end()
	got := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(got, h.sum) == 1 && known, nil
}

func (p *Passwords) begin(ctx context.Context) error {
	select {
	case p.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Passwords) end() { <-p.running }

func encode(salt, sum []byte) string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("%sm=%d,t=%d,p=%d$%s$%s", hashPrefix, memoryKiB, passes, lanes, b.EncodeToString(salt), b.EncodeToString(sum))
}

type hashed struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

var errHash = errors.New("cannot read a stored password hash")

// decode reads what encode wrote, with costs up to a bound, so that no stored text can use up the memory.
func decode(hash string) (hashed, error) {
	var h hashed
	parts := strings.Split(strings.TrimPrefix(hash, hashPrefix), "$")
	if !strings.HasPrefix(hash, hashPrefix) || len(parts) != 3 {
		return h, errHash
	}
	if n, err := fmt.Sscanf(parts[0], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes); err != nil || n != 3 {
		return h, errHash
	}
	if h.memory < 8 || h.memory > maxMemory || h.passes < 1 || h.passes > maxPasses || h.lanes < 1 {
		return h, errHash
	}
	var saltErr, sumErr error
	h.salt, saltErr = base64.RawStdEncoding.DecodeString(parts[1])
	h.sum, sumErr = base64.RawStdEncoding.DecodeString(parts[2])
	if saltErr != nil || sumErr != nil || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 64 {
		return h, errHash
	}
	return h, nil
}
