package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"viaduct/connmodel"
)

// topView is one of the tables.
type topView int

const (
	topOpen topView = iota
	topEnded
	topUpstreams
	topRules
	topViews // how many there are
)

// topSource is where the model gets what it shows.
type topSource func(context.Context, topWish) (*topLook, error)

// topModel is what the user sees. Messages change it, one after the other; everything that waits is done by commands.
type topModel struct {
	ctx      context.Context
	source   topSource
	interval time.Duration
	now      func() time.Time
	utf8     bool // the terminal's; else everything is ASCII

	width, height int
	view          topView
	tables        [topViews]topTable
	help, paused  bool
	failedOnly    bool // of the flows that ended

	filter  string // in force
	typing  bool
	typed   []rune
	wrong   string // why what was typed is not in force
	shown   connmodel.ID
	page    *connmodel.Flow // the connection that is shown by itself; nil = a table is
	detail  *topDetail
	scroll  int
	look    *topLook // nil before the first
	rates   map[connmodel.ID]float64
	samples []topSample
	lost    error
	since   time.Time // when it was lost
	looking bool
	again   bool // look once more at once, when the look under way has ended
	looks   int
}

// topTable is what the user made of a table.
type topTable struct {
	column  int
	down    bool // the largest first
	cursor  int
	at      string // key of the row under the cursor, which it follows
	first   int    // row at the top
	items   []topItem
	ordered bool
}

// topSample is how much there was at a moment.
type topSample struct {
	at    time.Time
	flows uint64
	open  int
	rate  float64 // flows a second since the one before
}

// topSamples is how many are kept: more than a line is wide.
const topSamples = 300

func newTopModel(ctx context.Context, source topSource, interval time.Duration, first *topLook) *topModel {
	m := &topModel{ctx: ctx, source: source, interval: interval, now: time.Now, utf8: true, width: 80, height: 24}
	for v := range m.tables {
		m.tables[v] = topTable{column: topOrder[v].column, down: topOrder[v].down}
	}
	if first != nil {
		m.take(first)
	}
	return m
}

type (
	topLooked struct {
		wish topWish
		look *topLook
		err  error
	}
	topTick struct{}
)

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.ask() }

// ask looks at the gateway, unless that is being done: then once more after it.
func (m *topModel) ask() tea.Cmd {
	if m.looking {
		m.again = true
		return nil
	}
	m.looking, m.again = true, false
	w := topWish{filter: m.filter, rules: m.view == topRules, detail: m.shown}
	return func() tea.Msg {
		l, err := m.source(m.ctx, w)
		return topLooked{w, l, err}
	}
}

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topTick:
		if m.paused {
			return m, m.tick(m.interval)
		}
		return m, m.ask()
	case topLooked:
		return m, m.looked(msg)
	case tea.PasteMsg:
		if m.typing {
			m.typeText(msg.Content)
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

func (m *topModel) tick(after time.Duration) tea.Cmd {
	return tea.Tick(after, func(time.Time) tea.Msg { return topTick{} })
}

// looked takes what a look gave. The next one comes after the interval, or later where the gateway is so busy that it takes long.
func (m *topModel) looked(r topLooked) tea.Cmd {
	m.looking = false
	next := m.interval
	switch {
	case r.err != nil:
		if m.lost == nil {
			m.since = m.now()
		}
		m.lost = r.err
		next = max(next, time.Second)
	case r.wish.filter != m.filter: // of the filter before
		m.lost = nil
	case r.look.refused != "":
		m.lost, m.wrong = nil, strings.Join(strings.Fields(r.look.refused), " ") // one line is there for it
		m.typing, m.typed = true, []rune(m.filter)
		m.filter = m.before()
	default:
		m.lost = nil
		if !m.paused {
			m.take(r.look)
		}
		next = max(next, 4*r.look.took)
	}
	if m.again {
		return m.ask()
	}
	return m.tick(next)
}

// before is the filter that what is shown was asked for with.
func (m *topModel) before() string {
	if m.look == nil {
		return ""
	}
	return m.look.filter
}

// take makes l what is shown.
func (m *topModel) take(l *topLook) {
	prev := m.look
	m.look, m.looks = l, m.looks+1
	l.filter = m.filter
	m.rates = ratesBetween(prev, l)
	s := topSample{at: l.at, flows: l.status.Sessions.Flows, open: l.opens}
	if n := len(m.samples); n > 0 {
		p := m.samples[n-1]
		if d := s.at.Sub(p.at).Seconds(); d > 0 && s.flows >= p.flows { // else another gateway came
			s.rate = float64(s.flows-p.flows) / d
		}
	}
	if m.samples = append(m.samples, s); len(m.samples) > topSamples {
		m.samples = slices.Clone(m.samples[len(m.samples)-topSamples:])
	}
	for v := range m.tables {
		m.tables[v].ordered = false
	}
	if m.page != nil {
		m.refreshPage()
	}
}

// ratesBetween returns how many bytes a second went through the open flows that both looks know.
func ratesBetween(a, b *topLook) map[connmodel.ID]float64 {
	if a == nil {
		return nil
	}
	took := b.at.Sub(a.at).Seconds()
	if took <= 0 {
		return nil
	}
	before := make(map[connmodel.ID]int64, len(a.open))
	for _, f := range a.open {
		before[f.ID] = f.Up + f.Down
	}
	rates := make(map[connmodel.ID]float64)
	for _, f := range b.open {
		if n, ok := before[f.ID]; ok && f.Up+f.Down > n {
			rates[f.ID] = float64(f.Up+f.Down-n) / took
		}
	}
	return rates
}

// refreshPage takes the newest that is known of the connection that is shown.
func (m *topModel) refreshPage() {
	if d := m.look.detail; d != nil && d.Connection.ID == m.shown {
		m.page, m.detail = d.Connection, d
		return
	}
	for _, list := range [][]*connmodel.Flow{m.look.recent, m.look.open} {
		for _, f := range list {
			if f.ID == m.shown {
				m.page = f
				return
			}
		}
	}
}

// key does what a key asks for.
func (m *topModel) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	if name == "ctrl+c" {
		return tea.Quit
	}
	if m.typing {
		return m.typeKey(k)
	}
	switch name {
	case "q":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "ctrl+l":
		return tea.ClearScreen
	case "?", "h", "f1":
		m.help = !m.help
		return nil
	case "p", "space", " ":
		m.paused = !m.paused
		if !m.paused {
			return m.ask()
		}
		return nil
	}
	if m.help {
		m.help = name != "esc" && name != "enter" && name != "backspace"
		return nil
	}
	if m.page != nil {
		return m.pageKey(name)
	}
	return m.tableKey(name)
}

func (m *topModel) tableKey(name string) tea.Cmd {
	t := &m.tables[m.view]
	switch name {
	case "1", "2", "3", "4":
		return m.show(topView(name[0] - '1'))
	case "tab":
		return m.show((m.view + 1) % topViews)
	case "shift+tab":
		return m.show((m.view + topViews - 1) % topViews)
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup", "ctrl+b":
		m.move(-m.rows())
	case "pgdown", "ctrl+f":
		m.move(m.rows())
	case "home", "g":
		m.move(-len(m.items()))
	case "end", "G":
		m.move(len(m.items()))
	case "s", "right", ">":
		m.sortBy(t.column+1, 1)
	case "left", "<":
		m.sortBy(t.column-1, -1)
	case "S", "r":
		t.down, t.ordered = !t.down, false
	case "e":
		m.failedOnly = !m.failedOnly
		m.tables[topEnded].ordered = false
		return m.show(topEnded)
	case "/":
		m.typing, m.typed, m.wrong = true, []rune(m.filter), ""
	case "esc":
		if m.filter != "" {
			m.filter, m.wrong = "", ""
			return m.ask()
		}
	case "enter":
		if items := m.items(); t.cursor < len(items) && items[t.cursor].flow != nil {
			m.page, m.detail, m.scroll = items[t.cursor].flow, nil, 0
			m.shown = m.page.ID
			return m.ask()
		}
	}
	return nil
}

// show turns to a table.
func (m *topModel) show(v topView) tea.Cmd {
	m.view = v
	if v == topRules && (m.look == nil || m.look.rules == nil) {
		return m.ask()
	}
	return nil
}

// sortBy takes the next column in a direction that is on the screen.
func (m *topModel) sortBy(column, step int) {
	t := &m.tables[m.view]
	columns := topColumns[m.view]
	fits, _ := m.fitting(m.view)
	for range columns {
		column = (column + len(columns)) % len(columns)
		if fits[column] {
			break
		}
		column += step
	}
	t.column, t.down, t.ordered = column, columns[column].right, false
}

func (m *topModel) move(by int) {
	t := &m.tables[m.view]
	items := m.items()
	t.cursor = max(0, min(t.cursor+by, len(items)-1))
	if t.cursor < len(items) {
		t.at = items[t.cursor].key
	}
}

// typeKey edits the filter.
func (m *topModel) typeKey(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "esc":
		m.typing, m.wrong = false, ""
	case "enter":
		m.typing, m.wrong = false, ""
		if text := strings.TrimSpace(string(m.typed)); text != m.filter {
			m.filter = text
			m.tables[topOpen].cursor, m.tables[topEnded].cursor = 0, 0
			m.tables[topOpen].at, m.tables[topEnded].at = "", ""
		}
		return m.ask()
	case "backspace", "ctrl+h":
		m.typed = m.typed[:max(0, len(m.typed)-1)]
	case "ctrl+u":
		m.typed = nil
	case "ctrl+w":
		text := strings.TrimRight(string(m.typed), " ")
		m.typed = []rune(text[:strings.LastIndexByte(text, ' ')+1])
	default:
		m.typeText(k.Text)
	}
	return nil
}

// maxTyped bounds a filter: it is one field of a request.
const maxTyped = 4 << 10

func (m *topModel) typeText(s string) {
	for _, r := range s {
		if r >= ' ' && r != 0x7f && r != utf8.RuneError && len(m.typed) < maxTyped {
			m.typed = append(m.typed, r)
		}
	}
}

func (m *topModel) pageKey(name string) tea.Cmd {
	switch name {
	case "esc", "backspace", "left", "enter":
		m.page, m.detail, m.shown = nil, nil, connmodel.ID{}
	case "up", "k":
		m.scroll--
	case "down", "j":
		m.scroll++
	case "pgup", "ctrl+b":
		m.scroll -= m.rows()
	case "pgdown", "ctrl+f":
		m.scroll += m.rows()
	case "home", "g":
		m.scroll = 0
	case "end", "G":
		m.scroll = 1 << 20 // bounded where it is drawn
	}
	m.scroll = max(m.scroll, 0)
	return nil
}

// items are the rows of the table that is shown, in its order.
func (m *topModel) items() []topItem {
	t := &m.tables[m.view]
	if m.look == nil {
		return nil
	}
	if !t.ordered {
		t.items, t.ordered = m.rowsOf(m.view), true
		c := &topColumns[m.view][t.column]
		slices.SortStableFunc(t.items, func(a, b topItem) int {
			n := c.order(m, &a, &b)
			if t.down {
				n = -n
			}
			return cmp.Or(n, strings.Compare(a.key, b.key))
		})
		m.follow(t)
	}
	return t.items
}

// follow keeps the cursor at its row while others come and go; at the top it stays at the top.
func (m *topModel) follow(t *topTable) {
	if t.cursor > 0 && t.at != "" {
		if i := slices.IndexFunc(t.items, func(x topItem) bool { return x.key == t.at }); i >= 0 {
			t.cursor = i
		}
	}
	t.cursor = max(0, min(t.cursor, len(t.items)-1))
	t.at = ""
	if t.cursor < len(t.items) {
		t.at = t.items[t.cursor].key
	}
}

// rowsOf makes the rows of a table, in no order.
func (m *topModel) rowsOf(v topView) []topItem {
	var items []topItem
	switch v {
	case topOpen:
		for _, f := range m.look.open {
			items = append(items, topItem{key: string(f.ID[:]), flow: f, rate: m.rates[f.ID]})
		}
	case topEnded:
		for _, f := range m.look.recent {
			if !m.failedOnly || f.Error != nil {
				items = append(items, topItem{key: string(f.ID[:]), flow: f})
			}
		}
	case topUpstreams:
		items = upstreamItems(m.look.status)
	case topRules:
		for i := range m.look.rules {
			r := &m.look.rules[i]
			items = append(items, topItem{key: r.Policy + "\x00" + r.Rule + "\x00" + r.File + string(rune(r.Line)), rule: r})
		}
	}
	return items
}
