package upstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

// misbehaviour is one thing a proxy does, and what must be made of it.
type misbehaviour struct {
	scheme string
	does   ut.Behaviour
	phase  connmodel.Phase
	kind   connmodel.Kind
	blame  connmodel.Blame
	code   int
	says   string // part of the message
}

// at is where the fault is looked for: with the server behind the proxy, side and blame tell them apart.
var misbehaviours = []misbehaviour{
	{"http", ut.Status(407, "no"), connmodel.PhaseConnect, connmodel.KindAuth, connmodel.BlameProxy, 407, "rejected our credentials"},
	{"http", ut.Status(403, "no"), connmodel.PhaseConnect, connmodel.KindDenied, connmodel.BlameTarget, 403, "rules do not allow"},
	{"http", ut.Status(502, "no"), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 502, "could not reach"},
	{"http", ut.Status(503, "no"), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 503, "could not reach"},
	{"http", ut.Status(504, "no"), connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameTarget, 504, "could not reach"},
	{"http", ut.Status(302, "", "Location: http://login.example/"), connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 302, "login page"},
	{"http", ut.Status(418, ""), connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 418, "no answer to CONNECT"},
	{"http", ut.Junk, connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 0, "does not speak http"},
	{"http", ut.WrongVersion, connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 0, "does not speak http"},
	{"http", ut.HalfReply, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "in the middle of its answer"},
	{"http", ut.HugeHead(100_000), connmodel.PhaseConnect, connmodel.KindLimit, connmodel.BlameProxy, 0, "longer than we read"},
	{"http", ut.EndlessHead, connmodel.PhaseConnect, connmodel.KindLimit, connmodel.BlameProxy, 0, "longer than we read"},
	{"http", ut.Silence, connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameProxy, 0, "did not answer in time"},
	{"http", ut.SilenceAfterRequest, connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameProxy, 0, "did not answer in time"},
	{"http", ut.CloseAfterRequest, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "instead of answering"},
	{"http", ut.CloseAtOnce, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "instead of answering"},
	{"http", ut.ResetAfterRequest, connmodel.PhaseConnect, connmodel.KindReset, connmodel.BlameProxy, 0, "reset the connection"},
	{"https", ut.Status(407, "no"), connmodel.PhaseConnect, connmodel.KindAuth, connmodel.BlameProxy, 407, "rejected our credentials"},
	{"https", ut.SilenceAfterRequest, connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameProxy, 0, "did not answer in time"},
	{"https", ut.CloseAfterRequest, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "instead of answering"},

	{"socks5", ut.SOCKSReply(1), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 1, "general SOCKS server failure"},
	{"socks5", ut.SOCKSReply(2), connmodel.PhaseConnect, connmodel.KindDenied, connmodel.BlameTarget, 2, "not allowed by ruleset"},
	{"socks5", ut.SOCKSReply(3), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 3, "network unreachable"},
	{"socks5", ut.SOCKSReply(4), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 4, "host unreachable"},
	{"socks5", ut.SOCKSReply(5), connmodel.PhaseConnect, connmodel.KindRefused, connmodel.BlameTarget, 5, "connection refused"},
	{"socks5", ut.SOCKSReply(6), connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameTarget, 6, "TTL expired"},
	{"socks5h", ut.SOCKSReply(7), connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 7, "command not supported"},
	{"socks5h", ut.SOCKSReply(8), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 8, "address type"},
	{"socks5h", ut.SOCKSReply(99), connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 99, "0x63"},
	{"socks5h", ut.MethodReply(5, 0xff), connmodel.PhaseGreeting, connmodel.KindAuth, connmodel.BlameProxy, 0, "none of the ways"},
	{"socks5h", ut.MethodReply(5, 1), connmodel.PhaseGreeting, connmodel.KindProtocol, connmodel.BlameProxy, 0, "not offered"},
	{"socks5h", ut.WrongVersion, connmodel.PhaseGreeting, connmodel.KindProtocol, connmodel.BlameProxy, 0, "SOCKS4"},
	{"socks5h", ut.AuthReply(1, 1), connmodel.PhaseAuth, connmodel.KindAuth, connmodel.BlameProxy, 0, "rejected the user name or password"},
	{"socks5h", ut.Silence, connmodel.PhaseGreeting, connmodel.KindTimeout, connmodel.BlameProxy, 0, "during the SOCKS greeting"},
	{"socks5h", ut.SilenceAfterRequest, connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameProxy, 0, "asked to connect"},
	{"socks5h", ut.HalfReply, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "in the middle of its answer"},
	{"socks5h", ut.CloseAtOnce, connmodel.PhaseGreeting, connmodel.KindEOF, connmodel.BlameProxy, 0, "during the SOCKS greeting"},
	{"socks5h", ut.CloseAfterRequest, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "instead of answering"},
	{"socks5h", ut.ResetAfterRequest, connmodel.PhaseConnect, connmodel.KindReset, connmodel.BlameProxy, 0, "reset the connection"},

	{"socks4a", ut.SOCKSReply(91), connmodel.PhaseConnect, connmodel.KindUnreachable, connmodel.BlameTarget, 91, "rejected or failed"},
	{"socks4", ut.SOCKSReply(93), connmodel.PhaseConnect, connmodel.KindAuth, connmodel.BlameProxy, 93, "another user"},
	{"socks4", ut.WrongVersion, connmodel.PhaseConnect, connmodel.KindProtocol, connmodel.BlameProxy, 0, "SOCKS5"},
	{"socks4", ut.HalfReply, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "in the middle of its answer"},
	{"socks4", ut.Silence, connmodel.PhaseConnect, connmodel.KindTimeout, connmodel.BlameProxy, 0, "did not answer in time"},
	{"socks4", ut.CloseAfterRequest, connmodel.PhaseConnect, connmodel.KindEOF, connmodel.BlameProxy, 0, "instead of answering"},
}

// TestMisbehaviour has each fault as the only hop and as the second of three, and looks whom it is blamed on.
func TestMisbehaviour(t *testing.T) {
	ca := ut.MustCA(t)
	origin := ut.NewOrigin(t, ut.Echo, ut.Options{})
	to := addr(t, origin.Addr())
	for _, m := range misbehaviours {
		for _, place := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%s/hop %d", m.scheme, m.does.Name, place), func(t *testing.T) {
				t.Parallel()
				o := ut.Options{Script: []ut.Behaviour{m.does}, User: "user", Password: "canary-password"}
				if strings.HasPrefix(m.scheme, "socks4") {
					o.Password = ""
				}
				_, bad := startProxy(t, ca, "bad", m.scheme, o)
				if m.kind == connmodel.KindTimeout && m.code == 0 { // it is silent: nobody wants to wait for that
					bad.Timeouts.Handshake = 150 * time.Millisecond
				}
				_, good := startProxy(t, ca, "good", "http", ut.Options{})
				_, last := startProxy(t, ca, "last", "socks5h", ut.Options{})
				chain := []string{"upstream.bad"}
				if place == 2 {
					chain = []string{"upstream.good", "upstream.bad", "upstream.last"}
				}
				tab := table(t, Config{Upstreams: []Spec{bad, good, last}, Chains: []ChainSpec{{"c", chain}}})
				r := recorder(to)
				c, err := tab.Dial(t.Context(), &Request{Route: "chain.c", Target: to}, r)
				if err == nil {
					c.Close()
					t.Fatal("connected")
				}
				m.check(t, err, place)
				at := r.Snapshot().Server.Attempts
				if len(at) != 1 || at[0].Error != err {
					t.Fatalf("attempts in the record: %+v", at)
				}
				guilty := guiltyElement(err, len(chain))
				if len(at[0].Hops) < guilty {
					t.Errorf("the record has %d elements, the guilty one is %d", len(at[0].Hops), guilty)
				}
				for i, h := range at[0].Hops {
					if (h.Error != nil) != (i+1 == guilty) || h.Total <= 0 {
						t.Errorf("element %d has error %v and took %v", i+1, h.Error, h.Total)
					}
				}
				if text := fmt.Sprintf("%v %+v %#v %v %#v", err, err, err, err.Cause, r.Snapshot()); strings.Contains(text, "canary") {
					t.Errorf("the password is in %s", text)
				}
			})
		}
	}
}

func guiltyElement(err *connmodel.ConnError, hops int) int {
	if err.Side == connmodel.SideServer {
		return hops + 1
	}
	return err.Hop
}

func (m *misbehaviour) check(t *testing.T, err *connmodel.ConnError, place int) {
	t.Helper()
	side, hop, name, blame := connmodel.SideHop, place, "bad", m.blame
	switch {
	case m.blame == connmodel.BlameTarget && m.kind != connmodel.KindDenied && place == 2:
		hop, name, blame = 3, "last", connmodel.BlameProxy // what could not be reached is the next proxy
	case m.blame == connmodel.BlameTarget && m.kind != connmodel.KindDenied:
		side = connmodel.SideServer
	case m.kind == connmodel.KindDenied && place == 2:
		blame = connmodel.BlameProxy // proxies that do not let each other in are no good chain
	}
	if err.Side != side || err.Hop != hop || err.HopName != name || err.Blame != blame {
		t.Errorf("side %s hop %d (%s) blame %q, want %s %d (%s) %q: %v", err.Side, err.Hop, err.HopName, err.Blame, side, hop, name, blame, err)
	}
	if err.Phase != m.phase || err.Kind != m.kind || err.Code != m.code || (err.CodeOf != "") != (m.code != 0) {
		t.Errorf("phase %s kind %s code %d of %q, want %s %s %d: %v", err.Phase, err.Kind, err.Code, err.CodeOf, m.phase, m.kind, m.code, err)
	}
	if !strings.Contains(err.Message, m.says) {
		t.Errorf("message %q does not say %q", err.Message, m.says)
	}
}
