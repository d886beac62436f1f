package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"viaduct/connmodel"
)

// View implements tea.Model.
func (m *topModel) View() tea.View {
	v := tea.NewView(strings.Join(m.frame(), "\n"))
	v.AltScreen = true
	return v
}

// paints are what the renderer turns into what the terminal can do, which with NO_COLOR is no colours.
const paints = palette(true)

// frame draws the screen: height lines, none of which is wider than it.
func (m *topModel) frame() []string {
	var lines []string
	room := m.height
	add := func(s string) {
		if len(lines) < m.height {
			lines = append(lines, m.cut(s, m.width))
		}
	}
	for _, s := range m.header() {
		add(s)
	}
	room -= len(lines) + 1 // the foot
	switch {
	case m.help:
		for _, s := range topHelp {
			if room--; room >= 0 {
				add(s)
			}
		}
	case m.page != nil:
		for _, s := range m.pageLines(room) {
			add(s)
		}
	default:
		for _, s := range m.table(room) {
			add(s)
		}
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	if m.height > 1 {
		add(m.foot())
	}
	return lines
}

// rows is how many rows of a table are on the screen.
func (m *topModel) rows() int { return max(1, m.height-len(m.header())-2) }

// header is the head of the screen: how the gateway is, how much goes through it, and the tables there are.
func (m *topModel) header() []string {
	if m.look == nil {
		return []string{paints.bold("viaduct top"), m.lostLine()}
	}
	s := m.look.status
	state := s.State
	if state != "running" {
		state = paints.bad(m.text(state))
	}
	name := "viaduct " + m.text(s.Version)
	if s.Name != "" {
		name += " " + m.text(s.Name)
	}
	first := m.spread([]string{paints.bold(name), state, "up " + shortTime(time.Duration(s.Uptime*float64(time.Second))),
		fmt.Sprintf("config %d", s.Generation), m.reloadWord()}, m.look.at.Local().Format(time.TimeOnly))
	lines := []string{first}
	if m.height >= 8 {
		lines = append(lines, m.traffic()...)
	}
	if m.lost != nil || m.paused {
		lines = append(lines, m.lostLine())
	}
	if m.height >= 6 && m.page == nil && !m.help {
		lines = append(lines, m.tabs())
	}
	return lines
}

func (m *topModel) reloadWord() string {
	if r := m.look.status.LastReload; !r.OK {
		return paints.bad("reload refused")
	}
	return ""
}

// lostLine says that what is shown is not of now.
func (m *topModel) lostLine() string {
	switch {
	case m.lost != nil:
		why := m.lost.Error()
		if no := (*noDoor)(nil); errors.As(m.lost, &no) { // what it advises is for those who have just begun
			why = no.address + ": " + no.err.Error()
		}
		return paints.bad(m.cut(fmt.Sprintf("LOST for %s, asking on: %s", shortTime(m.now().Sub(m.since).Truncate(time.Second)), m.text(why)), m.width))
	case m.paused:
		return paints.bold("PAUSED: what is shown does not change until p is pressed")
	}
	return "asking the gateway"
}

// traffic is what goes through the gateway: as it remembers it itself, else what was counted between looks.
func (m *topModel) traffic() []string {
	if h := m.look.history; h != nil && h.len() > 0 {
		return m.historyLines(h)
	}
	last := m.samples[len(m.samples)-1]
	rates, opens := make([]float64, len(m.samples)), make([]float64, len(m.samples))
	for i, s := range m.samples {
		rates[i], opens[i] = s.rate, float64(s.open)
	}
	c := m.look.status.Sessions
	return []string{m.spread([]string{
		fmt.Sprintf("flows %s/s %s", shortFloat(last.rate), m.spark(rates, 12)),
		fmt.Sprintf("open %d %s", last.open, m.spark(opens, 12)),
		fmt.Sprintf("clients %d", c.Open),
		fmt.Sprintf("%d flows since the start", c.Flows),
	}, "")}
}

// spread joins parts as long as there is room, and puts tail at the right edge.
func (m *topModel) spread(parts []string, tail string) string {
	var b strings.Builder
	n, room := 0, m.width
	if tail != "" {
		room -= ansi.StringWidth(tail) + 1
	}
	for _, p := range parts {
		w := ansi.StringWidth(p)
		if w == 0 {
			continue
		}
		if n > 0 {
			w += 2
		}
		if n+w > room {
			if n == 0 {
				b.WriteString(m.cut(p, room))
				n = room
			}
			break
		}
		if n > 0 {
			b.WriteString("  ")
		}
		b.WriteString(p)
		n += w
	}
	if tail != "" && n <= room {
		b.WriteString(strings.Repeat(" ", room-n+1) + tail)
	}
	return b.String()
}

func (m *topModel) tabs() string {
	ended := "Ended"
	if m.failedOnly {
		ended = "Failed"
	}
	names := [topViews]string{topOpen: fmt.Sprintf("Open %d", m.look.opens), topEnded: ended, topUpstreams: "Upstreams", topRules: "Rules"}
	var parts []string
	for v, name := range names {
		name = fmt.Sprintf("%d %s", v+1, name)
		if topView(v) == m.view {
			name = reverse("[" + name + "]")
		} else {
			name = " " + name + " "
		}
		parts = append(parts, name)
	}
	line := strings.Join(parts, "")
	if ansi.StringWidth(line) > m.width { // only where we are, and the numbers
		line = parts[m.view] + "  keys 1-4"
	}
	if f := m.before(); f != "" {
		line += "  filter: " + paints.bold(m.text(f))
	}
	return line
}

func reverse(s string) string { return paints.paint("7", s) }

// table draws the table that is shown into so many lines, the titles included.
func (m *topModel) table(room int) []string {
	if m.look == nil || room < 1 {
		return nil
	}
	items := m.items()
	t := &m.tables[m.view]
	columns, widths := m.columns()
	lines := []string{m.titles(columns, widths)}
	room--
	t.first = max(0, min(t.first, len(items)-room))
	if t.cursor < t.first {
		t.first = t.cursor
	}
	if t.cursor >= t.first+room {
		t.first = t.cursor - room + 1
	}
	for i := t.first; i < len(items) && i < t.first+room; i++ {
		var b strings.Builder
		for j, c := range columns {
			if j > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(m.cell(c.text(m, &items[i]), widths[j], c.right))
		}
		line := b.String()
		switch {
		case i == t.cursor:
			line = reverse(line)
		case m.lost != nil:
			line = paints.faint(line)
		case items[i].bad():
			line = paints.bad(line)
		}
		lines = append(lines, line)
	}
	if len(items) == 0 {
		for _, s := range m.wrap("", m.nothing()) {
			lines = append(lines, paints.faint(s))
		}
	}
	return lines
}

// bad reports whether a row is to be noticed.
func (i *topItem) bad() bool {
	switch {
	case i.flow != nil:
		return i.flow.Error != nil && (i.flow.Decision == nil || !i.flow.Decision.Denied())
	case i.member != nil:
		return i.member.state == "down" || i.member.state == "failing" || i.member.state == "ejected"
	}
	return false
}

// nothing says why a table is empty.
func (m *topModel) nothing() string {
	switch {
	case m.view == topUpstreams:
		return "The policy has no upstreams: everything goes direct."
	case m.view == topRules && m.look.lacking["/v1/rules"]:
		return "This gateway does not count its rules: it is older than this program."
	case m.view == topRules:
		return "asking the gateway"
	case m.before() != "":
		return "None that the filter lets through."
	case m.view == topEnded && m.failedOnly:
		return "None has failed lately."
	case m.view == topEnded && m.look.forgets != "":
		return "None has ended since top began, and what was before is not known: " + m.text(m.look.forgets)
	case m.view == topEnded:
		return "None has ended lately."
	}
	return "None."
}

// roomForText is what the column that takes the rest keeps before others may come: most names fit.
const roomForText = 24

// fitting says which columns there is room for, the important ones first, and what is left for the one without a width.
func (m *topModel) fitting(v topView) (fits []bool, left int) {
	columns := topColumns[v]
	fits, left = make([]bool, len(columns)), m.width+1
	for rank := range topRanks {
		for i := range columns {
			c := &columns[i]
			need := c.width + 1
			if c.rank == rank && (rank == 0 || left-need >= roomForText) {
				fits[i] = true
				left -= need
			}
		}
	}
	return fits, max(left, 4)
}

// columns are those that fit, and how wide they are.
func (m *topModel) columns() (columns []*topColumn, widths []int) {
	fits, left := m.fitting(m.view)
	for i := range fits {
		if c := &topColumns[m.view][i]; fits[i] {
			columns = append(columns, c)
			widths = append(widths, cmp.Or(c.width, left))
		}
	}
	return columns, widths
}

func (m *topModel) titles(columns []*topColumn, widths []int) string {
	t := &m.tables[m.view]
	var parts []string
	for i, c := range columns {
		title := c.title
		if c == &topColumns[m.view][t.column] {
			mark := "▲"
			if t.down {
				mark = "▼"
			}
			if !m.utf8 {
				mark = map[bool]string{false: "^", true: "v"}[t.down]
			}
			title += mark
		}
		parts = append(parts, m.cell(title, widths[i], c.right))
	}
	return paints.bold(strings.Join(parts, " "))
}

// cell makes s exactly w wide.
func (m *topModel) cell(s string, w int, right bool) string {
	s = m.cut(s, w)
	pad := strings.Repeat(" ", max(0, w-ansi.StringWidth(s)))
	if right {
		return pad + s
	}
	return s + pad
}

// cut makes s at most w wide, and shows that something is missing.
func (m *topModel) cut(s string, w int) string {
	if w <= 0 {
		return ""
	}
	if ansi.StringWidth(s) <= w {
		return s
	}
	tail := "~"
	if m.utf8 {
		tail = "…"
	}
	return ansi.Truncate(s, w, tail)
}

// maxTopText bounds a text on the screen: no terminal is wider, and all of it is on the page of its connection.
const maxTopText = 512

// text makes a text from elsewhere fit for the terminal.
func (m *topModel) text(s string) string {
	s = printable(s[:min(len(s), maxTopText)])
	if m.utf8 {
		return s
	}
	return asciiOnly(s)
}

// asciiOnly escapes what is not ASCII.
func asciiOnly(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			var b strings.Builder
			for _, r := range s {
				switch {
				case r < 0x80:
					b.WriteRune(r)
				case r > 0xffff:
					fmt.Fprintf(&b, `\U%08x`, r)
				default:
					fmt.Fprintf(&b, `\u%04x`, r)
				}
			}
			return b.String()
		}
	}
	return s
}

// foot is the last line: what can be done, or what is typed.
func (m *topModel) foot() string {
	if m.typing {
		text := m.text(string(m.typed))
		line := "filter: " + text + reverse(" ")
		if m.wrong != "" {
			return paints.bad(m.cut(m.text(m.wrong), max(10, m.width-ansi.StringWidth(line)-2))) + "  " + line
		}
		if over := ansi.StringWidth(line) - m.width; over > 0 { // the end is where one types
			line = "filter: " + ansi.Cut(text, over, ansi.StringWidth(text)) + reverse(" ")
		}
		return line
	}
	keys := []string{"q quit", "? help", "/ filter", "s sort", "p pause", "enter details", "e failed", "1-4 tables"}
	if m.page != nil {
		keys = []string{"q quit", "esc back", "? help", "p pause"}
	}
	tail := ""
	if n := m.look; n != nil {
		if n.more && m.view == topOpen {
			tail = fmt.Sprintf("the newest %d", len(n.open))
		}
		if n.lagged > 0 && m.view == topEnded {
			tail = fmt.Sprintf("%d too fast to tell", n.lagged)
		}
		if n.news.text != "" && m.now().Sub(n.news.at) < 10*time.Second {
			tail = m.cut(m.text(n.news.text), m.width/2)
		}
	}
	return paints.faint(m.spread(keys, tail))
}

// sparks are the heights of a sparkline, lowest first.
var sparks, asciiSparks = []rune("▁▂▃▄▅▆▇█"), []rune("_.-:=+*#")

// spark draws the last n values.
func (m *topModel) spark(values []float64, n int) string {
	if m.width < 60 {
		n = n * 2 / 3
	}
	values = values[max(0, len(values)-n):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	glyphs := sparks
	if !m.utf8 {
		glyphs = asciiSparks
	}
	out := make([]rune, 0, n)
	for range n - len(values) {
		out = append(out, ' ')
	}
	for _, v := range values {
		i := 0
		if most > 0 && v > 0 {
			i = min(len(glyphs)-1, int(v/most*float64(len(glyphs)-1)+0.5))
		}
		out = append(out, glyphs[i])
	}
	return string(out)
}

func shortFloat(v float64) string {
	if v >= 9.95 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

var topHelp = []string{
	"",
	"  1 2 3 4, tab   open connections, ended ones, upstreams, rules",
	"  up down j k    move; pgup pgdn home end g G too",
	"  enter          everything about one connection; esc: back",
	"  /              filter connections by an expression, with the names of",
	"                 --where: target.host == \"x.example\" && bytes > 1000,",
	"                 error.kind == \"timeout\"; empty, or esc in a table: none",
	"  s S            order by the next column, turn the order around",
	"  left right     the column before, and the next",
	"  e              of ended connections only those that failed",
	"  p, space       pause, and go on",
	"  ctrl-L         draw anew         ctrl-Z  suspend",
	"  q, ctrl-C      quit",
}

// pageLines draws the connection that is shown by itself.
func (m *topModel) pageLines(room int) []string {
	all := m.describe(m.page)
	m.scroll = max(0, min(m.scroll, len(all)-room))
	return all[m.scroll:min(len(all), m.scroll+max(room, 0))]
}

// describe is the page of a flow, as "viaduct connection" prints it, broken where the terminal ends.
func (m *topModel) describe(f *connmodel.Flow) []string {
	g := &flowPage{p: paints, zone: time.Local, now: m.now()}
	g.d = drawing{width: max(m.width, 20), unicode: m.utf8, p: paints}
	g.head(f)
	g.decision(f)
	g.way(f)
	g.times(f)
	g.certificates(f)
	g.metadata(f)
	if m.detail != nil && m.detail.Today != nil {
		g.today(f, &todayAnswer{From: "the policy in force", Same: sameAs(m.detail.Today, f.Decision), Explanation: m.detail.Today})
	}
	text := g.String()
	if !m.utf8 {
		text = asciiOnly(text)
	}
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, m.wrap("", strings.TrimSuffix(line, "\n"))...)
	}
	return out
}

// wrap breaks a text into lines behind a label.
func (m *topModel) wrap(label, text string) []string {
	n := ansi.StringWidth(label)
	if n > 0 {
		n++
		label += " "
	}
	var out []string
	for i, s := range strings.Split(ansi.Wrap(text, max(8, m.width-n), ""), "\n") {
		if i > 0 {
			label = strings.Repeat(" ", n)
		}
		out = append(out, label+s)
	}
	return out
}
