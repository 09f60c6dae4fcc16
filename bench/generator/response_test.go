package generator

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

func TestParseHead(t *testing.T) {
	f := func(head string, status int, location, cookie string, length int64, closes bool) {
		t.Helper()
		for cut := range len(head) { // every part of it asks for more
			var p Response
			if n, err := parseHead([]byte(head[:cut]), &p); n != 0 || err != nil {
				t.Errorf("parseHead(%q) = %d, %v, want 0 and no error", head[:cut], n, err)
			}
		}
		var p Response
		n, err := parseHead([]byte(head+"rest"), &p)
		if err != nil || n != len(head) || p.Status != status || string(p.Location) != location || string(p.Cookie) != cookie || p.length != length || p.close != closes {
			t.Errorf("parseHead(%q) = %d, %v, %+v; want %d, status %d, location %q, cookie %q, length %d, close %v", head, n, err, p, len(head), status, location, cookie, length, closes)
		}
	}
	f("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, "/x", "", 0, false)
	f("HTTP/1.1 302 Found\r\nlocation:/x\r\ncontent-length:\t7\r\nSET-COOKIE: a=b; Path=/\r\nset-cookie: c=d\r\n\r\n", 302, "/x", "a=b; Path=/", 7, false)
	f("HTTP/1.1 200 OK\nContent-Length: 3\n\n", 200, "", "", 3, false)
	f("HTTP/1.1 404 Not Found\r\nConnection: Close\r\nContent-Lengthy: 9\r\n\r\n", 404, "", "", -1, true)
	f("HTTP/1.0 200 OK\r\nServer: x\r\n\r\n", 200, "", "", -1, true)

	bad := func(head string) {
		t.Helper()
		var p Response
		if n, err := parseHead([]byte(head), &p); err == nil {
			t.Errorf("parseHead(%q) = %d, want an error", head, n)
		}
	}
	bad("SSH-2.0-OpenSSH_9.2")
	bad("HTTP/2.0 200 OK\r\n\r\n")
	bad("HTTP/1.1 2x0 OK\r\n\r\n")
	bad("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")
	bad("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")
}

// read puts an answer together from pieces of the given size.
func read(b []byte, piece int, head bool) (Response, bool, error) {
	var r reader
	var p Response
	q := &Request{Head: head}
	for len(b) > 0 {
		n := min(piece, len(b))
		whole, err := r.feed(append([]byte(nil), b[:n]...), q, &p)
		if b = b[n:]; whole || err != nil {
			if whole && len(b) > 0 {
				return p, false, errMalformed
			}
			return p, whole, err
		}
	}
	return p, r.end(), nil
}

func TestReaderInPieces(t *testing.T) {
	f := func(answer string, head, whole bool) {
		t.Helper()
		for piece := 1; piece <= len(answer); piece++ {
			p, got, err := read([]byte(answer), piece, head)
			if got != whole || err != nil {
				t.Fatalf("%q in pieces of %d: whole = %v, %v, want %v", answer, piece, got, err, whole)
			}
			if whole && p.Status == 302 && string(p.Location) != "/there" {
				t.Fatalf("%q in pieces of %d: location %q", answer, piece, p.Location)
			}
		}
	}
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", false, true)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 11\r\n\r\nhello world", false, true)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 11\r\n\r\nhello worl", false, false)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 11\r\n\r\n", true, true)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n", false, true)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false, false)
	f("HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\nuntil the connection ends", false, true)
	f("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", false, true)
	f("HTTP/1.1 204 No Content\r\n\r\n", false, true)
}

// FuzzReader holds the parser against the standard library's: where both read an answer whole, they read the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"), 7)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 1)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), 100)
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), 9)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		if piece < 1 || len(b) > 4096 {
			return
		}
		p, whole, err := read(b, piece, false)
		if p2, whole2, err2 := read(b, len(b)+1, false); whole != whole2 || (err == nil) != (err2 == nil) || whole && p.Status != p2.Status {
			t.Fatalf("%q in pieces of %d: %v %v, at once: %v %v", b, piece, whole, err, whole2, err2)
		}
		std, stdErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if !whole || stdErr != nil || std.StatusCode < 200 {
			return
		}
		if _, err := io.ReadAll(std.Body); err == nil && p.Status != std.StatusCode {
			t.Fatalf("%q: status %d, net/http reads %d", b, p.Status, std.StatusCode)
		}
	})
}
