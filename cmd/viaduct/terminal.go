package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// printable makes a text that somebody else wrote fit for one line of a terminal, a log or a cell: all that could move the cursor, colour, hide or
// turn round what stands beside it is written as an escape (\n, \x1b, \u202e), and so is each octet that is no UTF-8. It is the one function for that: whatever
// prints a name, a reason or a message that came by the network calls it.
func printable(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return escape(s, i)
		}
	}
	return s
}

// maxMarks is how many marks (accents and the like) may stand on one character: more are a way to paint over other lines.
const maxMarks = 4

func escape(s string, from int) string {
	b := append(make([]byte, 0, len(s)+16), s[:from]...)
	marks := 0
	for i := from; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, '\\', 'x', hexDigit(s[i]>>4), hexDigit(s[i]&15))
		case unicode.Is(unicode.M, r):
			if marks++; marks <= maxMarks && harmless(r) {
				b = append(b, s[i:i+size]...)
			}
		case harmless(r):
			b, marks = append(b, s[i:i+size]...), 0
		default:
			q := strconv.QuoteRuneToASCII(r)
			b, marks = append(b, q[1:len(q)-1]...), 0
		}
		i += size
	}
	return string(b)
}

func hexDigit(n byte) byte { return "0123456789abcdef"[n&15] }

// harmless reports whether a character shows as what it is. Beyond what Unicode calls printable, those are left out that take room and show nothing.
func harmless(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return false
	}
	return unicode.IsPrint(r)
}

// wide are the characters that take two cells of a terminal: East Asian ones and pictures.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x23e9, 0x23ec, 1}, {0x25fd, 0x25fe, 1}, {0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x26a1, 0x26a1, 1}, {0x2705, 0x2705, 1}, {0x274c, 0x274c, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0x33ff, 1}, {0x3400, 0x4dbf, 1}, {0x4e00, 0x9fff, 1}, {0xa000, 0xa4cf, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x1f300, 0x1f64f, 1}, {0x1f680, 0x1f6ff, 1}, {0x1f900, 0x1f9ff, 1}, {0x1fa70, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

// cells is how wide a printable text is.
func cells(s string) (n int) {
	for _, r := range s {
		n += runeCells(r)
	}
	return n
}

func runeCells(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.Is(unicode.M, r):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// fit makes a printable text exactly width cells wide: with blanks behind it, or cut with a mark for what is missing.
func fit(s string, width int) string {
	n := cells(s)
	if n <= width {
		return s + strings.Repeat(" ", width-n)
	}
	return cut(s, width)
}

// cut shortens a printable text to at most width cells, and says so by its last.
func cut(s string, width int) string {
	if cells(s) <= width {
		return s
	}
	mark := "…"
	if !unicodeTerminal() {
		mark = "~"
	}
	if width <= 0 {
		return ""
	}
	at, n := 0, 0
	for i, r := range s {
		w := runeCells(r)
		if n+w > width-1 {
			break
		}
		n += w
		at = i + utf8.RuneLen(r)
	}
	return s[:at] + mark + strings.Repeat(" ", width-1-n)
}

// unicodeTerminal reports whether the locale is one of UTF-8: where nothing says so, what is drawn is drawn in ASCII.
func unicodeTerminal() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// terminalWidth is how many columns w has, 0 when it is no terminal. COLUMNS says it for what is no terminal, too.
func terminalWidth(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 20 && n <= 1000 {
		return n
	}
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col >= 20 {
		return int(size.Col)
	} else if err == nil {
		return 80
	}
	return 0
}
