package pac

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The functions of dates and times follow the browsers, also where they are odd: words are upper case, an hour range of two numbers
// holds through the last of its hours and does not go over midnight. The last argument "GMT" asks for UTC in place of
// the zone of the gateway.

var (
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
)

// field is an argument: a number, a word, or neither.
type field struct {
	n    int
	word string
	ok   bool // n counts
}

func fieldOf(a any) field {
	switch x := a.(type) {
	case int:
		return field{n: x, ok: true}
	case int32:
		return field{n: int(x), ok: true}
	case int64:
		return field{n: int(x), ok: true}
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1e9 {
			return field{n: int(x), ok: true}
		}
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(x)); err == nil {
			return field{n: n, ok: true}
		}
		return field{word: x}
	}
	return field{}
}

// dated is a question for the day or the time, and what was answered.
type dated struct {
	name   string
	args   []any
	answer bool
}

// maxDated bounds the questions that are kept with an answer; a script that asks more is Unsteady.
const maxDated = 64

// holds reports whether the answers are still the same.
func holds(all []dated, now time.Time) bool {
	for _, d := range all {
		if dateFunc(d.name, d.args, now) != d.answer {
			return false
		}
	}
	return true
}

// dateFunc is weekdayRange, dateRange or timeRange, given the arguments that the script wrote.
func dateFunc(name string, args []any, now time.Time) bool {
	fs := make([]field, len(args))
	for i, a := range args {
		fs[i] = fieldOf(a)
	}
	if n := len(fs); n > 0 && fs[n-1].word == "GMT" {
		now, fs = now.UTC(), fs[:n-1]
	}
	switch name {
	case "weekday":
		return weekdayRange(fs, now)
	case "date":
		return dateRange(fs, now)
	}
	return timeRange(fs, now)
}

// within reports whether x lies from a to b, both included; where b is before a the range goes over the end.
func within(a, x, b int) bool {
	if a <= b {
		return a <= x && x <= b
	}
	return x >= a || x <= b
}

func weekdayRange(fs []field, now time.Time) bool {
	if len(fs) < 1 || len(fs) > 2 {
		return false
	}
	from := slices.Index(weekdays, fs[0].word)
	to := slices.Index(weekdays, fs[len(fs)-1].word)
	return from >= 0 && to >= 0 && within(from, int(now.Weekday()), to)
}

// dateRange compares the parts that both ends say.
func dateRange(fs []field, now time.Time) bool {
	half := len(fs) / 2
	if len(fs) == 1 {
		a, has, ok := dateOf(fs)
		b := dateKey(now.Day(), int(now.Month()), now.Year(), has)
		return ok && a == b
	}
	if len(fs) == 0 || len(fs)%2 != 0 || half > 3 {
		return false
	}
	a, hasA, okA := dateOf(fs[:half])
	b, hasB, okB := dateOf(fs[half:])
	if !okA || !okB || hasA != hasB {
		return false
	}
	return within(a, dateKey(now.Day(), int(now.Month()), now.Year(), hasA), b)
}

const (
	hasDay = 1 << iota
	hasMonth
	hasYear
)

// dateOf reads one end of a range into a number that can be compared with others of the same parts.
func dateOf(fs []field) (key, has int, ok bool) {
	var day, month, year int
	for _, f := range fs {
		part := 0
		switch {
		case !f.ok:
			month, part = slices.Index(months, f.word)+1, hasMonth
			if month == 0 {
				return 0, 0, false
			}
		case f.n >= 1 && f.n < 32:
			day, part = f.n, hasDay
		case f.n >= 32:
			year, part = f.n, hasYear
		default:
			return 0, 0, false
		}
		if has&part != 0 {
			return 0, 0, false
		}
		has |= part
	}
	return dateKey(day, month, year, has), has, true
}

func dateKey(day, month, year, has int) int {
	key := 0
	if has&hasYear != 0 {
		key = year
	}
	if has&hasMonth != 0 {
		key = key*13 + month
	}
	if has&hasDay != 0 {
		key = key*32 + day
	}
	return key
}

func timeRange(fs []field, now time.Time) bool {
	var n [6]int
	if len(fs) > 6 {
		return false
	}
	for i, f := range fs {
		if !f.ok || f.n < 0 || f.n > 59 {
			return false
		}
		n[i] = f.n
	}
	x := (now.Hour()*60+now.Minute())*60 + now.Second()
	switch len(fs) {
	case 1:
		return now.Hour() == n[0]
	case 2:
		return n[0] <= now.Hour() && now.Hour() <= n[1]
	case 4:
		return within((n[0]*60+n[1])*60, x, (n[2]*60+n[3])*60+59)
	case 6:
		return within((n[0]*60+n[1])*60+n[2], x, (n[3]*60+n[4])*60+n[5])
	}
	return false
}
