package journal

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// applicationID marks our files ("VIAD"), so that a file of somebody else is not taken for one.
const applicationID = 0x56494144

// schemaVersion is PRAGMA user_version of the files that are written. Files of an older version are brought up to it by migrations when the writer opens
// them, and read as they are by readers that come before it; a newer one is not touched.
const schemaVersion = 1

// schema makes the tables of a new file. What queries leave blocks out by stands apart from the records, so that looking through it touches few pages.
//
// Times are microseconds since 1970, ids their 16 octets. words are the different values of wordFields in the block, each as NAME=VALUE between newlines;
// cut says that values were left out or shortened, so that what words lack may still be there.
const schema = `
CREATE TABLE block (
  seq          INTEGER PRIMARY KEY,
  n            INTEGER NOT NULL,
  first_end    INTEGER NOT NULL,
  last_end     INTEGER NOT NULL,
  first_start  INTEGER NOT NULL,
  last_start   INTEGER NOT NULL,
  min_id       BLOB NOT NULL,
  max_id       BLOB NOT NULL,
  errors       INTEGER NOT NULL,
  denied       INTEGER NOT NULL,
  differs      INTEGER NOT NULL,
  max_bytes    INTEGER NOT NULL,
  max_duration INTEGER NOT NULL,
  cut          INTEGER NOT NULL,
  words        BLOB NOT NULL
);
CREATE TABLE data (
  seq   INTEGER PRIMARY KEY,
  light BLOB NOT NULL,
  full  BLOB NOT NULL
);
`

// insertBlock and insertData add a block.
const (
	insertBlock = `INSERT INTO block (n, first_end, last_end, first_start, last_start, min_id, max_id, errors, denied, differs, max_bytes, max_duration, cut, words)
 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	insertData = `INSERT INTO data (seq, light, full) VALUES (?,?,?)`
)

// migrations bring a file of version i to version i+1.
var migrations = []string{}

// wordFields are the fields whose values stand in words.
var wordFields = func() (list []*connmodel.FilterField) {
	for _, name := range []string{"listener", "protocol", "client.address", "client.user", "target.host", "target.port", "tls.sni", "request.method", "response.status",
		"policy", "rule", "route", "route_used", "upstreams", "cert.verdict", "error.kind", "error.phase", "error.hop_name", "close_reason", "shadow.rule", "tags"} {
		f := connmodel.FilterFieldNamed(name)
		if f == nil {
			panic("journal: there is no field " + name)
		}
		if len(list) == maxWordFields {
			panic("journal: more fields than maxWordFields")
		}
		list = append(list, f)
	}
	return list
}()

// Bounds of words.
const (
	maxWord  = 128      // octets of a value; a longer one is cut
	maxWords = 64 << 10 // octets of all; what comes later is left out
)

// digest is what a block is left out by.
type digest struct {
	n                                              int
	firstEnd, lastEnd, firstStart, lastStart       int64
	minID, maxID                                   connmodel.ID
	errors, denied, differs, maxBytes, maxDuration int64
	cut                                            bool

	words []byte
	seen  map[word]struct{}
	text  []byte
	last  [maxWordFields]recent
}

// maxWordFields is as many as wordFields are, or more.
const maxWordFields = 32

// recent is the value that a field had in the record before. Most fields have few values, and saying one again is what costs most.
type recent struct {
	kind    connmodel.FilterType
	text    string
	number  float64
	address netip.Addr
}

// same reports whether v is the value of the record before, and remembers it for the next one.
func (r *recent) same(v *connmodel.FilterValue) bool {
	switch v.Type {
	case connmodel.FilterText, connmodel.FilterNumber, connmodel.FilterAddress:
	default: // null has no word, and lists are not remembered
		return false
	}
	if r.kind == v.Type && r.text == v.Text && r.number == v.Number && r.address == v.Address {
		return true
	}
	*r = recent{v.Type, v.Text, v.Number, v.Address}
	return false
}

type word struct {
	field uint8
	text  string
}

func (d *digest) reset() {
	seen, words := d.seen, d.words[:0]
	if seen == nil {
		seen = make(map[word]struct{})
	}
	clear(seen)
	*d = digest{seen: seen, words: append(words, '\n'), text: d.text}
}

// add counts f in.
func (d *digest) add(f *connmodel.Flow) {
	end, start := f.End.UnixMicro(), f.Start.UnixMicro()
	bytes, duration := f.Up+f.Down, end-start
	if d.n == 0 {
		d.firstEnd, d.lastEnd, d.firstStart, d.lastStart, d.minID, d.maxID = end, end, start, start, f.ID, f.ID
	}
	d.n++
	d.firstEnd, d.lastEnd = min(d.firstEnd, end), max(d.lastEnd, end)
	d.firstStart, d.lastStart = min(d.firstStart, start), max(d.lastStart, start)
	if string(f.ID[:]) < string(d.minID[:]) {
		d.minID = f.ID
	}
	if string(f.ID[:]) > string(d.maxID[:]) {
		d.maxID = f.ID
	}
	if f.Error != nil {
		d.errors++
	}
	if f.Decision != nil && f.Decision.Denied() {
		d.denied++
	}
	if f.Decision.ShadowDiffers() {
		d.differs++
	}
	d.maxBytes, d.maxDuration = max(d.maxBytes, bytes), max(d.maxDuration, duration)
	for i, field := range wordFields {
		v := field.Get(f)
		if d.last[i].same(&v) {
			continue
		}
		switch v.Type {
		case connmodel.FilterText:
			d.word(i, v.Text)
		case connmodel.FilterTexts:
			for _, t := range v.Texts {
				d.word(i, t)
			}
		default:
			if text, ok := wordOf(&v); ok {
				d.word(i, text)
			}
		}
	}
}

// wordOf is how a value that is no text stands in words; ok is false for null, and for what has no such form.
func wordOf(v *connmodel.FilterValue) (text string, ok bool) {
	switch v.Type {
	case connmodel.FilterText:
		return v.Text, true
	case connmodel.FilterNumber:
		return strconv.FormatFloat(v.Number, 'f', -1, 64), true
	case connmodel.FilterAddress:
		return v.Address.String(), true
	}
	return "", false
}

func (d *digest) word(field int, text string) {
	w := word{uint8(field), text}
	if _, ok := d.seen[w]; ok {
		return
	}
	d.seen[w] = struct{}{}
	if len(text) > maxWord {
		text, d.cut = text[:maxWord], true
	}
	if len(d.words) > maxWords {
		d.cut = true
		return
	}
	d.words = append(d.words, wordFields[field].Name...)
	d.words = append(d.words, '=')
	d.words = append(d.words, text...)
	d.words = append(d.words, '\n')
}

// hasWords reports whether the values of a field stand in words.
func hasWords(field *connmodel.FilterField) bool {
	return slices.ContainsFunc(wordFields, func(f *connmodel.FilterField) bool { return f.Name == field.Name && field.Key == "" })
}

// wordPattern is what words have where a field has the value text; ok is false where that cannot be told: what has a newline in it stands there as several.
func wordPattern(field *connmodel.FilterField, text string) (pattern []byte, ok bool) {
	if !hasWords(field) || len(text) > maxWord || strings.Contains(text, "\n") {
		return nil, false
	}
	return []byte("\n" + field.Name + "=" + text + "\n"), true
}
