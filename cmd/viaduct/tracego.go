package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/router"
	"viaduct/upstream"
	"viaduct/upstream/doctor"
	"viaduct/upstream/http1"
)

// traced is one way that was tried, and its JSON form.
type traced struct {
	Route   string  `json:"route"`
	Way     string  `json:"way"`     // hops by name, of the last attempt
	OfRule  bool    `json:"of_rule"` // it is what the policy decides, or a member of that
	Reached bool    `json:"reached"`
	Took    float64 `json:"took_ms"`
	Says    string  `json:"says"`
	Hop     int     `json:"failed_hop,omitempty"` // from 1; 0 = none, or the server
	HopName string  `json:"failed_hop_name,omitempty"`
	doctor.Advice
	Steps      []*traceStep    `json:"steps"`
	TLS        *sighting       `json:"tls,omitempty"`      // with the server, where trace made it in the client's place
	Response   *traceResponse  `json:"response,omitempty"` // to the request, where one was sent
	Connection *connmodel.Flow `json:"connection"`         // as a record has it
}

// traceStep is a part of reaching a hop.
type traceStep struct {
	Attempt  int    `json:"attempt"`
	Hop      int    `json:"hop"`                // from 1; the server comes behind the proxies
	Upstream string `json:"upstream,omitempty"` // "" = the server
	*doctor.Step
}

// traceResponse is what came back for a request.
type traceResponse struct {
	Method    string        `json:"method"`
	Status    int           `json:"status"`
	Reason    string        `json:"reason,omitempty"`
	Server    string        `json:"server,omitempty"`
	Via       string        `json:"via,omitempty"`
	Location  string        `json:"location,omitempty"`
	FirstByte float64       `json:"first_byte_ms"`
	Bytes     int64         `json:"body_bytes"`
	Cut       bool          `json:"body_cut,omitempty"`
	took      time.Duration // until the answer was read
}

// go1 makes the journey by one way.
func (j *journey) go1(ctx context.Context, w traceWay) *traced {
	a, start := &j.e.asked, time.Now()
	t := &traced{Route: w.route, Way: w.name(), OfRule: w.rule, Steps: []*traceStep{}}
	if in := j.e.Inside; in != nil && a.decision.TLS.Opens() {
		a = &in.asked
	}
	f, d := a.facts, j.q.edited(a.decision)
	session := connmodel.NewSession(connmodel.Accepted{Listener: f.Listener, Peer: f.Client, Time: start}, nil)
	defer session.Close()
	rec := session.NewFlow(f.Protocol, f.Target, start)
	rec.Identified(f.Protocol, f.User)
	rec.Decided(d, a.trace)
	if f.Hello != nil {
		rec.ClientHello(f.Hello)
	}
	g := &going{journey: j, w: w, t: t, rec: rec, by: start.Add(j.q.timeout)}
	g.follow()
	err := g.reach(ctx)
	end := connmodel.FlowEnd{Reason: connmodel.CloseDone}
	switch {
	case ctx.Err() != nil:
		end.Reason = connmodel.CloseAdmin
	case err != nil:
		rec.Fail(err)
		end.Reason = connmodel.CloseFailed
	case t.Response == nil:
		end.Reason, end.First = connmodel.CloseClient, connmodel.SideClient
	}
	if t.Response != nil {
		end.Down = t.Response.Bytes
	}
	t.Took = inMillis(time.Since(start))
	t.Connection = rec.Close(end)
	g.arrived()
	g.conclude(ctx, err)
	if j.out != nil {
		j.out.verdict(t)
	}
	return t
}

// inMillis is a duration for JSON, to the microsecond.
func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reach dials, and does at the far end what a client would.
func (g *going) reach(ctx context.Context) *connmodel.ConnError {
	if !g.ask {
		c, _, err := g.dial(ctx)
		if err == nil {
			c.Close()
		}
		return err
	}
	q, err := g.request()
	if err != nil {
		return &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideViaduct, Kind: connmodel.KindProtocol, Message: "the request cannot be written: " + err.Error(), Cause: err}
	}
	rest, cancel := context.WithDeadline(ctx, g.by)
	defer cancel()
	answer, no := g.try.Fetch(rest, g.rec, q, maxFetched, func() (*upstream.Conn, net.Conn, *connmodel.ConnError) { return g.dial(ctx) })
	if no != nil && no.Kind == connmodel.KindCanceled && ctx.Err() == nil {
		late := *no
		late.Side, late.Kind, late.Blame, late.Message = connmodel.SideServer, connmodel.KindTimeout, connmodel.BlameTarget, fmt.Sprintf("there was no answer in %s (--timeout)", g.q.timeout)
		no = &late
	}
	if answer.Status != 0 {
		g.t.Response = g.response(q.Method, &answer)
	}
	return no
}

// response is what is kept of an answer.
func (g *going) response(method string, a *router.Answer) *traceResponse {
	r := &traceResponse{Method: method, Status: a.Status, Bytes: a.Bytes, Cut: a.Cut, Reason: briefly(a.Reason), Server: briefly(a.Header.Get("Server")), Location: briefly(a.Header.Get("Location"))}
	var via []string
	for v := range a.Header.Values("Via") {
		if !strings.HasSuffix(v, " "+g.try.Name()) { // ours
			via = append(via, v)
		}
	}
	r.Via = briefly(strings.Join(via, ", "))
	if f := g.rec.Snapshot(); f.Request != nil && f.Response != nil {
		sent := f.Request.End
		if sent.IsZero() {
			sent = f.Request.Start
		}
		r.FirstByte, r.took = inMillis(f.Response.Start.Sub(sent)), f.Response.Start.Sub(sent)
	}
	return r
}

// briefly bounds what a peer says.
func briefly(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// dial goes the way, and makes TLS with the server where a client would.
func (g *going) dial(ctx context.Context) (*upstream.Conn, net.Conn, *connmodel.ConnError) {
	q := g.try.Request()
	q.Route, q.Pin, q.Watch, q.Choices = g.w.route, g.w.pins, g.heard, &g.e.asked.choices
	if g.q.all {
		q.Retry = &connmodel.Retry{Attempts: 1}
	}
	if g.by.Before(q.Deadline) {
		q.Deadline = g.by
	}
	c, err := g.x.table.Dial(ctx, q, g.rec)
	if err != nil || !g.journey.tls {
		return c, nil, err
	}
	within, err := g.secure(ctx, c)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, within, nil
}

// secure makes the handshake that the client would make, whatever the server shows, and judges that.
func (g *going) secure(ctx context.Context, c *upstream.Conn) (net.Conn, *connmodel.ConnError) {
	to := g.try.Server()
	p := &certPlan{target: to, asked: to.String(), name: g.sni, config: &tls.Config{}, trust: "the authorities that this machine trusts"}
	s := &sighting{Target: to.String(), Route: g.w.route, ServerName: g.sni, Trust: p.trust, Problems: []string{}}
	open := p.open()
	open.ServerName, open.NextProtos = g.sni, g.alpn
	conn := upstream.WithEarly(c.Conn, c.Early, c)
	conn.SetDeadline(g.by)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	start := time.Now()
	within := tls.Client(conn, open)
	err := within.Handshake()
	cs := within.ConnectionState()
	g.secured = time.Since(start)
	if err != nil {
		g.t.TLS = nil
		return nil, upstream.TLSFailure(to, err)
	}
	s.TLS = connmodel.NewTLSInfo(&cs, g.alpn, false)
	p.judge(s, &cs)
	g.rec.ServerTLSEstablished(s.TLS)
	g.t.TLS = s
	if !stop() {
		return nil, &connmodel.ConnError{Phase: connmodel.PhaseTLS, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled, Message: "given up", Cause: ctx.Err()}
	}
	conn.SetDeadline(time.Time{})
	return within, nil
}

// request is the one that is sent.
func (g *going) request() (*http1.Request, error) {
	f := g.e.asked.facts
	facts, scheme := f.Request, "http"
	if facts == nil {
		facts, scheme = g.q.inside, "https"
	}
	host := f.Target.String()
	if port := map[string]uint16{"http": 80, "https": 443}[scheme]; f.Target.Port == port {
		host = strings.TrimSuffix(host, fmt.Sprintf(":%d", port))
	}
	target := facts.Path
	if scheme == "http" {
		target = "http://" + host + target
	}
	h := http1.Header{{Name: "Host", Value: host}}
	if given, _ := headerFields(g.q.headers); given != nil {
		for _, x := range given {
			if !strings.EqualFold(x[0], "Host") {
				h.Add(x[0], x[1])
			}
		}
	}
	if !h.Has("User-Agent") {
		h.Add("User-Agent", "viaduct-trace/"+buildVersion().Version)
	}
	if !h.Has("Accept") {
		h.Add("Accept", "*/*")
	}
	head, err := http1.AppendHeader([]byte(facts.Method+" "+target+" HTTP/1.1\r\n"), h)
	if err != nil {
		return nil, err
	}
	q := new(http1.Request)
	if _, err := http1.ParseRequest(append(bytes.Clone(head), "\r\n"...), q, http1.Limits{}); err != nil {
		return nil, err
	}
	g.rec.Requested(connmodel.Request{Method: facts.Method, Scheme: scheme, Host: f.Target.Host, Path: facts.Path})
	return q, nil
}

// conclude says what came of it.
func (g *going) conclude(ctx context.Context, err *connmodel.ConnError) {
	t, to := g.t, g.try.Server().String()
	if s := t.Connection.Server; s != nil && len(s.Attempts) > 0 {
		t.Way = s.Attempts[len(s.Attempts)-1].Route
	}
	by := "directly"
	if t.Way != connmodel.RouteDirect {
		by = "through " + t.Way
	}
	switch {
	case ctx.Err() != nil:
		t.Says = "interrupted on the way to " + to
	case err != nil:
		t.Says = "not reached: " + err.Error()
		if err.Side == connmodel.SideHop || err.Hop > 0 {
			t.Hop, t.HopName = err.Hop, err.HopName
		}
		t.Advice = g.advice(err)
	default:
		t.Reached = true
		t.Says = fmt.Sprintf("reached %s %s", to, by)
		if r := t.Response; r != nil {
			t.Says += fmt.Sprintf(": %s %s", "HTTP "+fmt.Sprint(r.Status), shown(orStatus(r.Reason, r.Status)))
			g.answered(r)
		}
		if s := t.TLS; s != nil && !s.Accepted {
			t.Says += "; its certificate would NOT be accepted by this machine (" + string(s.Verdict) + ")"
			t.Advice = doctor.CertificateAdvice(s.Verdict, len(t.Connection.Server.Attempts) > 0 && t.Way != connmodel.RouteDirect, to)
		}
	}
}

// orStatus is the reason, or the usual one.
func orStatus(reason string, status int) string {
	if reason == "" {
		return http.StatusText(status)
	}
	return reason
}

// answered says of a status that it is hardly the server's word.
func (g *going) answered(r *traceResponse) {
	if r.Status == 407 || r.Status == 502 || r.Status == 503 || r.Status == 504 {
		if g.t.Way != connmodel.RouteDirect {
			g.t.Says += ", which may be the word of a proxy on the way as well as the server's"
		}
	}
}

// advice is what a failure means.
func (g *going) advice(err *connmodel.ConnError) doctor.Advice {
	at := doctor.Scene{Address: g.try.Server().String(), Target: g.try.Server().String(), Through: g.t.Way != connmodel.RouteDirect, Timeout: g.q.timeout.String()}
	if err.HopName != "" {
		at.Upstream = err.HopName
		if s := g.spec(err.HopName); s != nil {
			at.Scheme, at.Address, at.Login = s.Scheme, s.Address.String(), s.Auth != nil
		}
	}
	x := doctor.Advise(err, at)
	if g.mute != "" && err.Kind == connmodel.KindAuth && g.hadLogin[err.HopName] {
		x = doctor.MutedAdvice(shown(g.mute))
	}
	return x
}
