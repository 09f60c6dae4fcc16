package visitor

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"
)

// maxHops bounds how many entries of X-Forwarded-For are walked.
const maxHops = 32

// Proxies are the networks whose word about a client's address is believed. The zero value believes nobody. It is
// immutable and safe for concurrent use.
type Proxies struct{ networks []netip.Prefix }

// ParseProxies reads networks in CIDR form, or single addresses.
func ParseProxies(list []string) (Proxies, error) {
	var p Proxies
	for _, s := range list {
		s = strings.TrimSpace(s)
		if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			p.networks = append(p.networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(s)
		if err != nil || network.Addr().Is4In6() {
			return Proxies{}, fmt.Errorf("%q is not a network such as 10.0.0.0/8 or 2001:db8::/32", s)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// Trusts reports whether an address, not mapped from IPv4 to IPv6, lies in a trusted network.
func (p Proxies) Trusts(addr netip.Addr) bool {
	for _, network := range p.networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// Client returns the address of the client: the socket's, or, as long as the hop that speaks is trusted, the one
// that it added at the right end of X-Forwarded-For. The values are those of all header lines, in the order received.
// An entry that is no address ends the walk at the hop that added it. It does not allocate for well-formed values.
func (p Proxies) Client(socket netip.Addr, forwarded [][]byte) netip.Addr {
	addr := socket.Unmap()
	if len(p.networks) == 0 {
		return addr
	}
	hops := 0
	for i := len(forwarded) - 1; i >= 0; i-- {
		line := forwarded[i]
		for more := true; more; {
			if hops++; hops > maxHops || !p.Trusts(addr) {
				return addr
			}
			var entry []byte
			line, entry, more = cutLast(line)
			next, ok := parseAddress(entry)
			if !ok {
				return addr
			}
			addr = next
		}
	}
	return addr
}

// cutLast cuts the part after the last comma off a list.
func cutLast(line []byte) (rest, last []byte, more bool) {
	for i := len(line) - 1; i >= 0; i-- {
		if line[i] == ',' {
			return line[:i], trim(line[i+1:]), true
		}
	}
	return nil, trim(line), false
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// parseAddress reads an address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1]:80.
func parseAddress(b []byte) (netip.Addr, bool) {
	if len(b) < 2 || len(b) > len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535") {
		return netip.Addr{}, false
	}
	port := []byte(nil)
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		b, port = b[1:end], b[end+1:]
		if bytes.IndexByte(b, ':') < 0 || len(port) > 0 && port[0] != ':' {
			return netip.Addr{}, false
		}
	} else if first := bytes.IndexByte(b, ':'); first >= 0 && bytes.IndexByte(b[first+1:], ':') < 0 {
		b, port = b[:first], b[first:]
	}
	if len(port) == 1 || len(port) > 6 || len(b) == 0 {
		return netip.Addr{}, false
	}
	for i, c := range port {
		if i > 0 && (c < '0' || c > '9') {
			return netip.Addr{}, false
		}
	}
	for _, c := range b { // what ParseAddr would only refuse with an error to allocate, and zones
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') && c != '.' && c != ':' {
			return netip.Addr{}, false
		}
	}
	addr, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(b), len(b)))
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
