package auth

import (
	"crypto/rand"
	"crypto/sha256"
)

// NewToken returns an unguessable token (130 random bits or more, letters and digits) and its hash. The token goes to its
// owner, only the hash is stored.
func NewToken() (token string, hash [32]byte) {
	token = rand.Text()
	return token, HashToken(token)
}

// HashToken returns the hash under which a session token or an API key is stored. Tokens are random and long, so a plain
// SHA-256 is enough.
func HashToken(token string) [32]byte { return sha256.Sum256([]byte(token)) }
