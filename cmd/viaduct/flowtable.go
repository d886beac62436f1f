package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"viaduct/connmodel"
)

// tableWriter writes flows as lines of a table. How wide the columns are is known before the first line, so that none is held back: they share the
// terminal. Where the output is no terminal nothing is cut.
type tableWriter struct {
	w       *bufio.Writer
	p       palette
	zone    *time.Location
	days    bool // the lines are of several days: each has its date
	width   int  // of the terminal; 0 = there is none
	narrow  bool // bytes have one column
	columns []tableColumn
	headed  bool
	now     func() time.Time
}

// tableColumn is one column: its share of what is left when those of fixed width have theirs.
type tableColumn struct {
	head  string
	fixed int
	share int
	right bool
	width int
}

func newTable(w io.Writer, zone *time.Location, days bool) *tableWriter {
	t := &tableWriter{w: bufio.NewWriter(w), p: palette(colourful(w)), zone: zone, days: days, width: terminalWidth(w), now: time.Now}
	if t.zone == nil {
		t.zone = time.Local
	}
	t.lay()
	return t
}

// lay shares the width out.
func (t *tableWriter) lay() {
	stamp := len("15:04:05")
	if t.days {
		stamp = len("11-28 15:04:05")
	}
	t.columns = []tableColumn{
		{head: "TIME", fixed: stamp}, {head: "CLIENT", share: 21}, {head: "TARGET", share: 33}, {head: "ROUTE", share: 22}, {head: "RESULT", share: 24},
		{head: "UP", fixed: 5, right: true}, {head: "DOWN", fixed: 5, right: true}, {head: "TOOK", fixed: 6, right: true}, {head: "ID", fixed: 8},
	}
	if t.narrow = t.width > 0 && t.width < 110; t.narrow { // both directions in one
		t.columns = slices.Delete(t.columns, 6, 7)
		t.columns[5].head = "BYTES"
	}
	width := t.width
	if width == 0 {
		width = 160
	}
	left := width - len(t.columns) + 1
	for i := range t.columns {
		left -= t.columns[i].fixed
	}
	rest := max(left, 20)
	for i := range t.columns {
		c := &t.columns[i]
		if c.width = c.fixed; c.fixed == 0 {
			c.width = rest * c.share / 100
		}
	}
	used := 0
	for i := range t.columns {
		used += t.columns[i].width
	}
	t.columns[2].width += max(0, width-len(t.columns)+1-used) // what rounding left
}

func (t *tableWriter) flow(f *connmodel.Flow) error {
	if !t.headed {
		t.headed = true
		var head []string
		for _, c := range t.columns {
			head = append(head, c.head)
		}
		t.line(head, func(_ int, s string) string { return t.p.bold(s) })
	}
	result, paint := t.result(f)
	took := f.End
	if took.IsZero() {
		took = t.now()
	}
	stamp := "15:04:05"
	if t.days {
		stamp = "01-02 15:04:05"
	}
	row := []string{f.Start.In(t.zone).Format(stamp), whoShort(f), targetShort(f), routeShort(f), result, bytesShort(f.Up), bytesShort(f.Down), tookShort(took.Sub(f.Start)), f.ID.Short()}
	if t.narrow {
		row = slices.Delete(row, 6, 7)
		row[5] = bytesShort(f.Up + f.Down)
	}
	t.line(row, func(i int, s string) string {
		if i == 4 {
			return paint(s)
		}
		return s
	})
	return nil
}

// line writes the cells of a row.
func (t *tableWriter) line(row []string, paint func(int, string) string) {
	for i, s := range row {
		c := t.columns[i]
		if s = printable(s); s == "" {
			s = "-"
		}
		last := i == len(row)-1
		switch {
		case c.right:
			s = strings.Repeat(" ", max(0, c.width-cells(s))) + s
		case last:
		case t.width == 0:
			s += strings.Repeat(" ", max(0, c.width-cells(s)))
		default:
			s = fit(s, c.width)
		}
		if i > 0 {
			t.w.WriteByte(' ')
		}
		t.w.WriteString(paint(i, s))
	}
	t.w.WriteByte('\n')
}

// result says in a word or two how it went: of what failed the hop that failed first, for that is the question.
func (t *tableWriter) result(f *connmodel.Flow) (text string, paint func(string) string) {
	switch e := f.Error; {
	case f.Decision != nil && f.Decision.Denied():
		return "denied: " + orDash(f.Decision.Rule), t.p.warn
	case e != nil:
		return failedWhere(e) + ": " + string(e.Kind), t.p.bad
	case f.End.IsZero():
		return "open", t.p.good
	case f.Response != nil && f.Response.Status != 0:
		return fmt.Sprintf("%d", f.Response.Status), t.p.plain
	}
	return "ok " + strings.ReplaceAll(string(f.Reason), "_", " "), t.p.plain
}

// failedWhere names whose end failed.
func failedWhere(e *connmodel.ConnError) string {
	switch {
	case e.HopName != "":
		return e.HopName
	case e.Side == connmodel.SideHop && e.Hop > 0:
		return fmt.Sprintf("hop %d", e.Hop)
	case e.Side == "":
		return "failed"
	}
	return string(e.Side)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// routeShort is the way as it was used; of what reached nothing the one that was tried last, or the one that was decided.
func routeShort(f *connmodel.Flow) string {
	switch s := f.Server; {
	case s != nil && s.Route != "":
		return s.Route
	case s != nil && len(s.Attempts) > 0 && s.Attempts[len(s.Attempts)-1].Route != "":
		return s.Attempts[len(s.Attempts)-1].Route
	case f.Decision != nil && !f.Decision.Denied():
		return f.Decision.Route
	}
	return ""
}

// whoShort is the user, or the client's address.
func whoShort(f *connmodel.Flow) string {
	c := f.Client
	switch {
	case c == nil:
		return ""
	case c.User != "" && c.From().IsValid():
		return c.User + "@" + c.From().Addr().Unmap().String()
	case c.User != "":
		return c.User
	case c.From().IsValid():
		return c.From().Addr().Unmap().String()
	}
	return "unix"
}

// targetShort is what was asked for.
func targetShort(f *connmodel.Flow) string {
	if r := f.Request; r != nil && r.Method != "" {
		path := r.Path
		if path == "" {
			path = "/"
		}
		return r.Method + " " + hostPort(f.Target, r.Scheme) + path
	}
	if f.Target.IsZero() {
		return "(" + orDash(string(f.Protocol)) + ")"
	}
	return f.Target.String()
}

// bytesShort writes a size in at most five characters.
func bytesShort(n int64) string {
	if n < 1000 {
		return fmt.Sprint(max(n, 0))
	}
	v := float64(n)
	for _, unit := range []string{"k", "M", "G", "T", "P", "E"} {
		if v /= 1000; v < 9.95 {
			return fmt.Sprintf("%.1f%s", v, unit)
		} else if v < 999.5 {
			return fmt.Sprintf("%.0f%s", v, unit)
		}
	}
	return "lots"
}

// tookShort writes a length of time in at most six characters.
func tookShort(d time.Duration) string {
	switch {
	case d < 0:
		return "-"
	case d == 0:
		return "0"
	case d < 50*time.Microsecond:
		return "<0.1ms"
	case d < 9950*time.Microsecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%.0fms", float64(d)/float64(time.Millisecond))
	case d < 99950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0fm", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	}
	return fmt.Sprintf("%.0fd", d.Hours()/24)
}

func (t *tableWriter) flush() error { return t.w.Flush() }
func (t *tableWriter) end() error   { return t.w.Flush() }
