package main

import (
	"bufio"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// flowWriter writes flows one by one as they come, so that a million of them are never held.
type flowWriter interface {
	flow(f *connmodel.Flow) error
	// flush passes on what was written, for those who look on.
	flush() error
	// end writes what stands behind the last.
	end() error
}

// ndjsonWriter writes records as they are, one a line.
type ndjsonWriter struct {
	w   *bufio.Writer
	buf []byte
}

func newNDJSON(w io.Writer) *ndjsonWriter { return &ndjsonWriter{w: bufio.NewWriter(w)} }

func (n *ndjsonWriter) flow(f *connmodel.Flow) error {
	n.buf = append(f.AppendJSON(n.buf[:0]), '\n')
	_, err := n.w.Write(n.buf)
	return err
}

func (n *ndjsonWriter) flush() error { return n.w.Flush() }
func (n *ndjsonWriter) end() error   { return n.w.Flush() }

// csvColumns are the columns of --csv.
var csvColumns = []struct {
	name string
	of   func(f *connmodel.Flow) string
}{
	{"id", func(f *connmodel.Flow) string { return f.ID.String() }},
	{"start", func(f *connmodel.Flow) string { return stampUTC(f.Start) }},
	{"end", func(f *connmodel.Flow) string { return stampUTC(f.End) }},
	{"duration_ms", func(f *connmodel.Flow) string {
		if f.End.IsZero() {
			return ""
		}
		return strconv.FormatFloat(millis(f.End.Sub(f.Start)), 'f', -1, 64)
	}},
	{"listener", field("listener")}, {"protocol", field("protocol")}, {"client", field("client.address")}, {"user", field("client.user")},
	{"target", func(f *connmodel.Flow) string { return f.Target.String() }},
	{"method", field("request.method")}, {"path", func(f *connmodel.Flow) string {
		if f.Request == nil {
			return ""
		}
		return f.Request.Path
	}}, {"status", field("response.status")},
	{"policy", field("policy")}, {"rule", field("rule")}, {"where", func(f *connmodel.Flow) string { return f.Decision.Where() }}, {"outcome", field("outcome")}, {"route", field("route")},
	{"route_used", field("route_used")}, {"attempts", field("attempts")},
	{"error_kind", field("error.kind")}, {"error_phase", field("error.phase")}, {"error_side", field("error.side")}, {"error_hop", field("error.hop")}, {"error_hop_name", field("error.hop_name")}, {"error_message", field("error.message")},
	{"reply", field("reply")}, {"bytes_up", field("bytes_up")}, {"bytes_down", field("bytes_down")}, {"closed_first", field("closed_first")}, {"close_reason", field("close_reason")}, {"shadow_differs", field("shadow.differs")},
}

// field is what filters call so, as text; null is "".
func field(name string) func(*connmodel.Flow) string {
	f := connmodel.FilterFieldNamed(name)
	return func(flow *connmodel.Flow) string { return valueText(f.Get(flow)) }
}

func valueText(v connmodel.FilterValue) string {
	switch v.Type {
	case connmodel.FilterText:
		return v.Text
	case connmodel.FilterNumber:
		return strconv.FormatFloat(v.Number, 'f', -1, 64)
	case connmodel.FilterBool:
		return strconv.FormatBool(v.Bool)
	case connmodel.FilterTime:
		return stampUTC(v.Time)
	case connmodel.FilterAddress:
		return v.Address.String()
	case connmodel.FilterTexts:
		return strings.Join(v.Texts, " ")
	}
	return ""
}

func stampUTC(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// csvWriter writes a table for spreadsheets: RFC 4180, with a head.
type csvWriter struct {
	w   *csv.Writer
	row []string
}

func newCSV(w io.Writer) (*csvWriter, error) {
	c := &csvWriter{w: csv.NewWriter(w), row: make([]string, len(csvColumns))}
	c.w.UseCRLF = true // RFC 4180, section 2
	for i := range csvColumns {
		c.row[i] = csvColumns[i].name
	}
	return c, c.w.Write(c.row)
}

func (c *csvWriter) flow(f *connmodel.Flow) error {
	for i := range csvColumns {
		c.row[i] = cell(csvColumns[i].of(f))
	}
	return c.w.Write(c.row)
}

func (c *csvWriter) flush() error {
	c.w.Flush()
	return c.w.Error()
}

func (c *csvWriter) end() error { return c.flush() }

// cell makes a text harmless for a spreadsheet, which would take one that begins like a formula for one: an apostrophe stands before it. The
// full-width forms of the signs count as well, and so do blanks before them.
func cell(s string) string {
	s = printable(s)
	if strings.ContainsAny(firstSign(s), "=+-@＝＋－＠") && s != "-" {
		return "'" + s
	}
	return s
}

// firstSign is the first character that is no blank.
func firstSign(s string) string {
	for _, r := range strings.TrimLeft(s, " ") {
		return string(r)
	}
	return ""
}
