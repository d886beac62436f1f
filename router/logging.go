package router

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
)

// LogrusLog writes the two canonical lines of each flow and other events through logrus, with fixed keys: flow, listener, client,
// user, target, rule, via on both lines; sni on the decision line where a rule asked for it; hop, kind, error, reason, up, down and the times on the close line.
type LogrusLog struct {
	L *logrus.Logger
	// Lines says that L's formatter is a LineFormatter, so that lines are handed to it as they are instead of as Fields, which cost
	// ten times as much. With any other formatter it must be false.
	Lines bool
}

// Decision implements Log.
func (g LogrusLog) Decision(f FlowLine) {
	if !g.L.IsLevelEnabled(logrus.InfoLevel) {
		return
	}
	l := newLine()
	l.id("flow", f.Flow)
	l.text("listener", f.Facts.Listener)
	l.addrPort("client", f.Facts.Client)
	l.optional("user", f.Facts.User)
	l.text("protocol", string(f.Facts.Protocol))
	if named := f.Facts.KernelSent() && f.Facts.NamedInside(); named {
		l.addrPort("target", netip.AddrPortFrom(f.Facts.TargetIP, f.Facts.Target.Port)) // as in the record
		l.text("name", f.Facts.Target.Host)
	} else {
		l.address("target", f.Facts.Target)
	}
	if h := f.Facts.Hello; h != nil {
		l.optional("sni", h.SNI)
	}
	message := "decision: none"
	if d := f.Decision; d != nil {
		l.decision(d)
		if message = "decision: via"; d.Denied() {
			message = "decision: deny"
		}
		for _, v := range d.Shadow {
			l.text("shadow", v.Rule+"="+string(v.Outcome))
		}
	}
	g.write(message, l)
}

// Close implements Log.
func (g LogrusLog) Close(f *connmodel.Flow) {
	if !g.L.IsLevelEnabled(logrus.InfoLevel) {
		return
	}
	l := newLine()
	l.id("flow", f.ID)
	l.text("listener", f.Client.Listener)
	l.addrPort("client", f.Client.From())
	l.optional("user", f.Client.User)
	l.address("target", f.Target)
	if f.Decision != nil {
		l.decision(f.Decision)
	}
	if s := f.Server; s != nil {
		l.optional("route", s.Route)
		l.number("attempts", int64(len(s.Attempts)))
		if !s.TCPSetup.IsZero() && !s.Reused {
			l.millis("connect_ms", s.TCPSetup.Sub(s.Start))
		}
	}
	if f.Response != nil {
		l.number("status", int64(f.Response.Status))
	}
	if e := f.Error; e != nil {
		if e.Hop > 0 {
			l.text("hop", fmt.Sprintf("%d (%s)", e.Hop, e.HopName))
		}
		l.text("phase", string(e.Phase))
		l.text("kind", string(e.Kind))
		l.text("error", e.Error())
	}
	l.text("reason", string(f.Reason))
	l.number("up", f.Up)
	l.number("down", f.Down)
	l.millis("total_ms", f.End.Sub(f.Start))
	if f.Span != nil {
		l.text("trace_id", f.Span.Trace.String())
	}
	g.write("close", l)
}

func (g LogrusLog) write(message string, l *line) {
	e := logrus.Entry{Logger: g.L, Time: time.Now()}
	if g.Lines {
		e.Data = l.self
	} else {
		e.Data = l.fields()
	}
	e.Log(logrus.InfoLevel, message)
	l.release()
}

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
