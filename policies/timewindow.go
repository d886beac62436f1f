package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// window is a span of the week, of some days, or both: "mon-fri 09:00-17:00", "2026-12-24..2026-12-26".
type window struct {
	text     string
	days     [7]bool // by time.Weekday
	from, to int     // minutes of the day, to is not in it; from > to goes on after midnight
	first    int     // days as year*10000 + month*100 + day; 0 = every day
	last     int
}

const dayMinutes = 24 * 60

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const timeHelp = `write days, times of day, or both: "mon-fri 09:00-17:00", "sat,sun", "22:00-06:00", "2026-12-24..2026-12-26"`

// parseWindow reads days or dates, then a span of hours; either may be missing.
func parseWindow(s string) (*window, error) {
	w := &window{text: s, to: dayMinutes}
	fields := strings.Fields(strings.ToLower(s))
	if len(fields) == 0 || len(fields) > 2 {
		return nil, fmt.Errorf("%q is no time: %s", s, timeHelp)
	}
	if hours := fields[len(fields)-1]; strings.Contains(hours, ":") {
		if err := w.hours(hours); err != nil {
			return nil, err
		}
		fields = fields[:len(fields)-1]
	}
	switch {
	case len(fields) == 0:
		w.days = [7]bool{true, true, true, true, true, true, true}
	case len(fields) == 2:
		return nil, fmt.Errorf("%q is no time: %s", s, timeHelp)
	case fields[0][0] >= '0' && fields[0][0] <= '9':
		w.days = [7]bool{true, true, true, true, true, true, true}
		return w, w.dates(fields[0])
	default:
		return w, w.weekdays(fields[0])
	}
	return w, nil
}

func (w *window) hours(s string) error {
	from, to, ok := strings.Cut(s, "-")
	var ok1, ok2 bool
	w.from, ok1 = clock(from)
	w.to, ok2 = clock(to)
	switch {
	case !ok || !ok1 || !ok2 || w.from == dayMinutes:
		return fmt.Errorf("%q is no span of hours: write it as 09:00-17:00", s)
	case w.from == w.to:
		return fmt.Errorf("%q ends when it begins; for the whole day leave the hours out", s)
	}
	return nil
}

// clock reads "09:30"; "24:00" is the end of the day.
func clock(s string) (int, bool) {
	if s == "24:00" {
		return dayMinutes, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == len("15:04")
}

func (w *window) weekdays(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, b := weekday(from), weekday(to)
		if a < 0 || b < 0 {
			return fmt.Errorf("%q is no day: write mon, tue, wed, thu, fri, sat, sun, as mon-fri or sat,sun", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return nil
}

// weekday takes "mon" and "monday".
func weekday(s string) int {
	return slices.IndexFunc(dayNames, func(d string) bool {
		return s == d || s == strings.ToLower(time.Weekday(slices.Index(dayNames, d)).String())
	})
}

func (w *window) dates(s string) error {
	from, to, isRange := strings.Cut(s, "..")
	if !isRange {
		to = from
	}
	a, err1 := time.Parse(time.DateOnly, from)
	b, err2 := time.Parse(time.DateOnly, to)
	switch {
	case err1 != nil || err2 != nil:
		return fmt.Errorf("%q is no date: write it as 2026-12-24, or 2026-12-24..2026-12-26", s)
	case b.Before(a):
		return fmt.Errorf("%q ends before it begins", s)
	}
	w.first, w.last = dateNumber(a), dateNumber(b)
	return nil
}

func dateNumber(t time.Time) int {
	y, m, d := t.Date()
	return y*10000 + int(m)*100 + d
}

// holds reports whether t lies in the window. A window that goes on after midnight belongs to the day it began on.
func (w *window) holds(t time.Time) bool {
	minute := t.Hour()*60 + t.Minute()
	if w.from < w.to {
		return minute >= w.from && minute < w.to && w.day(t)
	}
	return minute >= w.from && w.day(t) || minute < w.to && w.day(t.AddDate(0, 0, -1))
}

func (w *window) day(t time.Time) bool {
	if !w.days[t.Weekday()] {
		return false
	}
	if w.first == 0 {
		return true
	}
	n := dateNumber(t)
	return n >= w.first && n <= w.last
}
