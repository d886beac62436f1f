package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
)

// Measures of the chart, in pixels.
const (
	panelWidth, barHeight, labelWidth, titleHeight, gap = 460, 18, 160, 44, 24
	barRoom                                             = panelWidth - labelWidth - 130
)

// svg draws one panel of bars for each table, two abreast. A bar that would dwarf the others is cut and marked.
func (r *report) svg() []byte {
	var b bytes.Buffer
	var columns [2]int // height used so far
	for _, t := range r.Tables {
		if len(t.Rows) == 0 || t.raw {
			continue
		}
		i := 0
		if columns[1] < columns[0] {
			i = 1
		}
		t.panel(&b, gap+i*(panelWidth+gap), 60+columns[i])
		columns[i] += titleHeight + len(t.Rows)*barHeight + gap
	}
	width, height := 2*panelWidth+3*gap, 60+max(columns[0], columns[1])
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%d" y="30" font-size="18" font-weight="bold">Viaduct and other proxies</text>`+"\n", gap)
	fmt.Fprintf(&out, `<text x="%d" y="48" fill="#666">%s, Linux %s; medians of %d interleaved rounds; number and ratio to Viaduct</text>`+"\n",
		gap, html.EscapeString(r.Machine.CPU), html.EscapeString(r.Machine.Kernel), r.Rounds)
	out.Write(b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (t *table) panel(b *bytes.Buffer, x, y int) {
	title, _, _ := strings.Cut(t.Title, " (")
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text><text x="%d" y="%d" fill="#666" font-size="11">%s</text>`+"\n",
		x, y+20, html.EscapeString(title), x, y+35, html.EscapeString(t.Unit))
	full := t.scale()
	for i, w := range t.Rows {
		t.bar(b, w, full, x, y+titleHeight+i*barHeight)
	}
}

// scale is the value that fills the room: the largest one, unless that is beyond four times Viaduct's or the floor's.
func (t *table) scale() float64 {
	largest, ours := 0.0, 0.0
	for _, w := range t.Rows {
		largest = max(largest, w.Median)
		if w.Name == viaductName || w.Name == floorName {
			ours = max(ours, w.Median)
		}
	}
	if ours > 0 && largest > 4*ours {
		return 4 * ours
	}
	return largest
}

func (t *table) bar(b *bytes.Buffer, w *row, full float64, x, y int) {
	fill := "#9aa5b1"
	switch {
	case strings.HasPrefix(w.Name, viaductName):
		fill = "#d9480f"
	case w.Name == floorName || w.Name == "copying":
		fill = "#ced4da"
	}
	text := number(w.Median)
	if w.ToViaduct != 0 && w.Name != viaductName {
		text += fmt.Sprintf("  (%.2f)", w.ToViaduct)
	}
	size, cut := 0.0, false
	if full > 0 {
		size = max(w.Median/full, 0)
		cut = size > 1
	}
	pixels := max(int(min(size, 1)*barRoom), 1)
	if w.Error != "" {
		text, pixels = "failed", 1
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`,
		x+labelWidth-6, y+13, html.EscapeString(w.title), x+labelWidth, y+2, pixels, barHeight-4, fill)
	if cut {
		fmt.Fprintf(b, `<path d="M%d %d l8 %d" stroke="#fff" stroke-width="3"/>`, x+labelWidth+pixels-20, y+barHeight-2, -barHeight+4)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", x+labelWidth+pixels+5, y+13, text)
}
