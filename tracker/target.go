package tracker

import (
	"bytes"
	"net/netip"
	"unsafe"

	"waymark/schema"
)

// place is where a request target leads.
type place uint8

const (
	placeUnknown     place = iota // nothing is there
	placeSlug                     // a link, if there is one with that slug
	placeRobots                   // /robots.txt
	placeConversions              // /v1/conversions
	placeBad                      // no target at all: 400
)

// target is a request target cut into parts. The slices point into the request.
type target struct {
	place place
	// authority is the host of a target in absolute form; nil: the Host header says it.
	authority []byte
	slug      []byte
	query     []byte
}

// parseTarget cuts a request target in origin or absolute form. The path's only segment is the slug; one trailing
// slash is forgiven. Nothing is decoded, so nothing can be spelled in two ways.
func parseTarget(uri []byte) (t target) {
	if len(uri) == 0 {
		return target{place: placeBad}
	}
	for _, c := range uri {
		if c <= ' ' || c == 0x7f || c == '#' || c == '\\' {
			return target{place: placeBad}
		}
	}
	if uri[0] != '/' {
		rest, ok := cutScheme(uri)
		if !ok {
			return target{place: placeBad}
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		t.authority, uri = rest[:end], rest[end:]
		if len(t.authority) == 0 || bytes.IndexByte(t.authority, '@') >= 0 {
			return target{place: placeBad}
		}
	}
	path := uri
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		path, t.query = uri[:i], uri[i+1:]
	}
	switch string(path) {
	case "", "/":
		return t
	case "/robots.txt":
		t.place = placeRobots
		return t
	case "/v1/conversions":
		t.place = placeConversions
		return t
	}
	slug := path[1:]
	if slug[len(slug)-1] == '/' {
		slug = slug[:len(slug)-1]
	}
	if isSlug(slug) {
		t.place, t.slug = placeSlug, slug
	}
	return t
}

func cutScheme(uri []byte) (rest []byte, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(uri) > len(scheme) && equalFold(uri[:len(scheme)], scheme) {
			return uri[len(scheme):], true
		}
	}
	return nil, false
}

// equalFold reports whether b is the text, which is in lower case, in letters of any case.
func equalFold(b []byte, text string) bool {
	if len(b) != len(text) {
		return false
	}
	for i, c := range b {
		if toLower(c) != text[i] {
			return false
		}
	}
	return true
}

func hasPrefixFold(b []byte, text string) bool {
	return len(b) >= len(text) && equalFold(b[:len(text)], text)
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func isSlug(b []byte) bool {
	if len(b) == 0 || len(b) > schema.MaxSlug {
		return false
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	// The names of /v1/ and of files that browsers ask for are never links.
	return !equalFold(b, "v1")
}

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, toLower(c))
	}
	return dst
}

// maxHost is the longest authority that is looked at: a host name, or an address, with a port.
const maxHost = 253 + len(".:65535")

// appendHost appends the normal form of a Host header or authority, as schema.NormalizeHost has it, and reports
// whether it is well formed. It is looser about names, because one that is no host is simply not found. It does not
// allocate.
func appendHost(dst, host []byte) ([]byte, bool) {
	if len(host) == 0 || len(host) > maxHost {
		return dst, false
	}
	if host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 || !isPort(host[end+1:]) {
			return dst, false
		}
		return appendIPv6(dst, host[1:end])
	}
	if i := bytes.LastIndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return dst, false
		}
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) == 0 {
		return dst, false
	}
	for _, c := range host {
		c = toLower(c)
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return dst, false
		}
	}
	return appendLower(dst, host), true
}

func appendIPv6(dst, host []byte) ([]byte, bool) {
	for _, c := range host {
		c = toLower(c)
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != ':' && c != '.' {
			return dst, false
		}
	}
	addr, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(host), len(host)))
	if err != nil || !addr.Is6() {
		return dst, false
	}
	return addr.AppendTo(dst), true
}

func isPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) > len(":65535") {
		return false
	}
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendReferrerHost appends the host that a Referer header names, in lower case and without port, or nothing.
func appendReferrerHost(dst, referer []byte) []byte {
	i := bytes.Index(referer, schemeEnd)
	if i <= 0 || i > 16 {
		return dst
	}
	rest := referer[i+len(schemeEnd):]
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if at := bytes.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	start := len(dst)
	dst, ok := appendHost(dst, rest)
	if !ok || len(dst)-start > schema.MaxReferrerHost {
		return dst[:start]
	}
	return dst
}

var schemeEnd = []byte("://")
