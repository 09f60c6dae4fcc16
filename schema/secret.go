package schema

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"sync"
)

// Purpose separates the keys that are derived from one secret, so that no token can be used as another.
type Purpose string

// The purposes that keys are derived for.
const (
	PurposeVisitor    Purpose = "waymark visitor 1"
	PurposeCookie     Purpose = "waymark cookie 1"
	PurposeClickID    Purpose = "waymark click id 1"
	PurposeConversion Purpose = "waymark conversion id 1"
)

// Secrets holds the secrets that all processes of one installation share. The first one signs; all of them
// verify, which is what makes rotation possible. It is immutable and safe for concurrent use.
type Secrets struct {
	ids  []byte
	raws [][]byte
}

// ParseSecrets reads a secrets file: one "<id> <64 hexadecimal digits>" per line, id 0..255 and unique, the
// current one first. Empty lines and lines that start with # are skipped.
func ParseSecrets(file []byte) (*Secrets, error) {
	s := &Secrets{}
	scan := bufio.NewScanner(bytes.NewReader(file))
	for line := 1; scan.Scan(); line++ {
		text := bytes.TrimSpace(scan.Bytes())
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		idText, hexText, ok := bytes.Cut(text, []byte(" "))
		id, err := strconv.ParseUint(string(idText), 10, 8)
		raw := make([]byte, hex.DecodedLen(len(hexText)))
		n, hexErr := hex.Decode(raw, bytes.TrimSpace(hexText))
		if !ok || err != nil || hexErr != nil || n != 32 {
			return nil, fmt.Errorf("cannot read secrets: line %d is not \"<id 0..255> <64 hexadecimal digits>\"", line)
		}
		if bytes.IndexByte(s.ids, byte(id)) >= 0 {
			return nil, fmt.Errorf("cannot read secrets: line %d repeats id %d", line, id)
		}
		s.ids, s.raws = append(s.ids, byte(id)), append(s.raws, raw[:n])
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("cannot read secrets: %w", err)
	}
	if len(s.ids) == 0 {
		return nil, fmt.Errorf("cannot read secrets: no secret in the file")
	}
	return s, nil
}

// FormatSecret returns the line of a secrets file for one secret.
func FormatSecret(id byte, raw *[32]byte) string {
	return fmt.Sprintf("%d %x\n", id, raw[:])
}

// Keyring derives the keys of one purpose.
func (s *Secrets) Keyring(p Purpose) *Keyring {
	k := &Keyring{ids: s.ids}
	for _, raw := range s.raws {
		key, err := hkdf.Key(sha256.New, raw, nil, string(p), 32)
		if err != nil {
			panic("BUG: cannot derive a key of 32 bytes: " + err.Error())
		}
		k.pools = append(k.pools, &sync.Pool{New: func() any { return &mac{h: hmac.New(sha256.New, key)} }})
	}
	return k
}

// Keyring makes and checks message authentication codes (HMAC-SHA256) of one purpose. It is safe for concurrent
// use and does not allocate once warm.
type Keyring struct {
	ids   []byte
	pools []*sync.Pool
}

type mac struct {
	h       hash.Hash
	sum     [sha256.Size]byte
	scratch [8]byte
}

// Current returns the id of the key that signs.
func (k *Keyring) Current() byte { return k.ids[0] }

// Sum fills dst, 32 bytes at most, with the start of the code of the parts under the current key. Each part is
// framed by its length, so that no two lists of parts collide.
func (k *Keyring) Sum(dst []byte, parts ...[]byte) { k.sum(0, dst, parts) }

// Verify reports whether want, 8 to 32 bytes, is the start of the code of the parts under the key with that id.
func (k *Keyring) Verify(id byte, want []byte, parts ...[]byte) bool {
	i := bytes.IndexByte(k.ids, id)
	if i < 0 || len(want) < 8 || len(want) > sha256.Size {
		return false
	}
	var got [sha256.Size]byte
	k.sum(i, got[:len(want)], parts)
	return hmac.Equal(got[:len(want)], want)
}

func (k *Keyring) sum(i int, dst []byte, parts [][]byte) {
	m := k.pools[i].Get().(*mac)
	m.h.Reset()
	for _, p := range parts {
		binary.BigEndian.PutUint64(m.scratch[:], uint64(len(p)))
		m.h.Write(m.scratch[:])
		m.h.Write(p)
	}
	copy(dst, m.h.Sum(m.sum[:0]))
	k.pools[i].Put(m)
}
