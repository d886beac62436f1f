package pac

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxSource bounds the text of a script, in bytes as it comes.
const MaxSource = 1 << 20

// Decode makes text of the bytes of a script. A byte order mark has the first word, then the charset of contentType (which may be
// ""), then the bytes themselves: what is no UTF-8 is taken for Windows-1252, of which Latin-1 is a part. Bytes that cannot be a script
// are an error that says so: too many, none, zeros among them, HTML.
func Decode(body []byte, contentType string) (string, error) {
	if len(body) > MaxSource {
		return "", fmt.Errorf("the script has more than %d bytes", MaxSource)
	}
	text, err := decode(body, contentType)
	if err != nil {
		return "", err
	}
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		return "", errors.New("it is empty")
	case strings.IndexByte(text, 0) >= 0:
		return "", errors.New("it is no text: there are zero bytes in it")
	case trimmed[0] == '<' && !strings.HasPrefix(trimmed, "<!--"): // which is a comment in JavaScript
		return "", errors.New("it is no script but HTML or XML, perhaps the page of a login or an error")
	case isHTML(trimmed):
		return "", errors.New("it is no script but HTML, perhaps the page of a login or an error")
	}
	return text, nil
}

func isHTML(s string) bool {
	head := strings.ToLower(s[:min(len(s), 2048)])
	return strings.HasPrefix(head, "<!--") && (strings.Contains(head, "<html") || strings.Contains(head, "<!doctype"))
}

func decode(body []byte, contentType string) (string, error) {
	switch {
	case bytes.HasPrefix(body, []byte{0xef, 0xbb, 0xbf}):
		return utf8OrWindows(body[3:]), nil
	case bytes.HasPrefix(body, []byte{0xff, 0xfe}):
		return decodeUTF16(body[2:], false)
	case bytes.HasPrefix(body, []byte{0xfe, 0xff}):
		return decodeUTF16(body[2:], true)
	}
	switch charset(contentType) {
	case "utf-16le", "utf-16":
		return decodeUTF16(body, false)
	case "utf-16be":
		return decodeUTF16(body, true)
	case "iso-8859-1", "latin1", "iso_8859-1", "windows-1252", "cp1252", "iso-8859-15":
		return windows1252(body), nil
	}
	return utf8OrWindows(body), nil
}

func charset(contentType string) string {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(params["charset"]))
}

func utf8OrWindows(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return windows1252(b)
}

func decodeUTF16(b []byte, big bool) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("it says that it is UTF-16, and has an odd number of bytes")
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		lo, hi := b[2*i], b[2*i+1]
		if big {
			lo, hi = hi, lo
		}
		units[i] = uint16(hi)<<8 | uint16(lo)
	}
	return string(utf16.Decode(units)), nil
}

// upper are the characters 0x80 to 0x9f of Windows-1252; the five that it does not have stay what Latin-1 says.
var upper = []rune("\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f" +
	"\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178")

func windows1252(b []byte) string {
	var s strings.Builder
	s.Grow(len(b) + len(b)/8)
	for _, c := range b {
		if 0x80 <= c && c < 0xa0 {
			s.WriteRune(upper[c-0x80])
		} else {
			s.WriteRune(rune(c))
		}
	}
	return s.String()
}
