package ingress

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// ja4 is the fingerprint of FoxIO's JA4, version 1, of TLS over TCP:
//
//	t13d1516h2_8daaf6152771_e5627efa2ab1
//	|| ||   |  |            the first 12 digits of the SHA-256 of: extensions but SNI and ALPN, sorted; "_"; signature algorithms in order
//	|| ||   |  the same of the cipher suites, sorted
//	|| ||   first and last character of the first ALPN offer; 00 = none
//	|| |number of cipher suites and of extensions, at most 99
//	|| d = with a server name, i = without
//	|the highest version
//	t = TCP
//
// Numbers are written as four hexadecimal digits with commas between them; GREASE values are left out everywhere.
func (x *facts) ja4() string {
	suites := make([]uint16, 0, len(x.suites)/2)
	pairs(x.suites, func(v uint16) { suites = append(suites, v) })
	slices.Sort(suites)
	count := 0
	kept := make([]uint16, 0, len(x.extensions))
	for _, v := range x.extensions { // sorted
		if isGREASE(v) {
			continue
		}
		count++
		if v != extServerName && v != extALPN {
			kept = append(kept, v)
		}
	}
	out := make([]byte, 0, 36)
	out = append(out, 't')
	out = append(out, x.version()...)
	if x.hasName {
		out = append(out, 'd')
	} else {
		out = append(out, 'i')
	}
	out = twoDigits(twoDigits(out, len(suites)), count)
	out = append(appendEnds(out, x.firstALPN), '_')

	text := make([]byte, 0, 512)
	out = appendHash(out, appendList(text, suites))
	out = append(out, '_')
	text = appendList(text, kept)
	if signed := len(text); x.signatures != nil {
		text = append(text, '_')
		pairs(x.signatures, func(v uint16) { text = appendNumber(text, v, len(text) > signed+1) })
		if len(text) == signed+1 {
			text = text[:signed]
		}
	}
	return string(appendHash(out, text))
}

// version is the highest one offered, in two characters.
func (x *facts) version() string {
	v := x.legacy
	if x.versions != nil {
		v = 0
		pairs(x.versions, func(o uint16) { v = max(v, o) })
	}
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

func twoDigits(dst []byte, n int) []byte {
	n = min(n, 99)
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

// appendEnds appends the first and last character of a protocol; of its hexadecimal form where one of them is no letter or digit.
func appendEnds(dst, p []byte) []byte {
	if len(p) == 0 {
		return append(dst, "00"...)
	}
	first, last := p[0], p[len(p)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return append(dst, first, last)
	}
	return append(dst, hexDigits[first>>4], hexDigits[last&15])
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

const hexDigits = "0123456789abcdef"

func appendNumber(dst []byte, v uint16, comma bool) []byte {
	if comma {
		dst = append(dst, ',')
	}
	return append(dst, hexDigits[v>>12], hexDigits[v>>8&15], hexDigits[v>>4&15], hexDigits[v&15])
}

func appendList(dst []byte, list []uint16) []byte {
	for i, v := range list {
		dst = appendNumber(dst, v, i > 0)
	}
	return dst
}

// appendHash appends the short hash of a list; an empty list has zeros.
func appendHash(dst, text []byte) []byte {
	if len(text) == 0 {
		return append(dst, "000000000000"...)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(dst, sum[:6])
}
