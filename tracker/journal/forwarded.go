package journal

import (
	"encoding/binary"
	"fmt"
	"io"

	"waymark/schema"
)

// forwardedName is the file that holds how far the journal was forwarded: a position and its checksum. It is a hint,
// never synced: what it misses is sent again, and the log drops it as a duplicate.
const forwardedName = "forwarded"

// SetForwarded keeps a position for the next opening.
func (j *Journal) SetForwarded(position schema.Position) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(position))
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	file, err := j.fs.Create(j.path(forwardedName), "waymark-journal")
	if err != nil {
		return fmt.Errorf("cannot keep the forwarded position: %w", err)
	}
	_, err = file.Write(b)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot keep the forwarded position: %w", err)
	}
	return nil
}

// Forwarded returns the position that SetForwarded kept last, 0 if there is none that can be read.
func (j *Journal) Forwarded() schema.Position {
	file, err := j.fs.Open(j.path(forwardedName))
	if err != nil {
		return 0
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	if err != nil || len(b) != 12 || checksum(b[:8]) != binary.BigEndian.Uint32(b[8:]) {
		return 0
	}
	return schema.Position(binary.BigEndian.Uint64(b))
}

// Appended returns the position up to which records have been handed in and not given up.
func (j *Journal) Appended() schema.Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, g := range []*group{j.pending, j.inFlight} {
		if g != nil {
			return g.first + schema.Position(g.count) - 1
		}
	}
	return schema.Position(max(j.written.Load(), j.synced.Load()))
}
