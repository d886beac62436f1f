package connmodel

import (
	"bytes"
	"strings"
)

// RulePath is the path that rules see: without the query, and in the one spelling that a server makes of many. A rule that denies "/admin*"
// would else be passed by with "/%61dmin", "//admin" or "/x/../admin", which most servers take for the same. It allocates nothing where the
// path is sent in that spelling, as browsers do.
func (q *RequestFacts) RulePath() string {
	path, _, _ := strings.Cut(q.Path, "?")
	return CleanPath(path)
}

// CleanPath returns path with the escapes of visible ASCII decoded once ("%2F" too) and those of other bytes in upper case, without dot
// segments (RFC 3986, sections 5.2.4 and 6.2.2), and with one slash where there are several. What does not begin with a slash is left alone.
func CleanPath(path string) string {
	if path == "" || path[0] != '/' {
		return path
	}
	if strings.IndexByte(path, '%') >= 0 {
		path = unescapeVisible(path)
	}
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	out := make([]byte, 0, len(path))
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch segment {
		case "", ".":
		case "..":
			out = out[:max(0, bytes.LastIndexByte(out, '/'))]
		default:
			out = append(append(out, '/'), segment...)
			continue
		}
		if !more { // it names a directory
			out = append(out, '/')
		}
	}
	return string(out)
}

// unescapeVisible decodes "%21" to "%7E", and writes other escapes with upper-case digits.
func unescapeVisible(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+2 >= len(s) {
			out = append(out, s[i])
			continue
		}
		high, low := strings.IndexByte(hexDigits, upper(s[i+1])), strings.IndexByte(hexDigits, upper(s[i+2]))
		if high < 0 || low < 0 {
			out = append(out, '%')
			continue
		}
		if c := byte(high<<4 | low); c > ' ' && c < 0x7f {
			out = append(out, c)
		} else {
			out = append(out, '%', hexDigits[high], hexDigits[low])
		}
		i += 2
	}
	return string(out)
}

const hexDigits = "0123456789ABCDEF"

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}
