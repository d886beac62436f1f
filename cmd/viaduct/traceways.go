package main

import (
	"context"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// traceWay is one that a route may take.
type traceWay struct {
	route string
	pins  []string // members that its pools take, in the order in which they are met; nil = the pools choose
	hops  []string // by name, for people; nil = not known before
	rule  bool     // it is of the route that was decided
}

// name is what people call it.
func (w *traceWay) name() string {
	if len(w.hops) == 0 {
		return w.route
	}
	return strings.Join(w.hops, " > ")
}

// ways are all that --all tries. left is how many it does not.
func (j *journey) ways(ctx context.Context) (all []traceWay, left int) {
	decided := j.try.Request().Route
	seen := map[string]bool{}
	add := func(route string, rule bool) {
		hops, ok := j.x.table.Describe(route)
		if !ok {
			return
		}
		q := j.try.Request()
		q.Route = route
		if chosen, asked := j.x.table.Choose(ctx, q); asked {
			if chosen.Err != nil { // there is none; going it says why
				all = append(all, traceWay{route: route, rule: rule})
				return
			}
			hops = chosen.Hops
		}
		for _, w := range waysOf(hops) {
			w.route, w.rule = route, rule
			if seen[w.name()] {
				continue
			}
			if seen[w.name()] = true; len(all) >= maxWays {
				left++
				continue
			}
			all = append(all, w)
		}
	}
	add(decided, true)
	for _, r := range routeNames(j.cfg) {
		if r != decided && r != connmodel.RouteDirect { // direct is a way where the policy leads there, and --via tries it
			add(r, false)
		}
	}
	for i := range j.cfg.PACs {
		if r := j.cfg.PACs[i].Route(); r != decided {
			add(r, false)
		}
	}
	return all, left
}

// waysOf takes each choice of a route in turn.
func waysOf(hops []upstream.HopInfo) []traceWay {
	all := []traceWay{{}}
	for i := range hops {
		h := &hops[i]
		var parts []traceWay
		if h.Kind == "pool" {
			for _, m := range h.Members {
				for _, part := range waysOf(m.Hops) {
					part.pins = append([]string{m.Route}, part.pins...)
					parts = append(parts, part)
				}
			}
		} else {
			parts = []traceWay{{hops: []string{h.Name}}}
		}
		var longer []traceWay
		for _, w := range all {
			for _, part := range parts {
				if len(longer) > 4*maxWays { // more would not be tried
					break
				}
				longer = append(longer, traceWay{pins: joinedTo(w.pins, part.pins), hops: joinedTo(w.hops, part.hops)})
			}
		}
		all = longer
	}
	return all
}

func joinedTo(a, b []string) []string { return append(append([]string(nil), a...), b...) }
