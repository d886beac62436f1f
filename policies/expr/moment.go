package expr

import (
	"errors"
	"strings"
	"time"
)

// ParseLength reads a length of time: that of [time.ParseDuration], with days in front: "200ms", "1h30m", "7d", "1d12h".
func ParseLength(s string) (d time.Duration, ok bool) {
	var days time.Duration
	if n, rest, found := strings.Cut(s, "d"); found {
		if n == "" || len(n) > 4 || strings.Trim(n, "0123456789") != "" {
			return 0, false
		}
		for _, c := range n {
			days = days*10 + time.Duration(c-'0')
		}
		if days *= 24 * time.Hour; rest == "" {
			return days, true
		}
		s = rest
	}
	d, err := time.ParseDuration(s)
	return days + d, err == nil
}

// errMoment is the end of a sentence that begins with the text.
var errMoment = errors.New(`is no time: write a length of time before now ("90s", "1h", "7d"), or 2026-11-23T20:15:00Z, "2026-11-23 20:15", 2026-11-23 or 20:15`)

// momentForms are those of a time in the gateway's time zone.
var momentForms = []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.DateOnly}

// ParseMoment reads a time: a length of time before now ("1h", "7d"; "+7d" is that long after it), "now", a time of RFC 3339, or a date, a date with a time, or
// a time of the day of now in zone; nil = the local one.
func ParseMoment(s string, now time.Time, zone *time.Location) (time.Time, error) {
	if zone == nil {
		zone = time.Local
	}
	if s == "now" {
		return now.In(zone), nil
	}
	ahead, after := strings.CutPrefix(s, "+")
	back := strings.TrimPrefix(ahead, "-")
	if d, ok := ParseLength(back); ok && !strings.HasPrefix(back, "-") && !strings.HasPrefix(back, "+") {
		switch {
		case after && back != ahead:
			return time.Time{}, errMoment
		case after:
			return now.Add(d).In(zone), nil
		}
		return now.Add(-d).In(zone), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil && inRange(t) {
		return t.In(zone), nil
	}
	for _, form := range momentForms {
		if t, err := time.ParseInLocation(form, s, zone); err == nil && inRange(t) {
			return t, nil
		}
	}
	for _, form := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(form, s); err == nil {
			now = now.In(zone)
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone), nil
		}
	}
	return time.Time{}, errMoment
}

// inRange leaves out times whose microseconds are not exact as a number.
func inRange(t time.Time) bool { return t.Year() > 0 && t.Year() < 2250 }
