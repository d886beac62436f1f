package forward

import (
	"fmt"
	"strings"
	"testing"

	"viaduct/connmodel"
)

// TestRequestHead shows a client's head and what the next one gets of it.
func TestRequestHead(t *testing.T) {
	proxy := func(s *Server) {
		s.Absolute, s.Login, s.Hop, s.HopName = true, showing("Basic aG9wOnNlY3JldA=="), 1, "corp"
	}
	edits := func(p *Params) {
		p.Decision = &connmodel.Decision{
			RemoveHeaders: []string{"cookie", "host", "Content-Length", "Via"},
			SetHeaders: []connmodel.HeaderEdit{
				{Name: "X-Site", Value: "berlin"}, {Name: "User-Agent", Value: "gw"},
				{Name: "Transfer-Encoding", Value: "chunked"}, {Name: "Connection", Value: "close"}, {Name: "Proxy-Authorization", Value: "Basic x"},
			},
		}
	}
	for _, tt := range []struct {
		name, head, want string
		params           func(*Params)
		server           func(*Server)
	}{
		{name: "origin form, Host from the target",
			head: "GET http://a.test/x?y=1 HTTP/1.1\r\nHost: other.test\r\nAccept: */*\r\n\r\n",
			want: "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "hop-by-hop fields end here",
			head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-Mine, Authorization, Host\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\n" +
				"Proxy-Authorization: Basic dTpw\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nAuthorization: Bearer z\r\nTE: gzip, trailers\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer z\r\nTE: trailers\r\nVia: 1.1 gw\r\nConnection: TE\r\n\r\n"},
		{name: "Via grows", head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 x, 1.1 gw2\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 x, 1.1 gw2\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "1.0 becomes 1.1", head: "GET http://a.test/ HTTP/1.0\r\nExpect: 100-continue\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 gw\r\n\r\n"},
		{name: "nothing expected without a body", head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "the proxy's own credentials", server: proxy,
			head: "GET http://a.test:81/p HTTP/1.1\r\nHost: a.test:81\r\nProxy-Authorization: Basic Y2xpZW50OnB3\r\nAccept: a\r\n\r\n",
			want: "GET http://a.test:81/p HTTP/1.1\r\nHost: a.test:81\r\nAccept: a\r\nVia: 1.1 gw\r\nProxy-Authorization: Basic aG9wOnNlY3JldA==\r\n\r\n"},
		{name: "edits", params: edits,
			head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nCookie: a=b\r\nUser-Agent: curl\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: gw\r\nX-Site: berlin\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "no name, no Via", params: func(p *Params) { p.Via = "" },
			head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", want: "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		{name: "Max-Forwards counts down", head: "TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 3\r\n\r\n",
			want: "TRACE / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 2\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "Max-Forwards is for TRACE and OPTIONS", head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "OPTIONS for the server", head: "OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
			want: "OPTIONS * HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n"},
		{name: "OPTIONS through a proxy", server: proxy, head: "OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
			want: "OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\nProxy-Authorization: Basic aG9wOnNlY3JldA==\r\n\r\n"},
		{name: "upgrade", head: "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: a.test\r\nSec-WebSocket-Version: 13\r\nVia: 1.1 gw\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heads := make(chan string, 2)
			r := newRig(t, func(o *peer, _ int) {
				heads <- o.head()
				o.say("HTTP/1.1 204 No Content\r\n\r\n")
				o.rest()
			}, withParams(tt.params), withServer(tt.server))
			r.client.say(tt.head)
			if got := <-heads; got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if res := r.result(); res.Err != nil || !res.KeepServer {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	down := func(int) *connmodel.ConnError {
		return &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideServer, Kind: connmodel.KindRefused, Message: "nobody there", Blame: connmodel.BlameTarget}
	}
	const post = "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"
	for _, tt := range []struct {
		name, request string
		dial          func(int) *connmodel.ConnError
		side          connmodel.Side
		kind          connmodel.Kind
		phase         connmodel.Phase
		code          int
		keep          bool
	}{
		{"loop", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Via\r\nVia: 1.1 x, 1.1 GW (me)\r\n\r\n", nil,
			connmodel.SideViaduct, connmodel.KindProtocol, connmodel.PhaseRequest, 508, true},
		{"Max-Forwards 0", "TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n", nil,
			connmodel.SideClient, connmodel.KindProtocol, connmodel.PhaseRequest, 501, true},
		{"dial", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", down, connmodel.SideServer, connmodel.KindRefused, connmodel.PhaseDial, 0, true},
		{"dial, body here", post + "Content-Length: 3\r\n\r\nabc", down, connmodel.SideServer, connmodel.KindRefused, connmodel.PhaseDial, 0, true},
		{"dial, body elsewhere", post + "Content-Length: 4000\r\n\r\nabc", down, connmodel.SideServer, connmodel.KindRefused, connmodel.PhaseDial, 0, false},
		{"dial, chunked", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", down, connmodel.SideServer, connmodel.KindRefused, connmodel.PhaseDial, 0, false},
		{"dial, last request", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", down, connmodel.SideServer, connmodel.KindRefused, connmodel.PhaseDial, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *peer, _ int) { t.Errorf("the server got %q", o.head()) })
			r.dialErr = tt.dial
			// The one behind it is refused, too: what matters is that it is seen as a request, or not at all.
			r.client.say(tt.request + "GET http://a.test/second HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n")
			res := r.result()
			hasFault(t, res, tt.side, tt.kind, tt.phase)
			if res.Err != nil && res.Err.Code != tt.code {
				t.Errorf("code %d, want %d", res.Err.Code, tt.code)
			}
			if res.KeepClient != tt.keep || res.Responded {
				t.Errorf("result %+v, want keep %v", res, tt.keep)
			}
			if tt.keep {
				if res := r.result(); res.Err == nil || res.Err.Code != 508 {
					t.Errorf("the second request: %v, want a loop", res.Err)
				}
				return
			}
			all, _ := r.client.rest()
			if n := strings.Count(all, "HTTP/1.1 "); n != 1 || !strings.Contains(all, "Connection: close") {
				t.Errorf("%d answers: %q", n, all)
			}
		})
	}
}

// TestOptionsForUs: with Max-Forwards 0 we are asked, and nobody else.
func TestOptionsForUs(t *testing.T) {
	const line, more = "OPTIONS http://a.test/ HTTP/1.", "\r\nHost: a.test\r\nMax-Forwards: 0\r\n"
	for _, tt := range []struct {
		name, request, want string
		keep                bool
	}{
		{"bare", line + "1" + more + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		{"body here", line + "1" + more + "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		{"body elsewhere", line + "1" + more + "Content-Length: 300\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false},
		{"1.0", line + "0" + more + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(o *peer, _ int) { t.Errorf("the server got %q", o.head()) })
			r.client.say("%s", tt.request)
			r.client.want(tt.want)
			if res := r.result(); res.Err != nil || !res.Responded || res.KeepClient != tt.keep || res.Server != nil {
				t.Errorf("result %+v", res)
			}
			if f := r.record(); f.Reply == nil || f.Reply.Code != 200 {
				t.Errorf("reply %+v", f.Reply)
			}
			if !tt.keep {
				r.client.ends()
				return
			}
			r.client.say("GET http://a.test/second HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 gw\r\n\r\n")
			if res := r.result(); res.Err == nil || res.Err.Code != 508 {
				t.Errorf("the second request: %v, want a loop", res.Err)
			}
		})
	}
}

func TestEditable(t *testing.T) {
	for _, name := range []string{"Host", "content-length", "Transfer-Encoding", "CONNECTION", "Upgrade", "Via", "Proxy-Authorization", "Expect", "", "a b", "x:y"} {
		if Editable(name) {
			t.Errorf("%q can be edited", name)
		}
	}
	for _, name := range []string{"Cookie", "Authorization", "X-Forwarded-For", "User-Agent"} {
		if !Editable(name) {
			t.Errorf("%q cannot be edited", name)
		}
	}
}

// TestDamagedEdit: a value that would make two lines of one never gets on the wire, and the server is not even spoken to.
func TestDamagedEdit(t *testing.T) {
	r := newRig(t, func(o *peer, _ int) {
		if s, _ := o.rest(); s != "" {
			t.Errorf("the server got %q", s)
		}
	}, withParams(func(p *Params) {
		p.Decision = &connmodel.Decision{SetHeaders: []connmodel.HeaderEdit{{Name: "X", Value: "a\r\nEvil: 1"}}}
	}))
	fmt.Fprint(r.client.Conn, get("/"))
	hasFault(t, r.result(), connmodel.SideViaduct, connmodel.KindInternal, connmodel.PhaseRequest)
}
