package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"waymark/bench/summary"
)

// reserveBytes is the disk that is set aside at the start, for the result file of a run during which the disk fills up.
const reserveBytes = 16 << 20

// partial keeps a run's intervals on disk while it goes on. A nil partial keeps nothing.
type partial struct {
	out     string
	file    io.WriteCloser
	reserve string
}

// newPartial makes sure that the result can be written, before anything is measured.
func newPartial(out string) (*partial, error) {
	if out == "" {
		return nil, nil
	}
	p := &partial{out: out, reserve: out + ".reserve"}
	f, err := os.OpenFile(p.path(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write results to --out %s: %w", out, err)
	}
	p.file = f
	if err := reserve(p.reserve, reserveBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write results to --out %s: %w", out, err), p.discard())
	}
	return p, nil
}

// reserve writes a file of zeros, which takes its blocks on every file system.
func reserve(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, size))
	return errors.Join(err, f.Close())
}

func (p *partial) path() string { return p.out + ".partial" }

// diskError says that results cannot be kept. The run ends with what it has.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }

// add keeps an interval.
func (p *partial) add(in *summary.Interval) error {
	if p == nil {
		return nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("cannot encode an interval: %w", err)
	}
	if _, err := p.file.Write(append(b, '\n')); err != nil {
		return &diskError{fmt.Errorf("cannot keep results in %s: %w", p.path(), err)}
	}
	return nil
}

// finish writes the result file in place of the partial one. When it cannot, the partial one stays.
func (p *partial) finish(r *summary.Result) error {
	if p == nil {
		return nil
	}
	err := errors.Join(p.file.Close(), os.Remove(p.reserve))
	if writeErr := r.Write(p.out); writeErr != nil {
		return fmt.Errorf("%w; what was measured until then is in %s, one interval per line", writeErr, p.path())
	}
	return errors.Join(err, os.Remove(p.path()))
}

// discard removes everything, for a run that measured nothing.
func (p *partial) discard() error {
	if p == nil {
		return nil
	}
	p.file.Close()
	os.Remove(p.reserve)
	return os.Remove(p.path())
}
