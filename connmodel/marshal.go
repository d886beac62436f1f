package connmodel

// Each type of a record has a JSON form of its own, the one it has inside a Flow. AppendJSON appends it and does not
// allocate when dst has room; MarshalJSON is the same for encoding/json.

// MarshalJSON implements json.Marshaler.
func (f Flow) MarshalJSON() ([]byte, error) { return f.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of c.
func (c *Client) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.client(c) })
}

// MarshalJSON implements json.Marshaler.
func (c Client) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of s.
func (s *Server) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.server(s) })
}

// MarshalJSON implements json.Marshaler.
func (s Server) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of a.
func (a *Attempt) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.attempt(a) })
}

// MarshalJSON implements json.Marshaler.
func (a Attempt) MarshalJSON() ([]byte, error) { return a.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of h.
func (h *HopResult) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.hop(h) })
}

// MarshalJSON implements json.Marshaler.
func (h HopResult) MarshalJSON() ([]byte, error) { return h.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of t.
func (t *TLSInfo) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.tlsInfo(t) })
}

// MarshalJSON implements json.Marshaler.
func (t TLSInfo) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of c.
func (c *Certificate) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.certificate(c) })
}

// MarshalJSON implements json.Marshaler.
func (c Certificate) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of e.
func (e *ConnError) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.error(e) })
}

// MarshalJSON implements json.Marshaler.
func (e ConnError) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of d.
func (d *Decision) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.decision(d) })
}

// MarshalJSON implements json.Marshaler.
func (d Decision) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of q.
func (q *Request) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.request(q) })
}

// MarshalJSON implements json.Marshaler.
func (q Request) MarshalJSON() ([]byte, error) { return q.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of p.
func (p *Response) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.response(p) })
}

// MarshalJSON implements json.Marshaler.
func (p Response) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of p.
func (p *Reply) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.reply(p) })
}

// MarshalJSON implements json.Marshaler.
func (p Reply) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// AppendJSON appends the JSON form of e.
func (e *Event) AppendJSON(dst []byte) []byte {
	return encode(dst, func(enc *encoder) { enc.event(e) })
}

// MarshalJSON implements json.Marshaler.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }
