package connmodel

// decode reads b into the wire type W and sets *to to what value makes of it.
func decode[W, T any](b []byte, to *T, value func(*W) (*T, error)) error {
	w := new(W)
	if err := strict(b, w); err != nil {
		return err
	}
	v, err := value(w)
	if err != nil {
		return err
	}
	*to = *v
	return nil
}

// sure makes a conversion that cannot fail one that could.
func sure[W, T any](f func(*W) *T) func(*W) (*T, error) {
	return func(w *W) (*T, error) { return f(w), nil }
}

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (f *Flow) UnmarshalJSON(b []byte) error { return decode(b, f, (*wireFlow).value) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (c *Client) UnmarshalJSON(b []byte) error { return decode(b, c, (*wireClient).value) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (s *Server) UnmarshalJSON(b []byte) error { return decode(b, s, (*wireServer).value) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (a *Attempt) UnmarshalJSON(b []byte) error { return decode(b, a, (*wireAttempt).value) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (h *HopResult) UnmarshalJSON(b []byte) error { return decode(b, h, (*wireHop).value) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (t *TLSInfo) UnmarshalJSON(b []byte) error { return decode(b, t, sure((*wireTLSFacts).info)) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (c *Certificate) UnmarshalJSON(b []byte) error {
	return decode(b, c, func(w *wireCertificate) (*Certificate, error) {
		v := w.value()
		return &v, nil
	})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (e *ConnError) UnmarshalJSON(b []byte) error { return decode(b, e, sure((*wireError).value)) }

// UnmarshalJSON implements json.Unmarshaler; it reads the summary that a record holds. Unknown keys are an error.
func (d *Decision) UnmarshalJSON(b []byte) error { return decode(b, d, sure((*wireDecision).value)) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (q *Request) UnmarshalJSON(b []byte) error { return decode(b, q, sure((*wireRequest).value)) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (p *Response) UnmarshalJSON(b []byte) error { return decode(b, p, sure((*wireResponse).value)) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (p *Reply) UnmarshalJSON(b []byte) error { return decode(b, p, sure((*wireReply).value)) }

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are an error.
func (v *Event) UnmarshalJSON(b []byte) error {
	return decode(b, v, func(w *wireEvent) (*Event, error) {
		return &Event{Kind: w.Kind, Time: orZero(w.Time), Session: w.Session, Flow: w.Flow, Side: w.Side, Hop: w.Hop, Attempt: w.Attempt, Error: w.Error.value(), Certificate: w.Certificate.value()}, nil
	})
}
