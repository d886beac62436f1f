package http1

import "strings"

// Response is the head of a response. The zero value is ready for
// ParseResponse, which reuses the memory of Header.
type Response struct {
	Status    int // 100-999
	Reason    string
	Minor     uint8 // of HTTP/1.Minor
	Header    Header
	Body      Framing
	KeepAlive bool   // the connection can carry another message after the body, if nothing is Buffered then
	Upgrade   string // the protocol switched to, with 101 only; "" there is a fault of the server
}

// Reset makes r empty, keeping the memory of Header.
func (r *Response) Reset() {
	clear(r.Header)
	*r = Response{Header: r.Header[:0]}
}

// ParseResponse reads the head of a response to a request of that method at the
// start of buf and returns how many bytes it took. It returns ErrIncomplete
// when more bytes are needed, an *Error with status 502 when the response is
// not to be trusted and its connection must be closed.
func ParseResponse(buf []byte, method string, r *Response, lim Limits) (n int, err error) {
	var scan headScan
	return parseResponse(buf, method, r, &scan, lim.withDefaults())
}

func parseResponse(buf []byte, method string, r *Response, scan *headScan, lim Limits) (int, error) {
	r.Reset()
	const prefix = "HTTP/"
	if n := min(len(buf), len(prefix)); string(buf[:n]) != prefix[:n] {
		return 0, errNotHTTP // said at once, without waiting for a line end
	}
	end, err := scan.end(buf, false, lim)
	if err != nil {
		if e, ok := err.(*Error); ok {
			return 0, e.inResponse()
		}
		return 0, err
	}
	if e := r.parse(string(buf[:end]), method); e != nil {
		return 0, e.inResponse()
	}
	return end, nil
}

func (r *Response) parse(s, method string) *Error {
	end := strings.IndexByte(s, '\n')
	if err := r.parseLine(strings.TrimSuffix(s[:end], "\r")); err != nil {
		return err
	}
	var x facts
	if err := parseFields(s[end+1:], &r.Header, false, &x); err != nil {
		return err
	}
	f, reusable, err := x.response(method, r.Status, r.Minor)
	if err != nil {
		return err
	}
	r.Body = f
	r.KeepAlive = reusable && !x.close && (r.Minor > 0 || x.keepAlive) // RFC 9112 9.3
	if r.Status == 101 {
		r.KeepAlive = false // RFC 9110 7.8: no message of HTTP comes after it
		if x.upgradeNamed {
			r.Upgrade = x.upgrade
		}
	}
	return nil
}

// parseLine reads version SP status SP reason. The reason may be missing with
// its space: many servers do that.
func (r *Response) parseLine(line string) *Error {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return errStatusLine
	}
	minor, err := parseVersion(line[:8])
	if err != nil {
		return err
	}
	for _, c := range []byte(line[9:12]) {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if len(line) > 12 {
		r.Reason = line[13:]
	}
	if r.Status < 100 || !clean(r.Reason) { // RFC 9112 4
		return errStatusLine
	}
	r.Minor = minor
	return nil
}
