package journald

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"viaduct/connmodel"
)

// priority is how journalctl -p sorts a flow: failed ones are warnings, refused ones notices.
func priority(f *connmodel.Flow) journal.Priority {
	switch {
	case f.Panicked:
		return journal.PriErr
	case f.Error != nil:
		return journal.PriWarning
	case f.Decision != nil && f.Decision.Denied():
		return journal.PriNotice
	}
	return journal.PriInfo
}

// fill sets the fields of f; what is not known is left out. text is room for the JSON.
func fill(m map[string]string, f *connmodel.Flow, text []byte) []byte {
	put := func(name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	m["SYSLOG_IDENTIFIER"] = "viaduct"
	put("VIADUCT_FLOW", f.ID.String())
	put("VIADUCT_SESSION", f.Session.String())
	put("VIADUCT_PROTOCOL", string(f.Protocol))
	put("VIADUCT_TARGET", f.Target.String())
	put("VIADUCT_CLOSE_REASON", string(f.Reason))
	if c := f.Client; c != nil {
		put("VIADUCT_LISTENER", c.Listener)
		put("VIADUCT_USER", c.User)
		if from := c.From(); from.IsValid() {
			m["VIADUCT_CLIENT"] = from.Addr().Unmap().WithZone("").String()
		}
	}
	if d := f.Decision; d != nil {
		put("VIADUCT_POLICY", d.Policy)
		put("VIADUCT_RULE", d.Rule)
		put("VIADUCT_OUTCOME", string(d.Outcome))
		put("VIADUCT_ROUTE", d.Route)
	}
	if f.Server != nil {
		put("VIADUCT_ROUTE_USED", f.Server.Route)
	}
	if e := f.Error; e != nil {
		put("VIADUCT_ERROR_KIND", string(e.Kind))
		put("VIADUCT_ERROR_PHASE", string(e.Phase))
		put("VIADUCT_ERROR_HOP", e.HopName)
	}
	m["VIADUCT_BYTES_UP"], m["VIADUCT_BYTES_DOWN"] = strconv.FormatInt(f.Up, 10), strconv.FormatInt(f.Down, 10)
	m["VIADUCT_DURATION_MS"] = strconv.FormatInt(lasted(f).Milliseconds(), 10)
	text = f.AppendJSON(text)
	m["VIADUCT_RECORD"] = string(text)
	return text
}

func lasted(f *connmodel.Flow) time.Duration {
	if f.Start.IsZero() || f.End.IsZero() {
		return 0
	}
	return max(f.End.Sub(f.Start), 0)
}

// Message is the record on one line: "connect api.partner.example:443 from 10.1.2.3 by rule default/partner via corp_a > jump: client_closed, 517 bytes
// up, 4096 down, 1.204s". What is no plain text in it is quoted.
func Message(f *connmodel.Flow) string {
	var b strings.Builder
	b.WriteString(plain(string(f.Protocol)))
	if !f.Target.IsZero() {
		b.WriteString(" " + plain(f.Target.String()))
	}
	if c := f.Client; c != nil {
		if from := c.From(); from.IsValid() {
			b.WriteString(" from " + from.Addr().Unmap().WithZone("").String())
		}
		if c.User != "" {
			b.WriteString(" as " + plain(c.User))
		}
	}
	if d := f.Decision; d != nil && d.Policy != "" {
		b.WriteString(" by rule " + plain(d.Policy+"/"+d.Rule))
	}
	if f.Server != nil && f.Server.Route != "" {
		b.WriteString(" via " + plain(f.Server.Route))
	}
	fmt.Fprintf(&b, ": %s, %d bytes up, %d down, %s", plain(string(f.Reason)), f.Up, f.Down, lasted(f).Round(time.Millisecond))
	if f.Error != nil {
		b.WriteString("; " + plain(f.Error.Error()))
	}
	return b.String()
}

// longest is how much of a text a line shows.
const longest = 300

// plain returns s when it is printable ASCII, else quoted: a line stays a line, and steers no terminal.
func plain(s string) string {
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
