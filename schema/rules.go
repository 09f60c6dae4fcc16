package schema

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// MaxSlug and MaxDestination bound, in bytes, a link's slug and destination.
const (
	MaxSlug        = 64
	MaxDestination = 2048
)

var reservedSlugs = map[string]bool{"v1": true, "robots": true, "favicon": true, "well-known": true, "admin": true, "api": true}

// NormalizeSlug returns a slug in lower case, the form it is stored and compared in. It returns an error that a
// person can act on when the slug is not 1..64 of A-Z a-z 0-9 and -, or is reserved.
func NormalizeSlug(s string) (string, error) {
	if s == "" {
		return "", errors.New("a slug needs at least one character")
	}
	if len(s) > MaxSlug {
		return "", fmt.Errorf("a slug has at most %d characters, this one has %d", MaxSlug, len(s))
	}
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' {
			return "", errors.New("a slug is made of letters A-Z, digits and hyphens only")
		}
	}
	s = strings.ToLower(s)
	if reservedSlugs[s] {
		return "", fmt.Errorf("the slug %q is reserved", s)
	}
	return s, nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// NormalizeHost returns a host name or IP address in the form it is stored and compared in: lower case, without
// port and final dot, IPv6 without brackets. It returns an error for anything that is not a plain host.
func NormalizeHost(s string) (string, error) {
	host := strings.ToLower(s)
	if rest, ok := strings.CutPrefix(host, "["); ok {
		addr, port, closed := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(addr)
		if err != nil || !closed || !ip.Is6() || ip.Zone() != "" || !validPort(port) {
			return "", fmt.Errorf("%q is not a host", s)
		}
		return ip.String(), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && ip.Zone() == "" {
		return ip.String(), nil
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if !validPort(host[i:]) {
			return "", fmt.Errorf("%q is not a host", s)
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return host, nil
	}
	if !validHostname(host) {
		return "", fmt.Errorf("%q is not a host", s)
	}
	return host, nil
}

func validPort(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != ':' || len(s) > 6 {
		return false
	}
	for _, c := range []byte(s[1:]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func validHostname(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	var last string
	for label := range strings.SplitSeq(host, ".") {
		last = label
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isAlphanumeric(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	// Browsers read a host that ends in a number as an IPv4 address in one of its many spellings.
	return !strings.HasPrefix(last, "0x") && strings.Trim(last, "0123456789") != ""
}

// DestinationRule allows destinations: a host, all subdomains of a host (*.shop.example), either with a port
// and with a path that the destination's path must lie under. Without a port the rule allows the scheme's own.
type DestinationRule struct {
	host       string
	subdomains bool
	port       string
	path       string
	scheme     string
}

// ParseDestinationRule reads a rule such as shop.example, *.shop.example/plans or http://localhost:8080. Without a
// scheme it allows https only.
func ParseDestinationRule(s string) (DestinationRule, error) {
	r := DestinationRule{scheme: "https"}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		if scheme != "https" && scheme != "http" {
			return r, fmt.Errorf("the allowed destination %q has a scheme other than http and https", s)
		}
		r.scheme, rest = scheme, after
	}
	host, path, ok := strings.Cut(rest, "/")
	if ok && path != "" {
		r.path = "/" + strings.TrimSuffix(path, "/")
	}
	host, r.subdomains = strings.CutPrefix(host, "*.")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		r.port = host[i+1:]
	}
	var err error
	if r.host, err = NormalizeHost(host); err != nil || strings.ContainsAny(r.path, "?#\\%") {
		return r, fmt.Errorf("the allowed destination %q is not a host with an optional path", s)
	}
	return r, nil
}

func (r DestinationRule) allows(u *url.URL, host string) bool {
	if r.scheme != u.Scheme || r.port != u.Port() {
		return false
	}
	if r.subdomains && !strings.HasSuffix(host, "."+r.host) || !r.subdomains && host != r.host {
		return false
	}
	path := u.Path
	return r.path == "" || path == r.path || strings.HasPrefix(path, r.path+"/")
}

// CheckDestination reports why a URL may not be a link's destination under the rules, or nil. It is deliberately
// narrow: what browsers and Go could read in different ways (backslashes, control bytes, user info, encoded
// slashes in the path, dot segments, hosts that are not plain ASCII) is refused.
func CheckDestination(dest string, rules []DestinationRule) error {
	if dest == "" {
		return errors.New("a destination is needed")
	}
	if len(dest) > MaxDestination {
		return fmt.Errorf("a destination has at most %d bytes, this one has %d", MaxDestination, len(dest))
	}
	for _, c := range []byte(dest) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>`^{|}", c) >= 0 {
			return errors.New("a destination is an absolute URL without spaces, control characters, backslashes or unencoded letters outside ASCII")
		}
	}
	u, err := url.Parse(dest)
	if err != nil || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || !strings.HasPrefix(dest, u.Scheme+"://") {
		return errors.New("a destination is an absolute https:// or http:// URL")
	}
	if u.User != nil {
		return errors.New("a destination holds no user name or password")
	}
	host, err := NormalizeHost(u.Host)
	if err != nil || strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("the destination's host %q is not a plain host name", u.Host)
	}
	if ambiguousPath(u.EscapedPath()) {
		return errors.New("a destination's path holds no dot segments or encoded slashes")
	}
	for _, r := range rules {
		if r.allows(u, host) {
			return nil
		}
	}
	return fmt.Errorf("%s://%s is not among the program's allowed destinations", u.Scheme, u.Host)
}

func ambiguousPath(escaped string) bool {
	lower := strings.ToLower(escaped)
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") {
		return true
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(lower, "%2e", "."), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
