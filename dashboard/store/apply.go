package store

import (
	"context"
	"fmt"
)

// Passwords hashes and verifies the passwords of a program file.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	Verify(ctx context.Context, hash, password string) (bool, error)
}

// ApplyOptions says how to apply a program file.
type ApplyOptions struct {
	// DryRun checks and reports everything and changes nothing.
	DryRun bool
	// Passwords is needed for files that hold passwords.
	Passwords Passwords
}

// Change is what a program file does to one thing.
type Change struct {
	// Action is create, update or unchanged.
	Action string `json:"action"`
	// Kind is program, group, partner, partnership or link.
	Kind string `json:"kind"`
	// Key names it: a program's key, program/group, an e-mail address, program/partner key, host/slug.
	Key string `json:"key"`
}

// Report says what a program file did, or would do.
type Report struct {
	Changes []Change `json:"changes"`
	// Notes name what the database holds and the file does not: it was left as it is.
	Notes []string `json:"notes"`
}

// LineError is a mistake at one line of a program file, counted from 1; 0 = the file as a whole.
type LineError struct {
	Line    int    `json:"line"`
	Message string `json:"message"`
}

func (e LineError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}
