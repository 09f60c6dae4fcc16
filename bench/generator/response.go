package generator

import (
	"bytes"
	"errors"
	"strconv"
)

// maxHead bounds an answer's head, maxBody the part of a body that is kept while its end is looked for.
const (
	maxHead = 64 << 10
	maxBody = 4 << 20
)

var errMalformed = errors.New("the answer is not HTTP/1.1")

// parseHead reads an answer's status line and the few header fields that matter. It returns the head's length, 0 if
// more bytes are needed. It neither copies nor allocates.
func parseHead(b []byte, p *Response) (int, error) {
	p.Outcome, p.Status, p.Location, p.Cookie, p.close, p.chunked, p.length = Answered, 0, nil, nil, false, false, -1
	if len(b) < 13 {
		if !bytes.HasPrefix([]byte("HTTP/1.1 "), b[:min(len(b), 7)]) {
			return 0, errMalformed
		}
		return 0, nil
	}
	if string(b[:7]) != "HTTP/1." || b[8] != ' ' {
		return 0, errMalformed
	}
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return 0, errMalformed
		}
		p.Status = p.Status*10 + int(c-'0')
	}
	p.close = b[7] == '0'
	at := bytes.IndexByte(b, '\n') + 1
	for at > 0 {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			break
		}
		line := b[at : at+n]
		at += n + 1
		if n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) == 0 {
			return at, nil
		}
		if err := parseField(line, p); err != nil {
			return 0, err
		}
	}
	if len(b) > maxHead {
		return 0, errMalformed
	}
	return 0, nil
}

func parseField(line []byte, p *Response) error {
	switch line[0] | 0x20 {
	case 'c':
		if v, ok := field(line, "content-length"); ok {
			n, err := strconv.ParseUint(string(v), 10, 62)
			if err != nil {
				return errMalformed
			}
			p.length = int64(n)
		} else if v, ok := field(line, "connection"); ok && equalFold(v, "close") {
			p.close = true
		}
	case 'l':
		if v, ok := field(line, "location"); ok {
			p.Location = v
		}
	case 's':
		if v, ok := field(line, "set-cookie"); ok && p.Cookie == nil {
			p.Cookie = v
		}
	case 't':
		if v, ok := field(line, "transfer-encoding"); ok && equalFold(v, "chunked") {
			p.chunked = true
		}
	}
	return nil
}

// field returns the value of a header line if its name is the one given, in lower case.
func field(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !equalFold(line[:len(name)], name) {
		return nil, false
	}
	v := line[len(name)+1:]
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	return v, true
}

// equalFold compares with a string in lower case; only the letters of ASCII fold.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// noBody reports whether an answer to a request ends with its head.
func (p *Response) noBody(head bool) bool {
	return head || p.Status == 204 || p.Status == 304 || p.Status < 200 || p.length == 0 && !p.chunked
}

// chunkedLength returns the length of a whole chunked body, 0 if more bytes are needed.
func chunkedLength(b []byte) (int, error) {
	at := 0
	for {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0, nil
		}
		text, _, _ := bytes.Cut(bytes.TrimRight(b[at:at+n], "\r"), []byte(";"))
		size, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 16, 31)
		if err != nil || size > maxBody {
			return 0, errMalformed
		}
		at += n + 1
		if size == 0 {
			return trailerLength(b, at)
		}
		at += int(size) + 2
		if at > len(b) {
			return 0, nil
		}
	}
}

// trailerLength returns where the empty line after the trailers ends, 0 if more bytes are needed.
func trailerLength(b []byte, at int) (int, error) {
	for {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0, nil
		}
		empty := n == 0 || n == 1 && b[at] == '\r'
		at += n + 1
		if empty {
			return at, nil
		}
	}
}

// reader puts one answer together from what arrives on a connection.
type reader struct {
	kept []byte // bytes of an answer that is not whole yet
	left int64  // bytes of the body that are still to come and need not be kept; -1: until the connection ends
	head bool   // the head has been read into the response
}

func (r *reader) reset() { r.kept, r.left, r.head = r.kept[:0], 0, false }

// feed takes bytes that arrived. It returns true when the answer is whole. The response's slices point into b or into
// the reader's memory.
func (r *reader) feed(b []byte, q *Request, p *Response) (bool, error) {
	if r.head && !p.chunked {
		return r.skip(len(b))
	}
	if len(r.kept) > 0 {
		r.kept = append(r.kept, b...)
		b = r.kept
	}
	n, err := parseHead(b, p)
	if err != nil {
		return false, err
	}
	if n == 0 {
		r.keep(b)
		return false, nil
	}
	if p.Status == 100 || p.Status == 103 { // an interim answer: what follows is the one that counts
		rest := append([]byte(nil), b[n:]...)
		r.reset()
		if len(rest) == 0 {
			return false, nil
		}
		return r.feed(rest, q, p)
	}
	if p.noBody(q.Head) {
		return r.whole(len(b) - n)
	}
	if p.chunked {
		return r.feedChunked(b, n)
	}
	r.head = true
	if p.length < 0 {
		p.close = true
		r.left = -1
	} else {
		r.left = p.length - int64(len(b)-n)
		if r.left <= 0 {
			return r.whole(int(-r.left))
		}
	}
	r.keep(b[:n])
	_, err = parseHead(r.kept, p) // the slices must outlive b
	return false, err
}

func (r *reader) feedChunked(b []byte, head int) (bool, error) {
	size, err := chunkedLength(b[head:])
	if err != nil || len(b)-head > maxBody {
		return false, errMalformed
	}
	if size == 0 {
		r.keep(b)
		return false, nil
	}
	return r.whole(len(b) - head - size)
}

func (r *reader) skip(n int) (bool, error) {
	if r.left < 0 {
		return false, nil
	}
	r.left -= int64(n)
	if r.left > 0 {
		return false, nil
	}
	return r.whole(int(-r.left))
}

// whole ends an answer. Nothing may follow it: one request at a time is under way.
func (r *reader) whole(rest int) (bool, error) {
	if rest > 0 {
		return false, errMalformed
	}
	return true, nil
}

func (r *reader) keep(b []byte) {
	if len(r.kept) == 0 || &r.kept[0] != &b[0] {
		r.kept = append(r.kept[:0], b...)
	}
}

// end tells the reader that the server closed the connection; true if that is how the answer was to end.
func (r *reader) end() bool { return r.head && r.left < 0 }
