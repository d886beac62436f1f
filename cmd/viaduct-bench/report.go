package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what a run found.
type report struct {
	Machine    machine       `json:"machine"`
	Rounds     int           `json:"rounds"`
	Tunnels    int           `json:"tunnels"`
	Requests   int           `json:"requests"`
	Bytes      int64         `json:"bytes"`
	Idle       int           `json:"idle"`
	Seconds    float64       `json:"seconds"`
	Contenders []participant `json:"contenders"`
	Missing    []string      `json:"missing,omitempty"`
	Tables     []*table      `json:"measures"`
	// Calls are the system calls of one tunnel by name, of those that were counted.
	Calls map[string]map[string]float64 `json:"syscalls,omitempty"`
}

type machine struct {
	CPU      string `json:"cpu"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	ProxyCPU int    `json:"proxy_cpu"`
	LoadCPU  int    `json:"load_cpu"`
}

type participant struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Note  string `json:"configuration"`
}

// table is one metric of everybody.
type table struct {
	metric
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit"`
	Rows  []*row `json:"rows"`
}

type row struct {
	Name    string    `json:"contender"`
	Samples []float64 `json:"samples,omitempty"`
	Median  float64   `json:"median"`
	Low     float64   `json:"low"`
	High    float64   `json:"high"`
	// Ratios are left out where they say nothing.
	ToFloor   float64 `json:"to_floor,omitempty"`
	ToViaduct float64 `json:"to_viaduct,omitempty"`
	Error     string  `json:"error,omitempty"`

	title string
}

func newReport(o *options) *report {
	r := &report{Rounds: o.rounds, Tunnels: o.tunnels, Requests: o.requests, Bytes: o.bytes, Idle: o.idle, Calls: map[string]map[string]float64{}}
	r.Machine.Go = runtime.Version()
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(info) {
		if name, v, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(name) == "model name" {
			r.Machine.CPU = strings.TrimSpace(v)
			break
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	r.Machine.Kernel = strings.TrimSpace(string(release))
	return r
}

func (r *report) row(m *measured, i int, c *contender) *row {
	t := r.table(m.metrics[i].key)
	if t == nil {
		x := m.metrics[i]
		t = &table{metric: x, Name: x.key, Title: x.title, Unit: x.unit}
		r.Tables = append(r.Tables, t)
	}
	if have := t.row(c.name); have != nil {
		return have
	}
	w := &row{Name: c.name, title: c.title}
	t.Rows = append(t.Rows, w)
	return w
}

func (r *report) table(name string) *table {
	for _, t := range r.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (t *table) row(contender string) *row {
	for _, w := range t.Rows {
		if w.Name == contender {
			return w
		}
	}
	return nil
}

func (r *report) add(m *measured, c *contender, values []float64) {
	for i, v := range values {
		w := r.row(m, i, c)
		w.Samples = append(w.Samples, v)
	}
}

func (r *report) failed(m *measured, c *contender, err error) {
	for i := range m.metrics {
		r.row(m, i, c).Error = err.Error()
	}
}

func (r *report) calls(c *contender, by map[string]float64) { r.Calls[c.name] = by }

// finish computes medians and ratios, and puts rows in the order of the contenders.
func (r *report) finish() {
	order := contenderNames()
	for _, t := range r.Tables {
		slices.SortFunc(t.Rows, func(a, b *row) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
		for _, w := range t.Rows {
			if len(w.Samples) > 0 {
				s := slices.Sorted(slices.Values(w.Samples))
				w.Median, w.Low, w.High = median(s), s[0], s[len(s)-1]
			}
		}
		if t.raw {
			continue
		}
		for _, w := range t.Rows {
			w.ToFloor, w.ToViaduct = ratio(w, t.row(floorName)), ratio(w, t.row(viaductName))
		}
	}
}

// median of sorted values.
func median(s []float64) float64 {
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// ratio is the median of the rounds' ratios: what disturbs a round disturbs both. Without the same rounds it is that of the medians.
func ratio(w, to *row) float64 {
	if to == nil || len(w.Samples) == 0 || to.Median <= 0 {
		return 0
	}
	if len(w.Samples) != len(to.Samples) {
		return w.Median / to.Median
	}
	var each []float64
	for i, v := range w.Samples {
		if to.Samples[i] <= 0 {
			return w.Median / to.Median
		}
		each = append(each, v/to.Samples[i])
	}
	slices.Sort(each)
	return median(each)
}

// goal is what is to be reached.
type goal struct {
	table, than string
	who         string  // "" = Viaduct with everything on
	most        float64 // of the other's median; 0 = an absolute bound
	bound       float64
	text        string
}

var goals = []goal{
	{table: "connect", than: floorName, most: 1.3, text: "a CONNECT tunnel with 1,000 rules and records costs at most 1.3 x the bare relay"},
	{table: "connect", than: "squid", most: 1, text: "a CONNECT tunnel costs less than squid's"},
	{table: "socks", than: "dante", most: 1, text: "a SOCKS5 tunnel costs less than dante's"},
	{table: "plain", than: "squid", most: 1, text: "a plain request costs less than squid's"},
	{table: "opened", than: "squid-bump", most: 1, text: "an intercepted request costs less than squid's with ssl_bump"},
	{table: "opened", than: "mitmproxy", most: 1, text: "an intercepted request costs less than mitmproxy's"},
	{table: "opened-tunnel", than: "squid-bump", most: 1, text: "a new intercepted tunnel costs less than squid's with ssl_bump"},
	{table: "opened-tunnel", than: "mitmproxy", most: 1, text: "a new intercepted tunnel costs less than mitmproxy's"},
	{table: "connect-ntlm", than: "cntlm", most: 1, text: "a tunnel through a hop that wants NTLM costs less than cntlm's"},
	{table: "pac", than: "pactester", most: 1, text: "a PAC evaluation costs less than pactester's"},
	{table: "journal", who: journalName, than: noJournalName, most: 1.05, text: "the journal costs at most 5% of a CONNECT tunnel"},
	{table: "plan-million", who: "viaduct-plan", bound: 60, text: "viaduct plan replays a million records within a minute"},
	{table: "idle-memory", than: "squid", most: 1, text: "an idle tunnel takes less memory than squid's"},
	{table: "idle-memory", than: "dante", most: 1, text: "an idle tunnel takes less memory than dante's"},
	{table: "idle-descriptors", bound: 2, text: "an idle tunnel holds two descriptors"},
	{table: "idle-descriptors", than: "dante", most: 1, text: "an idle tunnel holds no more descriptors than dante's"},
	{table: "idle-pipes", bound: 0, text: "an idle tunnel holds no pipe"},
	{table: "idle-kernel", than: "squid", most: 1.05, text: "an idle tunnel takes no more of the kernel's memory than squid's (5% is noise)"},
	{table: "idle-kernel", than: "dante", most: 1.05, text: "an idle tunnel takes no more of the kernel's memory than dante's (5% is noise)"},
	{table: "bulk", than: "copying", most: 0.4, text: "a GB costs at most 0.4 x a copying relay"},
	{table: "syscalls", bound: 34, text: "a CONNECT tunnel takes at most 34 system calls"},
}

// check compares Viaduct with a goal; ok is false when there is nothing to compare.
func (r *report) check(g goal) (reached bool, how string, ok bool) {
	t := r.table(g.table)
	if t == nil {
		return false, "", false
	}
	w := t.row(cmp.Or(g.who, viaductName))
	if w == nil || len(w.Samples) == 0 {
		return false, "", false
	}
	if g.than == "" {
		return w.Median <= g.bound+0.005, fmt.Sprintf("%s, bound %s", number(w.Median), number(g.bound)), true
	}
	o := t.row(g.than)
	if o == nil || len(o.Samples) == 0 || o.Median <= 0 {
		return false, "", false
	}
	q := ratio(w, o)
	return q <= g.most, fmt.Sprintf("%.2f x %s, bound %.2f", q, g.than, g.most), true
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, Linux %s, %s; proxy on CPU %d, load and origin on CPU %d; medians of %d interleaved rounds, ratios too; %.0f s\n",
		r.Machine.CPU, r.Machine.Kernel, r.Machine.Go, r.Machine.ProxyCPU, r.Machine.LoadCPU, r.Rounds, r.Seconds)
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n%s [%s]\n", t.Title, t.Unit)
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(tw, "\tmedian\tlow\thigh\t/ floor\t/ Viaduct\t\n")
		for _, row := range t.Rows {
			if row.Error != "" {
				fmt.Fprintf(tw, "%s\tfailed\t\t\t\t\t\n", pad(row.title))
				continue
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t\n", pad(row.title), number(row.Median), number(row.Low), number(row.High), times(row.ToFloor), times(row.ToViaduct))
		}
		tw.Flush()
	}
	r.writeGoals(&b)
	fmt.Fprintf(&b, "\nConfigurations\n")
	for _, c := range r.Contenders {
		fmt.Fprintf(&b, "  %s: %s\n", c.Title, c.Note)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "  not installed, left out: %s\n", strings.Join(r.Missing, ", "))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *report) writeGoals(b *bytes.Buffer) {
	head := "\nGoals\n"
	for _, g := range goals {
		reached, how, ok := r.check(g)
		if !ok {
			continue
		}
		mark := "reached"
		if !reached {
			mark = "MISSED "
		}
		fmt.Fprintf(b, "%s  %s  %s: %s\n", head, mark, g.text, how)
		head = ""
	}
}

// pad fills the first column, which stands to the left in a table whose numbers stand to the right.
func pad(s string) string { return fmt.Sprintf("%-23s", s) }

func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func times(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}
