package admin

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// serveHistory answers GET /v1/history?range=5m|1h|24h; 5m unless asked otherwise. All lists of numbers are as long as "times", which says
// when each step begins; null stands where nothing was measured. Rates are per second, the times of connecting in seconds.
//
//	{"range":"5m","step":1,"now":1764337000,
//	 "times":[1764336700,...],
//	 "series":{"flows":[..],"errors":[..],"bytes_up":[..],"bytes_down":[..],"open":[..],"attempts":[..],"failures":[..],
//	           "connect_p50":[..],"connect_p90":[..],"connect_p99":[..]},
//	 "errors_by_kind":{"refused":[..]},
//	 "upstreams":[{"name":"corp_a","state":"up","up":[1,1,0,..],"attempts":[..],"failures":[..],"open":[..]}],
//	 "upstreams_left_out":0,
//	 "rules":[{"policy":"default","rule":"partner api","flows":[..]}],
//	 "rules_other":[..],
//	 "changes":[{"time":"2026-11-28T13:00:01.002Z","upstream":"corp_a","from":"up","to":"down"}]}
//
// "up" of an upstream is 0 for a step in which it was down at any time. A request on a kept connection and every other flow counts when it
// has ended; bytes count as they flow where a tunnel is open, and at the end of plain requests.
func serveHistory(w http.ResponseWriter, r *http.Request, h *History) {
	if h == nil {
		problem(w, http.StatusNotFound, "this gateway keeps no history")
		return
	}
	name := cmp.Or(r.URL.Query().Get("range"), resolutions[0].name)
	var names []string
	for i := range resolutions {
		if resolutions[i].name == name {
			w.Header().Set("Content-Type", "application/json")
			w.Write(h.appendJSON(nil, i, time.Now()))
			return
		}
		names = append(names, resolutions[i].name)
	}
	problem(w, http.StatusBadRequest, "range is one of "+strings.Join(names, ", "))
}

// appendJSON appends the answer for one range that ends with now. The step under way is left out: it is not whole.
func (h *History) appendJSON(b []byte, ring int, now time.Time) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	step := resolutions[ring].step
	end := now.Unix() / step
	if step == 1 {
		end = min(end, max(h.lastTick, end-2)) // the last second may be about to be read
	}
	v := view{h: h, ring: ring, from: end - int64(resolutions[ring].steps), to: end}
	b = append(b, `{"range":"`...)
	b = append(b, resolutions[ring].name...)
	b = strconv.AppendInt(append(b, `","step":`...), step, 10)
	b = strconv.AppendInt(append(b, `,"now":`...), now.Unix(), 10)
	b = append(b, ",\n\"times\":["...)
	for n := v.from; n < v.to; n++ {
		if n > v.from {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n*step, 10)
	}
	b = append(b, "],\n\"series\":{"...)
	for i, c := range h.global {
		b = v.line(b, i > 0, globalNames[i], c)
	}
	b = append(b, "},\n\"errors_by_kind\":{"...)
	for i, kind := range sortedKeys(h.errors, func(a, b connmodel.Kind) int { return cmp.Compare(a, b) }) {
		b = v.line(b, i > 0, string(kind), h.errors[kind])
	}
	b = append(b, "},\n\"upstreams\":["...)
	for i, name := range sortedKeys(h.ups, strings.Compare) {
		u := h.ups[name]
		b = v.object(b, i, "name", name)
		b = quoted(append(b, `,"state":`...), h.states[name])
		b = v.line(b, true, "up", u.up)
		b = v.line(b, true, "attempts", u.attempts)
		b = v.line(b, true, "failures", u.failures)
		b = append(v.line(b, true, "open", u.open), '}')
	}
	b = strconv.AppendInt(append(b, "],\n\"upstreams_left_out\":"...), int64(h.hidden), 10)
	b = append(b, ",\n\"rules\":["...)
	for i, k := range sortedKeys(h.rules, func(a, b ruleKey) int {
		return cmp.Or(strings.Compare(a.policy, b.policy), strings.Compare(a.rule, b.rule))
	}) {
		b = v.object(b, i, "policy", k.policy)
		b = quoted(append(b, `,"rule":`...), k.rule)
		b = append(v.line(b, true, "flows", h.rules[k]), '}')
	}
	b = v.line(append(b, "],\n"...), false, "rules_other", &h.noRoom)
	b = append(b, ",\n\"changes\":["...)
	n := 0
	for _, c := range h.changes {
		if t := c.Time.Unix() / step; t < v.from || t > now.Unix()/step {
			continue
		}
		b = v.object(b, n, "time", c.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
		b = quoted(append(b, `,"upstream":`...), c.Upstream)
		b = quoted(append(b, `,"from":`...), c.From)
		b = append(quoted(append(b, `,"to":`...), c.To), '}')
		n++
	}
	return append(b, "]}\n"...)
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}

// view is the part of a History that is written.
type view struct {
	h        *History
	ring     int
	from, to int64 // steps
}

func (v *view) object(b []byte, i int, key, value string) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = append(append(append(b, "\n{\""...), key...), `":`...)
	return quoted(b, value)
}

// line appends one line as a member of an object.
func (v *view) line(b []byte, comma bool, name string, c *column) []byte {
	if comma {
		b = append(b, ',')
	}
	b = append(quoted(b, name), ":["...)
	r, values := &v.h.rings[v.ring], c.of(v.ring)
	for n := v.from; n < v.to; n++ {
		if n > v.from {
			b = append(b, ',')
		}
		at := int(n % int64(len(r.slots)))
		if x := values[at]; r.slots[at].n != n || x != x {
			b = append(b, "null"...)
		} else if x == 0 {
			b = append(b, '0')
		} else {
			b = strconv.AppendFloat(b, float64(x), 'g', 6, 32)
		}
	}
	return append(b, ']')
}

// quoted appends s as a JSON string.
func quoted(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string cannot fail
	return append(b, q...)
}
