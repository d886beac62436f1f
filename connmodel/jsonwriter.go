package connmodel

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// jsonWriter appends JSON text. It is made for records: no reflection, no allocation beyond the text itself, and text from
// the network is made harmless for terminals and log viewers.
type jsonWriter struct {
	b   []byte
	max int  // most octets of one string, as encoded
	cut bool // something was left out

	day  int64 // since 1970, that date spells: the times of one record are mostly of the same one
	date [len("2006-01-02")]byte
}

func (w *jsonWriter) raw(s string) { w.b = append(w.b, s...) }

// plain says which octets stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// str writes s as a JSON string, of at most w.max octets.
func (w *jsonWriter) str(s string) {
	w.b = append(w.b, '"')
	w.text(s)
	w.b = append(w.b, '"')
}

// text writes what stands between the quotes.
func (w *jsonWriter) text(s string) {
	if len(s) > w.max { // no octet becomes less than one
		s, w.cut = s[:runeStart(s, w.max)], true
	}
	for i := 0; i < len(s); i++ {
		if !plain[s[i]] {
			w.escaped(s)
			return
		}
	}
	w.b = append(w.b, s...)
}

// escaped is text for strings that hold something else than plain ASCII.
func (w *jsonWriter) escaped(s string) {
	end := len(w.b) + w.max
	for i := 0; i < len(s); {
		if len(w.b) >= end {
			w.cut = true
			return
		}
		c := s[i]
		if c < utf8.RuneSelf {
			w.ascii(c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			w.raw(`\ufffd`) // an octet that is no UTF-8
		case misleading(r):
			w.unicode(r)
		default:
			w.b = append(w.b, s[i:i+size]...)
		}
		i += size
	}
}

func (w *jsonWriter) ascii(c byte) {
	switch {
	case plain[c]:
		w.b = append(w.b, c)
	case c == '"' || c == '\\':
		w.b = append(w.b, '\\', c)
	case c == '\n':
		w.raw(`\n`)
	case c == '\t':
		w.raw(`\t`)
	default:
		w.unicode(rune(c))
	}
}

// Misleading reports whether r, beyond ASCII, steers a terminal or makes text look like another: such runes are escaped in records, and
// whoever writes JSON by other means should do the same.
func Misleading(r rune) bool { return misleading(r) }

// misleading reports whether r steers a terminal or makes text look like another: C1 controls, separators of lines,
// directional marks, invisible joiners and tags.
func misleading(r rune) bool {
	switch {
	case r < 0xa0, r == 0xad, r == 0x61c, r == 0xfeff:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	}
	return r >= 0xe0000 && r <= 0xe0fff
}

// unicode writes r as \u and four digits, or as a pair of them.
func (w *jsonWriter) unicode(r rune) {
	if r > 0xffff {
		r -= 0x10000
		w.unicode(0xd800 + r>>10)
		r = 0xdc00 + r&0x3ff
	}
	const hex = "0123456789abcdef"
	w.b = append(w.b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// strOrNull writes null for "".
func (w *jsonWriter) strOrNull(s string) {
	if s == "" {
		w.raw("null")
		return
	}
	w.str(s)
}

func (w *jsonWriter) list(l []string, most int) {
	if len(l) > most {
		l, w.cut = l[:most], true
	}
	w.b = append(w.b, '[')
	for i, s := range l {
		w.comma(i)
		w.str(s)
	}
	w.b = append(w.b, ']')
}

// comma separates element i from the one before.
func (w *jsonWriter) comma(i int) {
	if i > 0 {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) int(n int64)   { w.b = strconv.AppendInt(w.b, n, 10) }
func (w *jsonWriter) uint(n uint64) { w.b = strconv.AppendUint(w.b, n, 10) }
func (w *jsonWriter) bool(v bool)   { w.b = strconv.AppendBool(w.b, v) }

func (w *jsonWriter) id(id ID) {
	if id.IsZero() {
		w.raw("null")
		return
	}
	w.b = append(w.b, '"')
	w.b = id.appendText(w.b)
	w.b = append(w.b, '"')
}

// time writes RFC 3339 with nine digits of the second, in UTC; null for the zero time and for years RFC 3339 cannot tell.
func (w *jsonWriter) time(t time.Time) {
	if t.IsZero() {
		w.raw("null")
		return
	}
	sec := t.Unix()
	day := sec / 86400
	if sec %= 86400; sec < 0 {
		day, sec = day-1, sec+86400
	}
	if day != w.day || w.date[0] == 0 {
		u := t.UTC()
		if y := u.Year(); y < 0 || y > 9999 {
			w.raw("null")
			return
		}
		u.AppendFormat(w.date[:0], "2006-01-02")
		w.day = day
	}
	b := [...]byte{'"', '0', '0', '0', '0', '-', '0', '0', '-', '0', '0', 'T', '0', '0', ':', '0', '0', ':', '0', '0', '.', '0', '0', '0', '0', '0', '0', '0', '0', '0', 'Z', '"'}
	copy(b[1:], w.date[:])
	of, ns := uint32(sec), uint32(t.Nanosecond())
	two(b[12:], of/3600)
	two(b[15:], of/60%60)
	two(b[18:], of%60)
	b[21] += byte(ns / 100_000_000)
	two(b[22:], ns/1_000_000%100)
	two(b[24:], ns/10_000%100)
	two(b[26:], ns/100%100)
	two(b[28:], ns%100)
	w.b = append(w.b, b[:]...)
}

// two writes the two digits of n over b.
func two(b []byte, n uint32) {
	_ = b[1]
	b[0], b[1] = byte('0'+n/10), byte('0'+n%10)
}

// ms writes milliseconds with three decimals; null for "did not happen". What took less than a microsecond took one.
func (w *jsonWriter) ms(d time.Duration) {
	if d <= 0 {
		w.raw("null")
		return
	}
	us := max(int64((d+500*time.Nanosecond)/time.Microsecond), 1)
	w.int(us / 1000)
	w.b = append(w.b, '.')
	part := us % 1000
	w.b = append(w.b, byte('0'+part/100), byte('0'+part/10%10), byte('0'+part%10))
}

func (w *jsonWriter) address(a Address) {
	if a.IsZero() {
		w.raw("null")
		return
	}
	w.b = append(w.b, '"')
	if v6(a.Host) {
		w.b = append(w.b, '[')
		w.text(a.Host)
		w.b = append(w.b, ']')
	} else {
		w.text(a.Host)
	}
	w.b = append(w.b, ':')
	w.uint(uint64(a.Port))
	w.b = append(w.b, '"')
}

func (w *jsonWriter) addrPort(ap netip.AddrPort) {
	switch {
	case !ap.IsValid():
		w.raw("null")
	case ap.Addr().Zone() != "": // the zone is free text
		w.str(ap.String())
	default:
		w.b = append(w.b, '"')
		w.b = ap.AppendTo(w.b)
		w.b = append(w.b, '"')
	}
}
