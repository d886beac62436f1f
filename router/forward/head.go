package forward

import (
	"strconv"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// prepare makes the request as it is sent on: what was meant for us is taken out before anything of ours is put in.
func (x *exchange) prepare() *connmodel.ConnError {
	req := x.p.Req
	if x.p.Via != "" && req.Header.ViaContains(x.p.Via) {
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
	if x.p.Via != "" {
		h.Add("Via", viaValue(req.Minor, x.p.Via))
	}
	x.out.KeepAlive = true
	if x.out.Upgrade == "" && req.Expect100 && !req.Body.HasBody() {
		h.Del("Expect")
	}
	req.Header = x.out.Header // one slice: what was removed is gone from both
	return nil
}

func viaValue(minor uint8, name string) string { return "1." + strconv.Itoa(int(minor)) + " " + name }

// maxForwards counts TRACE and OPTIONS down (RFC 9110, section 7.6.2). At 0 we are the final recipient, which we are not
// willing to be for them.
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
		"proxy-authorization", "proxy-authenticate", "via", "expect", "max-forwards", "http2-settings":
		return false
	}
	return http1.IsToken(name)
}

// head writes the request head for x.srv: absolute-form and credentials to a proxy, origin-form to a server.
func (x *exchange) head() ([]byte, error) {
	out := x.out
	form := http1.OriginForm
	if x.srv.Absolute {
		form = http1.AbsoluteForm
		if x.srv.ProxyAuthorization != "" {
			// A copy: the field must not be there for a server that a second try may reach.
			h := make(http1.Header, 0, len(out.Header)+1)
			out.Header = append(append(h, out.Header...), http1.Field{Name: "Proxy-Authorization", Value: x.srv.ProxyAuthorization})
		}
	}
	if connectionBound(x.out.Header, "Authorization") {
		x.srv.bound = true
	}
	return http1.AppendRequest(make([]byte, 0, 1024), &out, form)
}
