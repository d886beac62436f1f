package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
)

// hostile are texts that a client, a proxy or a server may send to make a log say what did not happen, or a terminal do something.
var hostile = []string{
	"a\nlevel=info msg=forged", "a\r\n{\"level\":\"info\",\"msg\":\"forged\"}", `a" reason=client_closed forged="`, `a","reason":"forged`, `a\`, `\"`, "a b=c", "=", "",
	"\x1b[2J\x1b]0;owned\a", "\x00\x01\x7f\x80\xff", "\u009b31m", "\u202egpj.exe", "\u2028x\u2029y", "\ufeff\u200b\u2066", "\U000e0041", "日本語 é 🚀", strings.Repeat("x", 3000) + "\n",
}

// TestLinesCannotBeForged: whatever stands in a field, an event is one line, its fields are those that were written, and nothing in it
// steers a terminal. Targets and names from TLS are canonical before they come here; that is not relied on.
func TestLinesCannotBeForged(t *testing.T) {
	for _, as := range []struct {
		name string
		f    logrus.Formatter
		json bool
	}{
		{"text", &LineFormatter{Base: &logrus.TextFormatter{FullTimestamp: true, DisableColors: true}}, false},
		{"text, colours", &LineFormatter{Base: &logrus.TextFormatter{ForceColors: true}}, false},
		{"json", &LineFormatter{JSON: true, Base: &logrus.JSONFormatter{DisableHTMLEscape: true}}, true},
	} {
		for _, evil := range hostile {
			var out bytes.Buffer
			l := logrus.New()
			l.SetOutput(&out)
			l.SetFormatter(as.f)
			log := LogrusLog{L: l, Lines: true}
			addr := connmodel.Address{Host: evil, Port: 443}
			d := &connmodel.Decision{Policy: evil, Rule: evil, File: evil, Line: 1, Route: evil, Server: addr, Shadow: []connmodel.ShadowVerdict{{Rule: evil}}}
			from := netip.MustParseAddrPort("192.0.2.1:5000")
			facts := &connmodel.Facts{Listener: evil, Client: from, User: evil, Protocol: connmodel.Protocol(evil), Target: addr, Hello: &connmodel.ClientHello{SNI: evil}}
			log.Decision(FlowLine{Flow: connmodel.NewID(time.Now()), Facts: facts, Decision: d})
			f := &connmodel.Flow{
				Client: &connmodel.Client{Listener: evil, User: evil}, Target: addr, Decision: d, Server: &connmodel.Server{Route: evil}, Reason: connmodel.CloseReason(evil), Span: &connmodel.Span{},
				Error: &connmodel.ConnError{Hop: 1, HopName: evil, Phase: connmodel.Phase(evil), Kind: connmodel.Kind(evil), Message: evil},
			}
			log.Close(f)
			log.Event(LevelWarn, "client refused", "listener", evil, "reason", fmt.Errorf("%s", evil))
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if len(lines) != 3 {
				t.Errorf("%s, %.40q: %d lines\n%s", as.name, evil, len(lines), out.String())
				continue
			}
			for i, line := range lines {
				if as.name == "text, colours" && i == 2 {
					line = strings.NewReplacer("\x1b[33m", "", "\x1b[0m", "").Replace(line)
				}
				for _, r := range line {
					if !unicode.IsPrint(r) {
						t.Errorf("%s, %.40q: %U gets through", as.name, evil, r)
					}
				}
				if as.json {
					var m map[string]any
					if err := json.Unmarshal([]byte(line), &m); err != nil {
						t.Errorf("%s, %.40q: %v", as.name, evil, err)
					} else if m["listener"] != strings.ToValidUTF8(evil, "\ufffd") && evil != "\x00\x01\x7f\x80\xff" {
						t.Errorf("%s, %.40q: listener is %q", as.name, evil, m["listener"])
					}
					continue
				}
				if strings.Contains(outsideQuotes(line), "forged") {
					t.Errorf("%s, %.40q: forged in\n%s", as.name, evil, line)
				}
			}
		}
	}
}

// outsideQuotes is what a reader of key=value lines takes for keys and bare values.
func outsideQuotes(line string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted:
			b.WriteByte(line[i])
		}
	}
	return b.String()
}
