package http1

import "bytes"

// Limits bound what one message may cost. A zero field means its default.
type Limits struct {
	HeadBytes    int // start line and fields with their line ends; default 64 KiB
	Fields       int // field lines; default 256
	TrailerBytes int // trailer section of a chunked body; default 16 KiB
}

const (
	defaultHeadBytes    = 64 << 10
	defaultFields       = 256
	defaultTrailerBytes = 16 << 10
	maxBlankLines       = 4  // before a request, RFC 9112 2.2 asks for one
	maxMethod           = 64 // the longest registered one has 17 letters
	maxExtensionBytes   = 4 << 10
	maxOptions          = 64 // connection options of one message

	// Max1xx is how many informational responses may come before the final one.
	Max1xx = 32
)

func (l Limits) withDefaults() Limits {
	if l.HeadBytes <= 0 {
		l.HeadBytes = defaultHeadBytes
	}
	if l.Fields <= 0 {
		l.Fields = defaultFields
	}
	if l.TrailerBytes <= 0 {
		l.TrailerBytes = defaultTrailerBytes
	}
	return l
}

// headScan looks for the end of a head, going over each byte once however the
// bytes arrive: it remembers where it was. Positions count from the start of
// the buffer.
type headScan struct {
	start  int // of the start line
	line   int // start of the line being looked at
	pos    int // looked at so far
	blanks int // empty lines before the start line
	lines  int // complete lines of the head
}

// end returns the position behind the head's last line end, or ErrIncomplete,
// or the fault that can be seen already.
func (s *headScan) end(buf []byte, request bool, lim Limits) (int, error) {
	for {
		i := bytes.IndexByte(buf[s.pos:], '\n')
		if i < 0 {
			break
		}
		i += s.pos
		s.pos = i + 1
		last := i
		if i > s.line && buf[i-1] == '\r' {
			last--
		} else if request {
			return 0, errBareLF // responses may use LF, RFC 9112 2.2; they are re-emitted with CRLF
		}
		if last == s.line {
			if s.line != s.start {
				return i + 1, s.fits(i+1, lim)
			}
			s.blanks++
			if !request || s.blanks > maxBlankLines {
				return 0, errBlankLines
			}
			s.start = i + 1
		} else {
			s.lines++
		}
		s.line = i + 1
		if s.lines-1 > lim.Fields {
			return 0, errTooMany
		}
	}
	s.pos = len(buf)
	if err := s.fits(len(buf), lim); err != nil {
		return 0, err
	}
	return 0, ErrIncomplete
}

// fits checks the size of a head that reaches to n.
func (s *headScan) fits(n int, lim Limits) error {
	switch {
	case n-s.start <= lim.HeadBytes:
		return nil
	case s.lines == 0:
		return errLineTooLong
	}
	return errHeadTooLarge
}
