package forward

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// prepare makes the request as it is sent on: what was meant for us is taken out before anything of ours is put in.
func (x *exchange) prepare() *connmodel.ConnError {
	req := x.p.Req
	if x.loops() {
		return &connmodel.ConnError{
			Phase: connmodel.PhaseRequest, Side: connmodel.SideViaduct, Kind: connmodel.KindProtocol, Code: 508, CodeOf: "http",
			Message: "loop: the request has been through this gateway before (Via)", Blame: connmodel.BlameClient,
		}
	}
	x.out = *req
	h := &x.out.Header
	h.StripHopByHop()
	if err := x.maxForwards(h); err != nil {
		return err
	}
	x.edit(h)
	if minor := req.Minor & 1; x.p.HTTP2 {
		x.addVia(h, 2)
	} else {
		x.addVia(h, minor)
	}
	x.out.KeepAlive = true
	if !req.Expect100 { // RFC 9110, section 10.1.1: it means nothing without a body, nor from an HTTP/1.0 client
		h.Del("Expect")
	}
	req.Header = x.out.Header // one slice: what was removed is gone from both
	return nil
}

// loops reports whether the request has been here before (RFC 9110, section 7.6.3).
func (x *exchange) loops() bool { return x.p.Via != "" && x.p.Req.Header.ViaContains(x.p.Via) }

// addVia says that we have forwarded the message (RFC 9110, section 7.6.3).
func (x *exchange) addVia(h *http1.Header, minor uint8) {
	if x.viaName != "" {
		h.Add("Via", x.via[min(minor, 2)])
	}
}

// maxForwards counts TRACE and OPTIONS down (RFC 9110, section 7.6.2). At 0 we are the final recipient: see options; TRACE, which would
// show the client its own credentials, is refused.
func (x *exchange) maxForwards(h *http1.Header) *connmodel.ConnError {
	if m := x.p.Req.Method; m != "TRACE" && m != "OPTIONS" {
		return nil
	}
	n, ok := h.MaxForwards()
	if !ok {
		return nil
	}
	if n == 0 {
		return &connmodel.ConnError{
			Phase: connmodel.PhaseRequest, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Code: 501, CodeOf: "http",
			Message: "Max-Forwards is 0, and this gateway does not answer " + x.p.Req.Method + " itself", Blame: connmodel.BlameClient,
		}
	}
	h.Set("Max-Forwards", strconv.Itoa(n-1))
	return nil
}

// lastRecipient reports whether the request is an OPTIONS that goes no further than here.
func (x *exchange) lastRecipient() bool {
	if x.p.Req.Method != "OPTIONS" || x.loops() {
		return false
	}
	n, ok := x.p.Req.Header.MaxForwards()
	return ok && n == 0
}

// answerTime is how long a client may take to read an answer of ours that fits into one segment.
const answerTime = 10 * time.Second

// options answers such a request: that we are here is all there is to say (RFC 9110, sections 7.6.2 and 9.3.7).
func (x *exchange) options() Result {
	p, keep := x.p, x.keepClient()
	r := http1.Response{Status: 200, Reason: "OK", Minor: 1, Body: http1.Framing{Kind: http1.BodyLength}, KeepAlive: keep}
	head, err := http1.AppendResponse(x.respRoom[:0], &r, p.Req.Minor)
	if err != nil {
		return Result{Err: internal("the answer cannot be written: " + err.Error())}
	}
	x.respRoom = head
	p.Rec.Replied(200, false)
	p.Client.SetWriteDeadline(time.Now().Add(answerTime))
	if _, err := p.Client.Write(head); err != nil {
		return Result{Responded: true, Err: x.clientFault(err)}
	}
	p.Client.SetWriteDeadline(time.Time{})
	return Result{Responded: true, KeepClient: keep}
}

// edit applies the rule's header edits. Fields that frame or route the message are not the policy's to write.
func (x *exchange) edit(h *http1.Header) {
	d := x.p.Decision
	if d == nil {
		return
	}
	for _, name := range d.RemoveHeaders {
		if Editable(name) {
			h.Del(name)
		}
	}
	for _, e := range d.SetHeaders {
		if Editable(e.Name) {
			h.Set(e.Name, e.Value)
		}
	}
}

// Editable reports whether a policy may set or remove a field of that name.
func Editable(name string) bool {
	switch strings.ToLower(name) {
	case "host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade",
		"proxy-authorization", "proxy-authenticate", "proxy-authentication-info", "via", "expect", "max-forwards", "http2-settings":
		return false
	}
	return http1.IsToken(name)
}

// requestHead writes the request head for x.srv: absolute-form and credentials to a proxy, origin-form to a server.
func (x *exchange) requestHead() ([]byte, error) {
	form := http1.OriginForm
	if x.srv.Absolute {
		form = http1.AbsoluteForm
	}
	if connectionBound(x.out.Header, "Authorization") {
		x.srv.bound = true
	}
	head, err := http1.AppendRequest(x.reqRoom[:0], &x.out, form)
	if err != nil {
		return nil, err
	}
	if err == nil && x.srv.Absolute && x.srv.Login != nil {
		name, value, no := x.srv.Login.Authorize(x.out.Method, target(head))
		if no != nil {
			return nil, no
		}
		if name != "" {
			// Into the bytes and not into the header: it must not be there for a server that a second try may reach.
			head, err = http1.AppendField(head[:len(head)-2], name, value)
			head = append(head, "\r\n"...)
		}
	}
	x.reqRoom = head
	return head, err
}

// target returns the request-target of a head that we wrote.
func target(head []byte) string {
	_, rest, _ := bytes.Cut(head, []byte(" "))
	uri, _, _ := bytes.Cut(rest, []byte(" "))
	return string(uri)
}

// connectionBound reports whether a message carries a login that belongs to the connection rather than to the request (NTLM, and
// Negotiate as it is used): sharing such a connection would lend one client's identity to another.
func connectionBound(h http1.Header, field string) bool {
	for i := range h {
		if len(h[i].Name) != len(field) || !strings.EqualFold(h[i].Name, field) {
			continue
		}
		for rest := h[i].Value; rest != ""; { // one line may hold several challenges
			var one string
			one, rest, _ = strings.Cut(rest, ",")
			scheme, _, _ := strings.Cut(strings.TrimLeft(one, " \t"), " ")
			if strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Negotiate") {
				return true
			}
		}
	}
	return false
}
