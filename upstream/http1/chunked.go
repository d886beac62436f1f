package http1

// chunked decodes the chunked coding (RFC 9112 7.1) from bytes that arrive in
// any pieces. Line ends are CRLF and nothing else.
type chunked struct {
	state   chunkState
	digits  int
	left    int64 // of the current chunk
	ext     int   // bytes of extensions in this message so far
	scan    headScan
	trailer Header
}

type chunkState uint8

const (
	chSize    chunkState = iota // hex digits
	chSpace                     // white space before ";"
	chExt                       // behind ";"
	chSizeLF                    // LF of the size line
	chData                      // left bytes of data
	chDataCR                    // CR behind the data
	chDataLF                    // LF behind the data
	chTrailer                   // trailer section
	chDone
)

// step looks at the bytes that come next. It returns how many of them are taken
// and whether they are data of the body; 0 without an error means that it needs
// more bytes than these, or that the body is done.
func (d *chunked) step(buf []byte, lim Limits) (n int, data bool, _ *Error) {
	switch d.state {
	case chDone:
		return 0, false, nil
	case chData:
		n = len(buf)
		if int64(n) >= d.left {
			n = int(d.left)
			d.state = chDataCR
		}
		d.left -= int64(n)
		return n, true, nil
	case chTrailer:
		n, err := d.readTrailer(buf, lim)
		return n, false, err
	}
	for n < len(buf) {
		if err := d.framing(buf[n]); err != nil {
			return n, false, err
		}
		n++
		if d.state == chData || d.state == chTrailer {
			break
		}
	}
	return n, false, nil
}

// framing takes one byte of a size line or of the line end behind data.
func (d *chunked) framing(c byte) *Error {
	switch d.state {
	case chSize:
		switch {
		case classes[c]&clHex != 0:
			return d.digit(c)
		case d.digits == 0:
			return errChunkSize
		case c == '\r':
			d.state = chSizeLF
			return nil
		case c == ';':
			d.state = chExt
		case c == ' ' || c == '\t': // BWS, RFC 9112 7.1.1
			d.state = chSpace
		default:
			return errChunkSize
		}
		return d.extension()
	case chSpace:
		if c == ';' {
			d.state = chExt
		} else if c != ' ' && c != '\t' {
			return errChunkSize
		}
		return d.extension()
	case chExt:
		if c == '\r' {
			d.state = chSizeLF
			return nil
		}
		if classes[c]&clValue == 0 {
			return errChunkExt
		}
		return d.extension()
	case chSizeLF:
		if c != '\n' {
			return errChunkSize
		}
		d.state, d.digits = chData, 0
		if d.left == 0 {
			d.state = chTrailer
		}
	case chDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		d.state = chDataLF
	case chDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		d.state = chSize
	}
	return nil
}

func (d *chunked) digit(c byte) *Error {
	v := c - '0'
	if v > 9 {
		v = lower(c) - 'a' + 10
	}
	d.digits++
	if d.digits > 16 || d.left > (1<<63-1)>>4 { // RFC 9112 7.1: no overflow
		return errChunkTooBig
	}
	d.left = d.left<<4 | int64(v)
	return nil
}

func (d *chunked) extension() *Error {
	if d.ext++; d.ext > maxExtensionBytes { // RFC 9112 7.1.1: a reasonable limit
		return errChunkExtLong
	}
	return nil
}

// readTrailer takes the whole trailer section or nothing; buf begins where the
// section begins, at every call.
func (d *chunked) readTrailer(buf []byte, lim Limits) (int, *Error) {
	switch {
	case len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n':
		d.state = chDone
		return 2, nil
	case len(buf) == 0, len(buf) == 1 && buf[0] == '\r':
		return 0, nil
	case buf[0] == '\r':
		return 0, errFieldLine
	}
	tl := Limits{HeadBytes: lim.TrailerBytes, Fields: lim.Fields - 1}
	end, err := d.scan.end(buf, true, tl)
	switch err {
	case nil:
	case ErrIncomplete:
		return 0, nil
	case errLineTooLong, errHeadTooLarge:
		return 0, errTrailerLarge
	default:
		return 0, err.(*Error)
	}
	var ignored facts
	if err := parseFields(string(buf[:end]), &d.trailer, true, &ignored); err != nil {
		return 0, err
	}
	d.trailer.deleteFunc(func(f Field) bool { return !allowedInTrailer(f.Name) })
	d.state = chDone
	return end, nil
}

// notInTrailers are fields that must not come late: those of framing, routing,
// authentication, request modifiers, response control and content format (RFC
// 9110 6.5.1), and those of one hop.
var notInTrailers = [...]string{
	"Age", "Authorization", "Cache-Control", "Connection", "Content-Encoding",
	"Content-Length", "Content-Range", "Content-Type", "Cookie", "Date", "Expect",
	"Expires", "Forwarded", "Host", "HTTP2-Settings", "If-Match", "If-Modified-Since",
	"If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive", "Location",
	"Max-Forwards", "Pragma", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Connection", "Proxy-Status", "Range", "Retry-After",
	"Set-Cookie", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Vary", "Via",
	"Warning", "WWW-Authenticate", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
}

func allowedInTrailer(name string) bool {
	for _, f := range notInTrailers {
		if equalFold(f, name) {
			return false
		}
	}
	return true
}

// allAllowedInTrailer reports whether a Trailer field announces none but fields that may come late.
func allAllowedInTrailer(list string) bool {
	for list != "" {
		var name string
		if name, list = cutList(list); !allowedInTrailer(name) {
			return false
		}
	}
	return true
}
