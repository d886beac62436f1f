package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// query is the parameters of a request. Each is there once, and none that nobody reads: a parameter that is mistyped would else change what
// is asked without a word.
type query url.Values

// maxParameter bounds one value.
const maxParameter = 4096

// queryOf reads the parameters, which may be names; what is wrong with them has been answered then.
func queryOf(w http.ResponseWriter, r *http.Request, names ...string) (query, bool) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		problem(w, http.StatusBadRequest, "the query is not well formed: "+err.Error())
		return nil, false
	}
	for name, values := range v {
		switch {
		case !slices.Contains(names, name) && len(names) == 0:
			problem(w, http.StatusBadRequest, "this takes no parameters")
		case !slices.Contains(names, name):
			problem(w, http.StatusBadRequest, "the parameters are "+strings.Join(names, ", "))
		case len(values) > 1:
			problem(w, http.StatusBadRequest, name+" is given twice")
		case len(values[0]) > maxParameter:
			problem(w, http.StatusBadRequest, name+" is at most "+strconv.Itoa(maxParameter)+" bytes long")
		default:
			continue
		}
		return nil, false
	}
	return query(v), true
}

func (q query) get(name string) string { return url.Values(q).Get(name) }

// number reads a whole number between two bounds.
func (q query) number(w http.ResponseWriter, name string, lo, hi, otherwise int) (int, bool) {
	s := q.get(name)
	if s == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		problem(w, http.StatusBadRequest, name+" is a number from "+strconv.Itoa(lo)+" to "+strconv.Itoa(hi))
		return 0, false
	}
	return n, true
}

// oneOf reads a word of a set, of which the first is meant when there is none.
func (q query) oneOf(w http.ResponseWriter, name string, words ...string) (string, bool) {
	s := q.get(name)
	if s == "" {
		return words[0], true
	}
	if !slices.Contains(words, s) {
		problem(w, http.StatusBadRequest, name+" is one of "+strings.Join(words, ", "))
		return "", false
	}
	return s, true
}

// boolean reads true or false; the latter is meant when there is nothing.
func (q query) boolean(w http.ResponseWriter, name string) (bool, bool) {
	s, ok := q.oneOf(w, name, "false", "true")
	return s == "true", ok
}

// moment reads a time of RFC 3339, or how long ago it was: "90s", "1h", "7d". Zero = there is none.
func (q query) moment(w http.ResponseWriter, name string, now time.Time) (time.Time, bool) {
	s := q.get(name)
	if s == "" {
		return time.Time{}, true
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	if d, ok := span(s); ok {
		return now.Add(-d), true
	}
	problem(w, http.StatusBadRequest, name+` is a time such as 2026-11-23T20:15:00Z (in a URL + is written %2B), or how long ago that was: 90s, 1h, 7d`)
	return time.Time{}, false
}

// longest is beyond what any journal keeps, and far from overflow.
const longest = 10 * 365 * 24 * time.Hour

// span reads a time span that is not negative, days included.
func span(s string) (time.Duration, bool) {
	var days time.Duration
	if n, rest, found := strings.Cut(s, "d"); found {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, false
		}
		if days = time.Duration(v) * 24 * time.Hour; rest == "" {
			return days, days <= longest
		}
		s = rest
	}
	d, err := time.ParseDuration(s)
	return days + d, err == nil && d >= 0 && d <= longest && days <= longest
}
