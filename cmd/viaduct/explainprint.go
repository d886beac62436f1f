package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"viaduct/upstream"

	"viaduct/connmodel"
)

// print writes the explanation for people.
func (e *explanation) print(w io.Writer) error {
	p := palette(colourful(w))
	what := strings.ToUpper(e.Protocol) + " " + e.Target
	if e.Method != "" {
		what = e.Method + " " + e.Scheme + "://" + e.Target + e.Path
	}
	from := "a Unix socket"
	if e.Client != "" {
		from = e.Client
	}
	if e.User != "" {
		from += " as " + printable(e.User)
	}
	fmt.Fprintf(w, "%s from %s on listener %s, %s\n", p.bold(printable(what)), from, e.Listener, e.Time.Format("Mon 2006-01-02 15:04 MST"))
	for _, why := range e.Accept {
		fmt.Fprintf(w, "%s: %s\n", p.bad("not let in"), why)
	}
	if len(e.Resolved) > 0 {
		by := ""
		if e.Lookup != nil {
			by = fmt.Sprintf(" (%s, %.1f ms)", e.Lookup.words(), e.Lookup.Took)
		}
		fmt.Fprintf(w, "the name has the address %s%s\n", strings.Join(e.Resolved, ", "), by)
	}
	if e.SNI != "" || e.ALPN != nil || e.JA4 != "" {
		fmt.Fprintf(w, "the client begins TLS with %s\n", e.helloWords())
	}
	for i := range e.Reach {
		fmt.Fprintln(w, e.Reach[i].words())
	}
	fmt.Fprintf(w, "\npolicy %s\n", e.Policy)
	t := &connmodel.Trace{}
	for _, s := range e.Rules {
		t.Steps = append(t.Steps, connmodel.TraceStep(s))
	}
	printTrace(w, p, "  ", t)
	fmt.Fprintln(w)
	if e.Open != "" {
		_, err := fmt.Fprintf(w, "%s: %s\n", p.bad("no decision"), e.Open)
		return err
	}
	e.printOutcome(w, p)
	if e.Shadow != nil {
		e.Shadow.print(w, p)
	}
	if e.Inside != nil {
		fmt.Fprintf(w, "\n%s ", p.bold("inside the tunnel:"))
		return e.Inside.print(w)
	}
	return nil
}

func (e *explanation) helloWords() string {
	var parts []string
	for _, p := range [][2]string{{"sni", e.SNI}, {"alpn", strings.Join(e.ALPN, ",")}, {"ja4", e.JA4}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	return strings.Join(parts, ", ")
}

func (e *explanation) printOutcome(w io.Writer, p palette) {
	by := "no rule took it"
	if e.Rule != "" {
		by = fmt.Sprintf("rule %q", e.Rule)
	}
	if e.File != "" {
		by += fmt.Sprintf(", %s:%d", e.File, e.Line)
	}
	if e.Outcome == string(connmodel.OutcomeDeny) {
		status := ""
		if e.Status != 0 {
			status = fmt.Sprintf(" with %d", e.Status)
		}
		fmt.Fprintf(w, "%-9s %s (%s)\n", "decision", p.bad("refused"+status), by)
		if e.Reason != "" {
			fmt.Fprintf(w, "%-9s %s\n", "reason", e.Reason)
		}
		return
	}
	fmt.Fprintf(w, "%-9s %s (%s)\n", "decision", p.good("via "+e.Via), by)
	if e.Server != "" {
		fmt.Fprintf(w, "%-9s %s in place of %s\n", "server", e.Server, e.Target)
	}
	if words := e.nameWords(); words != "" {
		fmt.Fprintf(w, "%-9s %s\n", "name", words)
	}
	if e.Header != 0 {
		fmt.Fprintf(w, "%-9s the server is told of the client by a PROXY protocol header, version %d\n", "header", e.Header)
	}
	if e.TLS != "" && e.TLS != string(connmodel.TLSPassthrough) {
		line := tlsWords(e)
		switch {
		case e.Unverified:
			line += ", " + p.bad("the certificate is NOT VERIFIED (verify = false)")
		case e.TLSName != "":
			line += ", verified for " + e.TLSName
		}
		fmt.Fprintf(w, "%-9s %s\n", "tls", line)
	}
	for _, x := range e.PAC {
		if len(e.PAC) > 1 || x.Route != e.Via {
			fmt.Fprintf(w, "%-9s %s\n", "choice", x.Route)
		}
		if x.To != "" {
			fmt.Fprintf(w, "%-9s the way to the next hop, %s\n", "for", x.To)
		}
		fmt.Fprintf(w, "%-9s %s\n", "script", x.From)
		if x.URL != "" {
			fmt.Fprintf(w, "%-9s %s\n", "asked", printable(x.URL))
		}
		for _, t := range x.Problems {
			fmt.Fprintf(w, "%-9s %s\n", "ignored", printable(t))
		}
		if x.Error != "" {
			fmt.Fprintf(w, "%-9s %s: %s\n", "answer", p.bad("none"), printable(x.Error))
			fmt.Fprintf(w, "%-9s %s\n", "on_error", onErrorText(x.OnError))
		} else {
			fmt.Fprintf(w, "%-9s %s\n", "answer", strings.Join(x.Entries, "; "))
		}
	}
	for i, line := range routeLines(e.Route, "") {
		label := ""
		if i == 0 {
			label = "route"
		}
		fmt.Fprintf(w, "%-9s %s\n", label, line)
	}
	if e.ResolvedBy == "literal" {
		fmt.Fprintf(w, "%-9s not needed: the server is an address\n", "resolved")
	} else {
		by := e.ResolvedBy
		if e.Resolver != "" && strings.Contains(by, "viaduct") {
			by += ", resolver " + e.Resolver
		}
		fmt.Fprintf(w, "%-9s by %s\n", "resolved", by)
	}
	if len(e.Tags) > 0 {
		fmt.Fprintf(w, "%-9s %s\n", "tags", strings.Join(e.Tags, ", "))
	}
	if e.Refused != "" {
		fmt.Fprintf(w, "%-9s %s\n", "check", p.bad(e.Refused))
	} else {
		fmt.Fprintf(w, "%-9s the destination is allowed\n", "check")
	}
}

// tlsWords says what the mode of a rule means for this flow.
func tlsWords(e *explanation) string {
	switch m := connmodel.TLSMode(e.TLS); {
	case m == connmodel.TLSIntercept && e.Method == "":
		return e.TLS + ": the client's TLS is opened, each request in it is decided by itself"
	case m == connmodel.TLSTerminate && e.Method == "":
		return e.TLS + ": the client's TLS ends here, each request in it is decided by itself, the server is plain"
	case m == connmodel.TLSIntercept && e.Scheme == "https":
		return e.TLS + ": TLS to the server"
	case m == connmodel.TLSTerminate && e.Scheme == "https":
		return e.TLS + ": a plain server"
	case (m == connmodel.TLSIntercept || m == connmodel.TLSTerminate) && e.Scheme == "http":
		return e.TLS + ": nothing is to be opened of a plain request"
	}
	return e.TLS
}

// routeLines writes a route, one step a line, what a pool chooses from below it.
func routeLines(hops []hopStep, indent string) (lines []string) {
	for i, h := range hops {
		lines = append(lines, fmt.Sprintf("%s%d. %s", indent, i+1, h.line()))
		for _, m := range h.Members {
			if len(m.Hops) == 1 && len(m.Hops[0].Members) == 0 {
				lines = append(lines, fmt.Sprintf("%s   - %s", indent, m.Hops[0].line()))
				continue
			}
			lines = append(lines, fmt.Sprintf("%s   - %s", indent, m.Route))
			lines = append(lines, routeLines(m.Hops, indent+"     ")...)
		}
	}
	return lines
}

func (h *hopStep) line() string {
	switch h.Kind {
	case "direct":
		return "direct, without a proxy"
	case "pool":
		s := h.Name + ", " + h.Select
		if h.Select == "" {
			s = h.Name + ", first_healthy"
		}
		if h.HashBy != "" {
			s += " by " + h.HashBy
		}
		return s + " of:"
	}
	s := fmt.Sprintf("upstream.%s  %s://%s", h.Name, h.Scheme, h.Address)
	if strings.Contains(h.Name, "://") {
		s = h.Name + "  not declared"
	}
	if h.ServerName != "" && !strings.HasPrefix(h.Address, h.ServerName+":") {
		s += ", TLS as " + h.ServerName
	}
	if h.Unverified {
		s += ", certificate NOT VERIFIED (verify = false)"
	}
	if h.FromClient {
		s += ", the client's own user and password by basic"
	} else if h.Credential != "" {
		s += fmt.Sprintf(", credential %q", h.Credential)
		if len(h.Schemes) > 0 {
			s += " by " + strings.Join(h.Schemes, ", ")
		}
	} else {
		s += ", no credential"
	}
	return s
}

// nameWords says what becomes of the name that is found inside, where a firewall sends a connection here.
func (e *explanation) nameWords() string {
	name := e.Name
	if name == "" {
		name = "the one that the client asks for inside, if any,"
	}
	address := e.Target
	if ap, err := netip.ParseAddrPort(address); err == nil {
		address = ap.Addr().String()
	}
	var parts []string
	if e.VerifyName {
		parts = append(parts, "must have the address "+address+" (verify_name)")
	}
	if e.SendName {
		parts = append(parts, "is reached in place of "+address+" (send_name)")
	}
	switch {
	case len(parts) > 0:
		return name + " " + strings.Join(parts, ", and ")
	case e.Name != "":
		return e.Name + " is what the client says; the connection goes to the address"
	}
	return ""
}

// onErrorText says what takes the place of a script that gave no entries.
func onErrorText(route string) string {
	if route == upstream.OnErrorNext {
		return "the other members of the pool"
	}
	return route
}
