package main

import (
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/router/admin"
	"viaduct/upstream"
)

// wellbeingChanged logs what becomes of members of pools, and of upstreams that are checked: each change, and not each check.
func (s *service) wellbeingChanged(c *upstream.Change) {
	fields := logrus.Fields{"member": c.Route, "state": c.To}
	text := c.Route
	if c.Pool != "" {
		fields["pool"] = strings.TrimPrefix(c.Pool, "pool.")
		text = c.Pool + ": " + text
	}
	entry := s.log.WithFields(fields)
	switch c.To {
	case upstream.StateHealthy:
		text += " is well again"
		if c.After > 0 {
			text += ", after " + c.After.Round(time.Second/10).String()
		}
		entry.Info("health: " + text)
		return
	case upstream.StateDown:
		text += " is down: " + c.Why
	case upstream.StateEjected:
		text += " is left out for " + time.Until(c.Until).Round(time.Second/10).String() + ", after " + c.Why
	}
	entry.Warn("health: " + text)
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
