package router

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
)

// line is one canonical line as typed fields in the order they are written. Lines are pooled: a flow's two cost no map, no
// interface and no sorting.
type line struct {
	n    int
	list [24]lineField
	buf  []byte        // texts of fields that had to be made: ids, addresses, times
	self logrus.Fields // {lineKey: this line}, made once
}

// lineField is a key with a text, or, when made is set, with the text list[i].from to to of buf.
type lineField struct {
	key      string
	text     string
	from, to int32
	made     bool
	number   bool // written without quotes in JSON
}

// lineKey is where a LineFormatter finds a line among the fields of an entry.
const lineKey = "viaduct.line"

var linePool = sync.Pool{New: func() any {
	l := &line{buf: make([]byte, 0, 256)}
	l.self = logrus.Fields{lineKey: l}
	return l
}}

func newLine() *line { return linePool.Get().(*line) }

func (l *line) release() {
	l.n, l.buf = 0, l.buf[:0]
	clear(l.list[:])
	linePool.Put(l)
}

func (l *line) add(f lineField) {
	if l.n < len(l.list) {
		l.list[l.n] = f
		l.n++
	}
}

func (l *line) text(key, s string) { l.add(lineField{key: key, text: s}) }

func (l *line) optional(key, s string) {
	if s != "" {
		l.text(key, s)
	}
}

// made adds a field whose text is what was appended to buf since from.
func (l *line) made(key string, from int, number bool) {
	l.add(lineField{key: key, from: int32(from), to: int32(len(l.buf)), made: true, number: number})
}

func (l *line) id(key string, id connmodel.ID) { l.text(key, id.String()) }

func (l *line) addrPort(key string, a netip.AddrPort) {
	from := len(l.buf)
	if a.IsValid() {
		l.buf = a.AppendTo(l.buf)
	} else {
		l.buf = append(l.buf, "unix"...)
	}
	l.made(key, from, false)
}

func (l *line) address(key string, a connmodel.Address) {
	from := len(l.buf)
	l.buf = a.Append(l.buf)
	l.made(key, from, false)
}

func (l *line) number(key string, n int64) {
	from := len(l.buf)
	l.buf = strconv.AppendInt(l.buf, n, 10)
	l.made(key, from, true)
}

func (l *line) millis(key string, d time.Duration) {
	from := len(l.buf)
	l.buf = strconv.AppendFloat(l.buf, float64(d.Microseconds())/1000, 'f', -1, 64)
	l.made(key, from, true)
}

func (l *line) decision(d *connmodel.Decision) {
	from := len(l.buf)
	l.buf = append(append(append(l.buf, d.Policy...), '/'), d.Rule...)
	l.made("rule", from, false)
	if d.File != "" {
		from = len(l.buf)
		l.buf = strconv.AppendInt(append(append(l.buf, d.File...), ':'), int64(d.Line), 10)
		l.made("at", from, false)
	}
	l.optional("via", d.Route)
	if !d.Server.IsZero() {
		l.address("server", d.Server)
	}
}

// value returns the text of a field.
func (l *line) value(f *lineField) []byte { return l.buf[f.from:f.to] }

// fields is the line for formatters that know nothing of lines.
func (l *line) fields() logrus.Fields {
	m := make(logrus.Fields, l.n)
	for i := range l.list[:l.n] {
		f := &l.list[i]
		switch {
		case f.number:
			m[f.key] = json.Number(l.value(f))
		case f.made:
			m[f.key] = string(l.value(f))
		default:
			m[f.key] = f.text
		}
	}
	return m
}

// LineFormatter writes the canonical lines of LogrusLog as text (key=value, as logrus does, but in a fixed order) or as JSON, and
// leaves all other entries to Base.
type LineFormatter struct {
	JSON   bool
	NoTime bool // text lines without a time: the journal stamps them
	Base   logrus.Formatter
}

const lineTime = "2006-01-02T15:04:05.000Z07:00"

// Format implements logrus.Formatter.
func (f *LineFormatter) Format(e *logrus.Entry) ([]byte, error) {
	l, ok := e.Data[lineKey].(*line)
	if !ok {
		b, err := f.Base.Format(e)
		if f.JSON {
			b = escapeMisleading(b)
		}
		return b, err
	}
	var b []byte
	if e.Buffer != nil {
		b = e.Buffer.AvailableBuffer()
	}
	if f.JSON {
		return f.appendJSON(b, e, l), nil
	}
	if !f.NoTime {
		b = append(b, `time="`...)
		b = e.Time.UTC().AppendFormat(b, lineTime)
		b = append(b, `" `...)
	}
	b = append(b, `level=info msg=`...)
	b = appendText(b, []byte(e.Message))
	for i := range l.list[:l.n] {
		f := &l.list[i]
		b = append(append(append(b, ' '), f.key...), '=')
		if f.made {
			b = appendText(b, l.value(f))
		} else {
			b = appendText(b, f.text)
		}
	}
	return append(b, '\n'), nil
}

func (f *LineFormatter) appendJSON(b []byte, e *logrus.Entry, l *line) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, lineTime)
	b = append(b, `","level":"info","msg":`...)
	b = appendJSONText(b, e.Message)
	for i := range l.list[:l.n] {
		f := &l.list[i]
		b = append(append(append(b, `,"`...), f.key...), `":`...)
		switch {
		case f.number:
			b = append(b, l.value(f)...)
		case f.made:
			b = appendJSONText(b, l.value(f))
		default:
			b = appendJSONText(b, f.text)
		}
	}
	return append(b, "}\n"...)
}

// appendText writes a value of a text line, in quotes where it holds more than logrus leaves bare. What a client made up cannot
// forge a line or reach a terminal: control bytes and broken UTF-8 are escaped.
func appendText[T string | []byte](b []byte, s T) []byte {
	bare := len(s) > 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, string(s))
		}
		bare = bare && bareText[c]
	}
	if bare {
		return append(b, s...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// bareText are the bytes that logrus' text formatter leaves without quotes.
var bareText = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '/' || c == '@' || c == '^' || c == '+'
	}
	return t
}()

// appendJSONText writes a JSON string; plain ASCII takes the short way.
func appendJSONText[T string | []byte](b []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			enc, err := json.Marshal(string(s))
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, escapeMisleading(enc)...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// escapeMisleading escapes what encoding/json leaves in texts though it steers terminals or hides: C1 controls, DEL, marks of direction, what
// cannot be seen. b is JSON, which holds such runes in strings alone.
func escapeMisleading(b []byte) []byte {
	i := 0
	for i < len(b) && b[i] < 0x7f {
		i++
	}
	if i == len(b) {
		return b
	}
	out := append(make([]byte, 0, len(b)+16), b[:i]...)
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r < 0x7f || !connmodel.Misleading(r):
			out = append(out, b[i:i+n]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += n
	}
	return out
}
