package main

import (
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/router/admin"
	"viaduct/upstream"
)

const (
	// wellbeingLines bounds what is logged of changes within wellbeingWindow: when a network goes, thousands of members may go with it.
	wellbeingLines  = 100
	wellbeingWindow = 10 * time.Second
)

// wellbeingLog logs what becomes of members of pools, and of upstreams that are checked: each change, and not each check.
type wellbeingLog struct {
	mu    sync.Mutex
	since time.Time // of the window
	lines int
	more  int // that were not logged
}

// room takes one of the lines of the window, and returns how many of the window before were not logged.
func (w *wellbeingLog) room(now time.Time) (ok bool, missed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.since) >= wellbeingWindow {
		missed = w.more
		w.since, w.lines, w.more = now, 0, 0
	}
	if w.lines++; w.lines > wellbeingLines {
		w.more++
		return false, missed
	}
	return true, missed
}

func (s *service) wellbeingChanged(c *upstream.Change) {
	if c.Target.IsZero() {
		s.events.Notify(admin.EventUpstream, admin.UpstreamEvent{Pool: c.Pool, Route: c.Route, State: string(c.To), Why: c.Why})
	}
	ok, missed := s.wellbeing.room(time.Now())
	if missed > 0 {
		s.log.WithField("missed", missed).Warn("health: there were more changes than are logged at a time; the metric viaduct_pool_member_up has them all")
	}
	if !ok {
		return
	}
	text, fields := changeWords(c)
	if entry := s.log.WithFields(fields); c.To == upstream.StateHealthy {
		entry.Info(text)
	} else {
		entry.Warn(text)
	}
}

func changeWords(c *upstream.Change) (string, logrus.Fields) {
	if !c.Target.IsZero() {
		fields := logrus.Fields{"target": c.Target.String(), "state": c.To}
		if c.To == upstream.StateDown {
			return "health: " + c.Target.String() + ", which checks ask for, is reached through no member, so none is taken out for it; is the check asking for the right thing? " + c.Why, fields
		}
		return "health: " + c.Target.String() + ", which checks ask for, is reached again", fields
	}
	fields := logrus.Fields{"member": c.Route, "state": c.To}
	text := "health: " + c.Route
	if c.Pool != "" {
		fields["pool"] = strings.TrimPrefix(c.Pool, "pool.")
		text = "health: " + c.Pool + ": " + c.Route
	}
	switch c.To {
	case upstream.StateDown:
		text += " is down: " + c.Why
	case upstream.StateEjected:
		text += " is left out for " + time.Until(c.Until).Round(time.Second/10).String() + ", after " + c.Why
	default:
		text += " is well again"
		if c.After > 0 {
			text += ", after " + c.After.Round(time.Second/10).String()
		}
	}
	return text, fields
}

func checkStatus(c *upstream.CheckStatus) *admin.Check {
	if c == nil {
		return nil
	}
	return &admin.Check{
		Kind: c.Check, At: maybe(c.At), Took: float64(c.Took.Microseconds()) / 1000, OK: c.OK, Short: c.Short, Status: c.Status, Error: c.Error, InARow: c.InARow,
		Next: maybe(c.Next), Made: c.Made, Failures: c.Failures,
	}
}

// checkWords says in a cell of a table how checks are.
func checkWords(c *admin.Check) string {
	switch {
	case c == nil:
		return "-"
	case c.At == nil:
		return c.Kind + ": not yet"
	case !c.OK:
		return c.Kind + ": failed"
	case c.Short != "":
		return c.Kind + ": ok so far"
	}
	return c.Kind + ": ok"
}
