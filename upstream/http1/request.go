package http1

import "strings"

// Request is the head of a request. The zero value is ready for ParseRequest,
// which reuses the memory of Header.
type Request struct {
	Method    string
	RawTarget string // as received
	Target    Target
	Minor     uint8 // of HTTP/1.Minor
	Header    Header
	Host      Authority // the Host field; zero when it was absent or empty
	Body      Framing
	KeepAlive bool   // the sender would keep the connection
	Expect100 bool   // it waits for 100 (Continue) before the body
	Upgrade   string // the protocol it would switch to, never h2c or other HTTP; "" for none
}

// Reset makes r empty, keeping the memory of Header.
func (r *Request) Reset() {
	clear(r.Header)
	*r = Request{Header: r.Header[:0]}
}

// Authority is whom the request is for: the target's when it has one, else the
// Host field's (RFC 9112 3.2.2, 3.3).
func (r *Request) Authority() Authority {
	if r.Target.Form == AbsoluteForm || r.Target.Form == AuthorityForm {
		return r.Target.Authority
	}
	return r.Host
}

// ParseRequest reads the head of a request at the start of buf and returns how
// many bytes it took: what follows is the body, the next request or the
// tunnel. It returns ErrIncomplete when more bytes are needed, an *Error when
// the request must be refused and its connection closed. Up to four empty lines
// in front are skipped.
func ParseRequest(buf []byte, r *Request, lim Limits) (n int, err error) {
	var scan headScan
	return parseRequest(buf, r, &scan, lim.withDefaults())
}

func parseRequest(buf []byte, r *Request, scan *headScan, lim Limits) (int, error) {
	r.Reset()
	end, err := scan.end(buf, true, lim)
	if err == ErrIncomplete && scan.start < len(buf) {
		if c := buf[scan.start]; c != '\r' && classes[c]&clToken == 0 {
			return 0, errMethod // binary, such as TLS: do not wait for a line end
		}
	}
	if err != nil {
		return 0, err
	}
	if e := r.parse(string(buf[scan.start:end])); e != nil {
		return 0, e
	}
	return end, nil
}

func (r *Request) parse(s string) *Error {
	end := strings.IndexByte(s, '\n')
	if err := r.parseLine(s[:end-1]); err != nil {
		return err
	}
	var x facts
	if err := parseFields(s[end+1:], &r.Header, true, &x); err != nil {
		return err
	}
	if err := r.Target.parse(r.Method, r.RawTarget); err != nil {
		return err
	}
	if err := r.takeHost(&x); err != nil {
		return err
	}
	var err *Error
	if r.Body, err = x.request(r.Method, r.Minor); err != nil {
		return err
	}
	return r.takeConnection(&x)
}

// parseLine reads method SP target SP version: single spaces, nothing else (RFC
// 9112 3).
func (r *Request) parseLine(line string) *Error {
	i := strings.IndexByte(line, ' ')
	if i < 0 {
		return errRequestLine
	}
	j := strings.LastIndexByte(line, ' ')
	if j == i {
		return errRequestLine // HTTP/0.9, too
	}
	r.Method, r.RawTarget = line[:i], line[i+1:j]
	switch {
	case !IsToken(r.Method):
		return errMethod
	case len(r.Method) > maxMethod:
		return errMethodLong
	case r.RawTarget == "" || strings.IndexByte(r.RawTarget, ' ') >= 0:
		return errRequestLine
	}
	minor, err := parseVersion(line[j+1:])
	r.Minor = minor
	return err
}

// parseVersion takes HTTP/1.x; a higher minor version is read as 1.1 (RFC 9110
// 2.5).
func parseVersion(s string) (minor uint8, _ *Error) {
	if len(s) != 8 || s[:5] != "HTTP/" || s[6] != '.' ||
		s[5] < '0' || s[5] > '9' || s[7] < '0' || s[7] > '9' {
		return 0, errVersion // RFC 9112 2.3, case-sensitive
	}
	if s[5] != '1' {
		return 0, errMajor
	}
	return min(s[7]-'0', 1), nil
}

// takeHost is RFC 9112 3.2: exactly one Host line in 1.1, at most one in 1.0,
// and a sound value. An empty one is sound grammar, but names nobody.
func (r *Request) takeHost(x *facts) *Error {
	switch {
	case x.hosts > 1:
		return errTwoHosts
	case x.hosts == 0 && r.Minor > 0:
		return errNoHost
	case x.host == "":
		if x.hosts == 1 && r.Target.Form == OriginForm {
			return errHostValue
		}
		return nil
	}
	if r.Host.parse(x.host) != nil {
		return errHostValue
	}
	return nil
}

func (r *Request) takeConnection(x *facts) *Error {
	r.KeepAlive = !x.close && (r.Minor > 0 || x.keepAlive) // RFC 9112 9.3
	if r.Minor == 0 {
		return nil // RFC 9110 7.8, 10.1.1: Upgrade and Expect are not for 1.0
	}
	if x.expects > 0 {
		if x.expects > 1 || !equalFold(x.expect, "100-continue") {
			return errExpect
		}
		r.Expect100 = r.Body.HasBody() // RFC 9110 10.1.1: nothing to wait for without content
	}
	if x.upgradeNamed {
		r.Upgrade = x.upgrade
	}
	return nil
}
