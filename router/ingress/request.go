package ingress

import (
	"bytes"
	"errors"

	"viaduct/upstream/http1"
)

// RequestScan follows what may be the head of an HTTP/1.x request until it is complete. The zero value is at the beginning.
type RequestScan struct {
	line bool // the first line is complete, and somebody may take it for a request
	seen int  // bytes that have been looked at for the end: of the line, or of the head
}

const (
	maxLine      = 16 << 10 // a client that sends more without a line end speaks something else
	maxFirstWord = 64       // http1 takes no longer methods
)

// errHTTP2 is why HTTP/2 without TLS is not read.
var errHTTP2 = errors.New("the client speaks HTTP/2 without TLS, whose requests are not seen")

// Step looks at buf, which holds everything from the client's first byte on and has only grown since the last call. Found means that req
// is the request; its texts are copies. Malformed means that a server may take it for a request, which package http1 does not: the error
// says why. Other is said as soon as no server can take it for one.
func (s *RequestScan) Step(buf []byte, req *http1.Request, lim http1.Limits) (Verdict, error) {
	if !s.line {
		if v, err := s.firstLine(buf); v != Found {
			return v, err
		}
		s.line, s.seen = true, 0
	}
	if !s.mayEnd(buf) && len(buf) <= headBytes(lim) {
		return More, nil
	}
	_, err := http1.ParseRequest(buf, req, lim)
	switch {
	case err == nil:
		return Found, nil
	case errors.Is(err, http1.ErrIncomplete):
		return More, nil
	}
	return Malformed, err
}

// headBytes is when the parser has to say that a head is too long.
func headBytes(lim http1.Limits) int {
	if lim.HeadBytes > 0 {
		return lim.HeadBytes
	}
	return 64 << 10
}

// mayEnd reports whether an empty line has come since the last look. Before, the parser has nothing to say, and would look at every
// byte each time.
func (s *RequestScan) mayEnd(buf []byte) bool {
	tail := buf[max(s.seen-3, 0):]
	s.seen = len(buf)
	return bytes.Contains(tail, []byte("\n\r\n")) || bytes.Contains(tail, []byte("\n\n"))
}

// firstLine looks at the first line that is not empty.
func (s *RequestScan) firstLine(buf []byte) (Verdict, error) {
	start := 0
	for start < len(buf) && isSpace(buf[start]) { // servers differ in what they skip: http1 has the last word
		start++
	}
	b := buf[start:]
	word := 0
	for word < len(b) && !isSpace(b[word]) {
		if !http1.IsToken(string(b[word:word+1])) || word == maxFirstWord {
			return Other, nil
		}
		word++
	}
	if start > maxLine {
		return Other, nil
	}
	from := max(s.seen-1, start)
	s.seen = len(buf)
	end := bytes.IndexByte(buf[from:], '\n')
	switch {
	case end < 0 && len(b) > maxLine:
		if isMethod(b[:word]) {
			return Malformed, errors.New("the first line is too long for a request")
		}
		return Other, nil
	case end < 0:
		return More, nil
	}
	return judge(buf[start : from+end])
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// judge says whether a server may take the line for that of a request: it ends in a version of HTTP, or it is a method with a path and no
// other protocol behind it (HTTP/0.9).
func judge(line []byte) (Verdict, error) {
	words := bytes.FieldsFunc(line, func(c rune) bool { return c < 0x80 && isSpace(byte(c)) })
	if len(words) < 2 {
		return Other, nil
	}
	last := words[len(words)-1]
	if len(last) >= 5 && bytes.EqualFold(last[:5], []byte("HTTP/")) {
		if bytes.Equal(words[0], []byte("PRI")) && bytes.Equal(last, []byte("HTTP/2.0")) {
			return Malformed, errHTTP2
		}
		return Found, nil
	}
	target := words[1]
	isTarget := target[0] == '/' || target[0] == '*' || bytes.Contains(target, []byte("://"))
	if isMethod(words[0]) && isTarget && (len(words) == 2 || !bytes.HasSuffix(last, []byte(".0"))) {
		return Found, nil // RTSP/1.0 and SIP/2.0 have the same methods
	}
	return Other, nil
}

func isMethod(b []byte) bool {
	switch string(b) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE":
		return true
	}
	return false
}
