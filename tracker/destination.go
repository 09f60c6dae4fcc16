package tracker

import "bytes"

// ours are the parameters that the tracker itself appends to a destination.
type ours struct {
	clickIDParam, partnerParam []byte
	clickID, partner           []byte
}

// appendLocation appends a destination with the tracker's parameters, and with those of the request that allowed
// names, before its fragment. A key that the destination has keeps the destination's value, and is not added again;
// nothing of a request but such keys and values ever reaches the result.
func appendLocation(dst, destination []byte, own ours, request []byte, allowed func(key []byte) bool) []byte {
	base, fragment := destination, []byte(nil)
	if i := bytes.IndexByte(destination, '#'); i >= 0 {
		base, fragment = destination[:i], destination[i:]
	}
	var query []byte
	separator := byte('?')
	if i := bytes.IndexByte(base, '?'); i >= 0 {
		query, separator = base[i+1:], '&'
		if len(query) == 0 || query[len(query)-1] == '&' {
			separator = 0
		}
	}
	dst = append(dst, base...)
	add := func(key, value []byte) {
		if separator != 0 {
			dst = append(dst, separator)
		}
		separator = '&'
		dst = append(appendSafe(dst, key), '=')
		dst = appendSafe(dst, value)
	}
	if len(own.clickIDParam) > 0 && !hasKey(query, own.clickIDParam) {
		add(own.clickIDParam, own.clickID)
	}
	if len(own.partnerParam) > 0 && len(own.partner) > 0 && !hasKey(query, own.partnerParam) {
		add(own.partnerParam, own.partner)
	}
	start := len(dst)
	for n := 0; len(request) > 0 && n < maxParameters; n++ {
		var key, value []byte
		if key, value, request = cutParameter(request); !allowed(key) {
			continue
		}
		if hasKey(query, key) || sameKey(key, own.clickIDParam) || sameKey(key, own.partnerParam) || hasKey(bytes.TrimLeft(dst[start:], "?&"), key) {
			continue
		}
		before, beforeSeparator := len(dst), separator
		if add(key, value); len(dst)-start > maxPassthrough {
			dst, separator = dst[:before], beforeSeparator
		}
	}
	return append(dst, fragment...)
}
