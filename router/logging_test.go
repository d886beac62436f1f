package router

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
)

func sampleFlow() *connmodel.Flow {
	s := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: netip.MustParseAddrPort("127.0.0.1:5000"), Time: time.Now()}, nil)
	r := s.NewFlow(connmodel.ProtocolConnect, connmodel.Address{Host: "www.example.com", Port: 443}, time.Now())
	d := loopbackOpen()
	d.Rule = "a \"rule\"\n\x1b[31m"
	r.Decided(d, nil)
	r.BeginDial(connmodel.Address{Host: "www.example.com", Port: 443}, "direct", false)
	r.Fail(&connmodel.ConnError{Phase: connmodel.PhaseConnect, Side: connmodel.SideHop, Hop: 2, HopName: "jump", Kind: connmodel.KindDenied, Message: "no\nlevel=info msg=forged"})
	return r.Close(connmodel.FlowEnd{Reason: connmodel.CloseFailed, Up: 1, Down: 2})
}

// TestLinesAreTheSameThroughEveryFormatter compares the fast way with what logrus' own JSON formatter makes of the same fields.
func TestLinesAreTheSameThroughEveryFormatter(t *testing.T) {
	f := sampleFlow()
	lines := func(format logrus.Formatter, fast bool) map[string]any {
		var out bytes.Buffer
		l := logrus.New()
		l.SetOutput(&out)
		l.SetFormatter(format)
		LogrusLog{L: l, Lines: fast}.Close(f)
		m := map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &m); err != nil {
			t.Fatalf("%v in %q", err, out.String())
		}
		delete(m, "time")
		return m
	}
	base := &logrus.JSONFormatter{}
	slow, fast := lines(base, false), lines(&LineFormatter{JSON: true, Base: base}, true)
	if len(slow) < 12 {
		t.Fatalf("only %d fields: %v", len(slow), slow)
	}
	for k, v := range slow {
		if fast[k] != v {
			t.Errorf("%s: %v by the fast way, %v by logrus", k, fast[k], v)
		}
	}
	if len(fast) != len(slow) {
		t.Errorf("%d fields by the fast way, %d by logrus", len(fast), len(slow))
	}
}

func TestTextLinesCannotBeForged(t *testing.T) {
	var out bytes.Buffer
	l := logrus.New()
	l.SetOutput(&out)
	l.SetFormatter(&LineFormatter{Base: &logrus.TextFormatter{}})
	LogrusLog{L: l, Lines: true}.Close(sampleFlow())
	got := out.String()
	if strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\x00") {
		t.Errorf("got %q", got)
	}
	for _, want := range []string{`msg=close`, `hop="2 (jump)"`, `kind=denied`, `target="www.example.com:443"`, `up=1 down=2`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
}

func BenchmarkLogClose(b *testing.B) {
	f := sampleFlow()
	for _, bench := range []struct {
		name   string
		format logrus.Formatter
		fast   bool
	}{
		{"line", &LineFormatter{Base: &logrus.TextFormatter{}}, true},
		{"logrus", &logrus.TextFormatter{DisableColors: true}, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			l := logrus.New()
			l.SetOutput(nowhere{})
			l.SetFormatter(bench.format)
			g := LogrusLog{L: l, Lines: bench.fast}
			b.ReportAllocs()
			for b.Loop() {
				g.Close(f)
			}
		})
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
