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

// bar is one line of a waterfall: something that took from one moment to another, counted from the start of the flow.
type bar struct {
	label    string
	part     string
	from, to time.Duration
	failed   bool
	tail     bool   // it lasts as long as those who talk like: relay, bodies
	note     string // behind the time
}

// bars are what happened in a flow, in its order. now ends what is still going on.
func bars(f *connmodel.Flow, now time.Time) (list []bar) {
	if f.Start.IsZero() {
		return nil
	}
	at := func(t time.Time) time.Duration { return moderate(t.Sub(f.Start)) }
	end := f.End
	if end.IsZero() {
		end = now
	}
	add := func(label, part string, from, to time.Time) *bar {
		list = append(list, bar{label: label, part: part, from: at(from), to: max(at(from), at(to))})
		return &list[len(list)-1]
	}
	if !f.Decided.IsZero() {
		add("decision", "", f.Start, f.Decided)
	}
	s := f.Server
	if s == nil {
		return list
	}
	if s.Reused {
		add("connection", "kept", f.Decided, f.Decided).note = "a connection from before; its attempts are those that made it"
	} else {
		for i := range s.Attempts {
			list = append(list, attemptBars(f, &s.Attempts[i], len(s.Attempts) > 1, end)...)
		}
	}
	up := s.TCPSetup
	if !s.Reused && s.TLSSetup.After(up) && !up.IsZero() {
		if !serverDidTLS(s) {
			add("server", "tls", up, s.TLSSetup)
		}
		up = s.TLSSetup
	}
	if r := f.Request; r != nil && !r.Start.IsZero() {
		return append(list, exchangeBars(f, at, end)...)
	}
	if !up.IsZero() && (f.Error == nil || f.Up+f.Down > 0 || f.Error.Phase == connmodel.PhaseRelay) {
		b := add("relay", "", up, end)
		b.tail, b.failed = true, f.Error != nil
		b.note = fmt.Sprintf("up %s, down %s", bytesShort(f.Up), bytesShort(f.Down))
	}
	return list
}

// serverDidTLS reports whether the attempt that worked tells of the handshake with the server itself.
func serverDidTLS(s *connmodel.Server) bool {
	for i := range s.Attempts {
		if a := &s.Attempts[i]; a.Connected() && len(a.Hops) > 0 && a.Hops[len(a.Hops)-1].Upstream == "" && a.Hops[len(a.Hops)-1].TLS > 0 {
			return true
		}
	}
	return false
}

// attemptBars are the parts of the hops of one attempt.
func attemptBars(f *connmodel.Flow, a *connmodel.Attempt, several bool, end time.Time) (list []bar) {
	for i := range a.Hops {
		list = append(list, hopBars(f, a, &a.Hops[i], several)...)
	}
	if len(a.Hops) == 0 && !a.Start.IsZero() {
		if !a.End.IsZero() {
			end = a.End
		}
		from := moderate(a.Start.Sub(f.Start))
		list = append(list, bar{label: attemptLabel(a, several) + orDash(a.Route), from: from, to: max(from, moderate(end.Sub(f.Start)))})
	}
	if n := len(list); n > 0 && a.Error != nil && !slices.ContainsFunc(list, func(b bar) bool { return b.failed }) { // no hop has it for its own
		list[n-1].failed, list[n-1].note = true, errorNote(a.Error)
	}
	return list
}

func attemptLabel(a *connmodel.Attempt, several bool) string {
	if !several {
		return ""
	}
	return fmt.Sprintf("%d: ", a.Number)
}

// failedPart is the part of a hop in which each phase is.
var failedPart = map[connmodel.Phase]string{
	connmodel.PhaseResolve: "dns", connmodel.PhaseDial: "tcp", connmodel.PhaseTLS: "tls", connmodel.PhaseGreeting: "greeting", connmodel.PhaseAuth: "auth", connmodel.PhaseConnect: "connect",
}

func hopBars(f *connmodel.Flow, a *connmodel.Attempt, h *connmodel.HopResult, several bool) (list []bar) {
	name := h.Upstream
	if name == "" {
		name = "server"
	}
	label := attemptLabel(a, several) + name
	from := moderate(h.Start.Sub(f.Start))
	at := from
	for _, p := range [...]struct {
		part string
		took time.Duration
	}{{"dns", h.DNS}, {"tcp", h.TCP}, {"tls", h.TLS}, {"greeting", h.Greeting}, {"auth", h.Auth}, {"connect", h.Connect}} {
		if p.took <= 0 {
			continue
		}
		list = append(list, bar{label: label, part: p.part, from: at, to: moderate(at + moderate(p.took))})
		at = list[len(list)-1].to
	}
	if h.Reused {
		list = append(list, bar{label: label, part: "shared", from: from, to: from, note: "a connection that other flows share"})
	}
	e := h.Error
	if e == nil {
		if len(list) == 0 && h.Total > 0 {
			list = append(list, bar{label: label, from: from, to: from + moderate(h.Total)})
		}
		return list
	}
	part := failedPart[e.Phase]
	if n := len(list); n > 0 && list[n-1].part == part { // what it failed in was measured
		list[n-1].failed, list[n-1].note = true, errorNote(e)
		return list
	}
	return append(list, bar{label: label, part: part, from: at, to: max(at, from+moderate(h.Total)), failed: true, note: errorNote(e)})
}

func errorNote(e *connmodel.ConnError) string {
	if e == nil {
		return ""
	}
	return string(e.Kind)
}

// exchangeBars are the parts of an HTTP exchange.
func exchangeBars(f *connmodel.Flow, at func(time.Time) time.Duration, end time.Time) (list []bar) {
	r, p := f.Request, f.Response
	sent := r.End
	begun := r.Start
	if s := f.Server; s != nil && s.TCPSetup.After(begun) && !s.Reused { // it waited for the way
		if begun = s.TCPSetup; s.TLSSetup.After(begun) {
			begun = s.TLSSetup
		}
	}
	if sent.IsZero() || sent.Before(begun) {
		sent = begun
	}
	failed := f.Error != nil
	list = append(list, bar{label: "request", from: at(begun), to: at(sent), tail: true, failed: failed && r.End.IsZero() && p == nil, note: "up " + bytesShort(f.Up)})
	switch {
	case p == nil || p.Start.IsZero():
		if !r.End.IsZero() {
			list = append(list, bar{label: "wait", from: at(sent), to: at(end), failed: failed})
		}
		return list
	case p.Start.After(sent):
		list = append(list, bar{label: "wait", from: at(sent), to: at(p.Start)})
	}
	done := p.End
	if done.IsZero() {
		done = end
	}
	return append(list, bar{label: "response", from: at(p.Start), to: max(at(p.Start), at(done)), tail: true, failed: failed, note: fmt.Sprintf("%d, down %s", p.Status, bytesShort(f.Down))})
}

// moderate keeps the times of a record that tells nonsense within what can be added up.
func moderate(d time.Duration) time.Duration { return min(max(d, 0), 100*365*24*time.Hour) }

// drawing is how a waterfall is drawn.
type drawing struct {
	width   int // columns; 0 = 80
	unicode bool
	p       palette
}

// waterfall draws bars on one scale, from the start of the flow. Where what the two sides had to say takes so long that nothing could be seen of the way there, it
// runs out of the scale, and the drawing says so.
func (d drawing) waterfall(out io.Writer, list []bar) error {
	if len(list) == 0 {
		return nil
	}
	labels, parts, notes, whole, way := 0, 0, 0, time.Duration(0), time.Duration(0)
	for i := range list {
		b := &list[i]
		b.label, b.part, b.note = printable(b.label), printable(b.part), printable(b.note)
		labels, parts, notes = max(labels, cells(b.label)), max(parts, cells(b.part)), max(notes, cells(b.note))
		whole = max(whole, b.to)
		if !b.tail {
			way = max(way, b.to)
		}
	}
	scale, off := whole, false
	if way > 0 && whole > 4*way {
		scale, off = way+way/3, true
	}
	width := d.width
	if width <= 0 {
		width = 80
	}
	width = max(width, 40)
	const took = 7
	labels = min(labels, max(8, width/4))
	room := width - 2 - labels - 1 - parts - 2 - took - 3
	notes = min(notes, room/3)
	if room -= notes; room < 8 {
		room, notes = max(room+notes, 4), 0
	}
	w := bufio.NewWriter(out)
	full, thin, edge, run := "#", "|", "|", ">"
	if d.unicode {
		full, thin, edge, run = "█", "▏", "│", "»"
	}
	for _, b := range list {
		body := d.bar(b, scale, off, room, full, thin, run)
		if b.failed {
			body = d.p.bad(body)
		} else if b.tail {
			body = d.p.faint(body)
		}
		note := cut(b.note, notes)
		if b.failed && note != "" {
			note = d.p.bad(note)
		}
		line := fmt.Sprintf("  %s %s %s%s%s %*s %s", fit(b.label, labels), fit(b.part, parts), edge, body, edge, took, tookShort(b.to-b.from), note)
		w.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	foot := fmt.Sprintf("0 to %s", tookShort(scale))
	if off {
		foot += fmt.Sprintf("; %s is off the scale", run)
	}
	w.WriteString("  " + strings.Repeat(" ", labels+parts+2) + d.p.faint(cut(foot, max(1, width-labels-parts-4))) + "\n")
	return w.Flush()
}

// bar draws one in room cells. What is shorter than a cell is a thin line.
func (d drawing) bar(b bar, scale time.Duration, off bool, room int, full, thin, run string) string {
	if scale <= 0 {
		return thin + strings.Repeat(" ", room-1)
	}
	place := func(t time.Duration) float64 { return float64(t) / float64(scale) * float64(room) }
	from := min(int(place(b.from)), room-1)
	if off && b.to > scale {
		n := room - from
		return strings.Repeat(" ", from) + strings.Repeat(run, n)
	}
	n := int(place(b.to)+0.5) - from
	if n < 1 || place(b.to)-place(b.from) < 0.5 {
		return strings.Repeat(" ", from) + thin + strings.Repeat(" ", room-from-1)
	}
	n = min(n, room-from)
	return strings.Repeat(" ", from) + strings.Repeat(full, n) + strings.Repeat(" ", room-from-n)
}
