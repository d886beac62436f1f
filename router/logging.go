package router

import (
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
)

// LogrusLog writes the two canonical lines of each flow and other events through logrus, with fixed keys: flow, listener, client,
// user, target, rule, via on both lines; hop, kind, error, reason, up, down and the times on the close line.
type LogrusLog struct{ L *logrus.Logger }

// Decision implements Log.
func (g LogrusLog) Decision(f FlowLine) {
	if !g.L.IsLevelEnabled(logrus.InfoLevel) {
		return
	}
	fields := make(logrus.Fields, 10)
	fields["flow"] = f.Flow.String()
	fields["listener"] = f.Facts.Listener
	fields["client"] = f.Facts.Client.String()
	fields["protocol"] = string(f.Facts.Protocol)
	fields["target"] = f.Facts.Target.String()
	if f.Facts.User != "" {
		fields["user"] = f.Facts.User
	}
	message := "decision: none"
	if d := f.Decision; d != nil {
		addDecision(fields, d)
		if message = "decision: via"; d.Denied() {
			message = "decision: deny"
		}
		for _, v := range d.Shadow {
			fields["shadow"] = v.Rule + "=" + string(v.Outcome)
		}
	}
	g.L.WithFields(fields).Info(message)
}

func addDecision(fields logrus.Fields, d *connmodel.Decision) {
	fields["rule"] = d.Policy + "/" + d.Rule
	if w := d.Where(); w != "" {
		fields["at"] = w
	}
	if d.Route != "" {
		fields["via"] = d.Route
	}
	if !d.Server.IsZero() {
		fields["server"] = d.Server.String()
	}
}

// Close implements Log.
func (g LogrusLog) Close(f *connmodel.Flow) {
	if !g.L.IsLevelEnabled(logrus.InfoLevel) {
		return
	}
	fields := make(logrus.Fields, 18)
	fields["flow"] = f.ID.String()
	fields["listener"] = f.Client.Listener
	fields["client"] = f.Client.Peer.String()
	fields["target"] = f.Target.String()
	if f.Client.User != "" {
		fields["user"] = f.Client.User
	}
	if f.Decision != nil {
		addDecision(fields, f.Decision)
	}
	if s := f.Server; s != nil {
		if s.Route != "" {
			fields["route"] = s.Route
		}
		fields["attempts"] = len(s.Attempts)
		if !s.TCPSetup.IsZero() {
			fields["connect_ms"] = millis(s.TCPSetup.Sub(s.Start))
		}
	}
	if f.Response != nil {
		fields["status"] = f.Response.Status
	}
	if e := f.Error; e != nil {
		fields["kind"] = string(e.Kind)
		fields["phase"] = string(e.Phase)
		fields["error"] = e.Error()
		if e.Hop > 0 {
			fields["hop"] = fmt.Sprintf("%d (%s)", e.Hop, e.HopName)
		}
	}
	fields["reason"] = string(f.Reason)
	fields["up"], fields["down"] = f.Up, f.Down
	fields["total_ms"] = millis(f.End.Sub(f.Start))
	g.L.WithFields(fields).Info("close")
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Event implements Log.
func (g LogrusLog) Event(level Level, message string, kv ...any) {
	fields := make(logrus.Fields, len(kv)/2)
	for i := 0; i+1 < len(kv); i += 2 {
		fields[strings.TrimSpace(fmt.Sprint(kv[i]))] = kv[i+1]
	}
	e := g.L.WithFields(fields)
	switch level {
	case LevelError:
		e.Error(message)
	case LevelWarn:
		e.Warn(message)
	default:
		e.Info(message)
	}
}
