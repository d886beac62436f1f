package doctor

import (
	"errors"
	"strconv"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/auth"
)

// tunnels asks for tunnels as the gateway does, and looks at what becomes of them.
func (x *exam) tunnels() {
	if x.NoCredentials != "" && x.Spec.Auth != nil && !x.open {
		x.skipRest("no credential is shown: "+x.NoCredentials, "connect", "websocket", "idle")
		return
	}
	if o := x.rep.Step("offers"); o != nil && (o.Code == "offers_no_auth" || o.Code == "socks_wants_auth") {
		x.skipRest("the proxy does not let us in without credentials", "connect", "websocket", "idle")
		return
	}
	var c *upstream.Conn
	s := x.step("connect", func(s *Step) { c = x.tunnel(s) })
	if c != nil {
		if x.Target.Port == 443 || x.Target.Port == 8443 {
			x.step("target", func(s *Step) { x.target(s, c) })
		}
		c.Close()
	}
	switch s.Code {
	case "connect_407", "connect_auth", "credential_closed", "credential_waiting", "credential_not_stored", "connect_rejected", "socks_rejected", "offers_no_auth":
		x.skipRest("the proxy does not let us in", "websocket", "idle")
		return
	}
	held := x.websockets()
	switch {
	case x.Idle <= 0:
	case s.Status == Fail && len(held) == 0:
		x.skipRest("there is no tunnel to leave alone", "idle")
	default:
		x.idle(held, s.Status != Fail)
	}
	for _, h := range held {
		h.conn.Close()
	}
}

// route dials as a flow would.
func (x *exam) route(q upstream.Request) (*upstream.Conn, *connmodel.Flow, *connmodel.ConnError) {
	q.Route, q.Retry, q.Deadline = x.Route, once, time.Now().Add(4*x.Timeout)
	rec := connmodel.NewSession(connmodel.Accepted{Listener: "check"}, nil).NewFlow(connmodel.ProtocolConnect, q.Target, time.Time{})
	c, err := x.Table.Dial(x.ctx, &q, rec)
	return c, rec.Snapshot(), err
}

// tunnel opens one to the target with the credential.
func (x *exam) tunnel(s *Step) *upstream.Conn {
	c, flow, err := x.route(upstream.Request{Target: x.Target, PlainConnect: true})
	var hop *connmodel.HopResult
	if flow.Server != nil && len(flow.Server.Attempts) > 0 {
		for i := range flow.Server.Attempts[0].Hops {
			if h := &flow.Server.Attempts[0].Hops[i]; h.Upstream == x.Spec.Name {
				hop = h
			}
		}
	}
	s.fact("target", x.Target.String())
	s.fact("target_from", x.TargetFrom)
	says := "a tunnel to " + x.Target.String()
	if x.TargetFrom != "" {
		says += " (" + x.TargetFrom + ")"
	}
	if hop != nil {
		if hop.Credential != "" {
			s.fact("credential", hop.Credential)
			says += ", with credential " + quoted(hop.Credential)
		}
		if hop.AuthRounds > 0 {
			s.fact("auth_rounds", hop.AuthRounds)
			says += ", " + strconv.Itoa(int(hop.AuthRounds)) + " round(s) of authentication"
		}
		for _, p := range []struct {
			name string
			took time.Duration
		}{{"tcp", hop.TCP}, {"tls", hop.TLS}, {"greeting", hop.Greeting}, {"auth", hop.Auth}, {"connect", hop.Connect}} {
			if p.took > 0 {
				s.fact(p.name+"_ms", millis(p.took))
			}
		}
	}
	if err == nil {
		s.ok("%s", says)
		return c
	}
	s.fact("kind", err.Kind)
	if err.Code != 0 {
		s.fact("code", err.Code)
		s.fact("code_of", err.CodeOf)
	}
	code := connectCode(err)
	switch {
	case code == "connect_auth" && !x.Spec.HTTP():
		code = "socks_rejected"
	case code == "connect_407" && x.Spec.Auth == nil:
		code = "offers_no_auth"
	}
	policy := err.Kind == connmodel.KindDenied || err.Blame == connmodel.BlameTarget
	switch {
	case policy && !x.Asked && code != "connect_407": // nobody asked for this target: it may well be forbidden, or down
		s.warn(code, "%s: %s", x.Target, err.Error())
	default:
		s.fail(code, "%s: %s", x.Target, err.Error())
	}
	if !x.Asked && policy {
		s.Try += " Say another target with --target HOST:PORT."
	}
	return nil
}

// connectCode names a refusal by what the proxy said, else by its kind.
func connectCode(err *connmodel.ConnError) string {
	var a *auth.Error
	if errors.As(err, &a) {
		switch a.Kind {
		case auth.Rejected:
			return "connect_rejected"
		case auth.Closed:
			return "credential_closed"
		case auth.Waiting:
			return "credential_waiting"
		case auth.NotStored:
			return "credential_not_stored"
		}
		return "connect_auth"
	}
	if err.CodeOf == "http" || err.CodeOf == "socks5" || err.CodeOf == "socks4" {
		code := "connect_" + strconv.Itoa(err.Code)
		if err.CodeOf != "http" {
			code = err.CodeOf + "_" + strconv.Itoa(err.Code)
		}
		if _, known := sentences[code]; known {
			return code
		}
	}
	return "connect_" + string(err.Kind)
}
