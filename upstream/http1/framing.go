package http1

// Kind says how the end of a body is told.
type Kind uint8

const (
	BodyNone    Kind = iota // there is no body
	BodyLength              // a known number of bytes
	BodyChunked             // the chunked coding, trailers at its end
	BodyClose               // all there is until the connection ends; responses only
)

func (k Kind) String() string { return [...]string{"none", "length", "chunked", "close"}[k&3] }

// Framing is how a body is delimited (RFC 9112 6.3), computed once.
type Framing struct {
	Kind   Kind
	Length int64 // bytes, BodyLength only
}

// HasBody reports whether bytes of content can follow the head.
func (f Framing) HasBody() bool {
	return f.Kind == BodyChunked || f.Kind == BodyClose || f.Kind == BodyLength && f.Length > 0
}

// request is RFC 9112 6.3 for a request.
func (x *facts) request(method string, minor uint8) (Framing, *Error) {
	switch {
	case x.codings > 0 && x.lengths > 0:
		return Framing{}, errLengthAndTE // RFC 9112 6.1: a server may reject it
	case x.codings > 0:
		if err := x.chunked(minor); err != nil {
			return Framing{}, err
		}
		if method == "CONNECT" {
			return Framing{}, errConnectBody
		}
		return Framing{Kind: BodyChunked}, nil
	case x.lengths > 0:
		n, err := x.contentLength()
		if err != nil {
			return Framing{}, err
		}
		if method == "CONNECT" { // RFC 9110 9.3.6: what follows is the tunnel
			if n != 0 {
				return Framing{}, errConnectBody
			}
			return Framing{}, nil
		}
		return Framing{Kind: BodyLength, Length: n}, nil
	}
	return Framing{}, nil // RFC 9112 6.3(7)
}

// response is RFC 9112 6.3 for a response. reusable is false when the framing
// was doubtful and the connection must not carry another message.
func (x *facts) response(method string, status int, minor uint8) (f Framing, reusable bool, _ *Error) {
	if method == "CONNECT" && status/100 == 2 {
		return Framing{}, true, nil // RFC 9110 9.3.6: both fields are ignored, whatever they hold
	}
	reusable = true
	var n int64
	if x.codings > 0 {
		if err := x.chunked(minor); err != nil {
			return f, false, err
		}
		reusable = x.lengths == 0 // RFC 9112 6.3(3): chunked wins, and this was the last message
	} else if x.lengths > 0 {
		var err *Error
		if n, err = x.contentLength(); err != nil {
			return f, false, err
		}
	}
	switch {
	case method == "HEAD", status < 200, status == 204, status == 304: // RFC 9112 6.3(1)
		return Framing{}, reusable, nil
	case x.codings > 0:
		return Framing{Kind: BodyChunked}, reusable, nil
	case x.lengths > 0:
		return Framing{Kind: BodyLength, Length: n}, true, nil
	}
	return Framing{Kind: BodyClose}, false, nil // RFC 9112 6.3(8)
}

// chunked accepts exactly one Transfer-Encoding line that holds exactly
// "chunked": no other coding was asked for, so none may be used.
func (x *facts) chunked(minor uint8) *Error {
	switch {
	case minor == 0:
		return errTEIn10 // RFC 9112 6.1
	case x.codings == 1 && equalFold(x.coding, "chunked"):
		return nil
	case x.codings == 1 && x.foreignCoding():
		return errTEUnknown
	}
	return errTEMalformed
}

// foreignCoding reports whether the value is a sound list of codings, chunked
// at most once and last, of which we know not all.
func (x *facts) foreignCoding() bool {
	if x.coding == "" {
		return false
	}
	for v, seen := x.coding, false; v != ""; {
		var t string
		t, v = cutList(v)
		if seen || !IsToken(t) {
			return false
		}
		seen = equalFold(t, "chunked")
	}
	return true
}

// contentLength accepts 1*DIGIT below 2^63. Several lines of the very same text
// count as one; a list in one line does not (RFC 9112 6.3(5)).
func (x *facts) contentLength() (int64, *Error) {
	if x.lengthClash {
		return 0, errLengthClash
	}
	n, ok := parseDecimal(x.length)
	if !ok {
		return 0, errLengthValue
	}
	return n, nil
}

// parseDecimal takes 1*DIGIT of a value below 2^63.
func parseDecimal(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 || n > (1<<63-1-int64(d))/10 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, true
}
