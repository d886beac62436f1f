package pac

import (
	"fmt"
	"strings"
)

// This file and convert.go read the small part of JavaScript that most PAC scripts are written in, to say the same in a policy. They never
// decide anything: a script is always run by an engine.

// token is a word of a script.
type token struct {
	kind byte // i name, s string, n number, p punctuation, 0 end
	text string
	line int
}

// scan takes a script apart. What it does not know ends it with an error.
func scan(src string) (all []token, err error) {
	line := 1
	for i := 0; i < len(src); {
		c := src[i]
		rest := src[i:]
		switch {
		case c == '\n':
			line++
			i++
		case c <= ' ':
			i++
		case strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "<!--"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			i += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return nil, fmt.Errorf("line %d: the comment does not end", line)
			}
			line += strings.Count(rest[:n+4], "\n")
			i += n + 4
		case c == '"' || c == '\'':
			text, n, ok := quotedText(rest)
			if !ok {
				return nil, fmt.Errorf("line %d: the text does not end, or has an escape that is not known here", line)
			}
			all = append(all, token{'s', text, line})
			i += n
		case isWord(c):
			n := 1
			for i+n < len(src) && (isWord(src[i+n]) || src[i] >= '0' && src[i] <= '9' && src[i+n] == '.') {
				n++
			}
			kind := byte('i')
			if c >= '0' && c <= '9' {
				kind = 'n'
			}
			all = append(all, token{kind, rest[:n], line})
			i += n
		default:
			n := 1
			for _, p := range []string{"===", "!==", "==", "!=", "&&", "||", "=>"} {
				if strings.HasPrefix(rest, p) {
					n = len(p)
					break
				}
			}
			all = append(all, token{'p', rest[:n], line})
			i += n
		}
	}
	return all, nil
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quotedText reads a text in quotes, and how long it is in the script.
func quotedText(s string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			return b.String(), i + 1, true
		case c == '\n':
			return "", 0, false
		case c == '\\':
			if i++; i >= len(s) || !strings.ContainsRune(`\'"/.`, rune(s[i])) {
				return "", 0, false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}
