package http1

import "strings"

// parseFields reads field lines up to the empty line that s ends with. In a
// request every oddity is a fault; in a response a folded line is unfolded and
// white space before the colon removed (RFC 9112 5.1, 5.2), since what is
// written on is written anew.
func parseFields(s string, h *Header, request bool, x *facts) *Error {
	for {
		end := strings.IndexByte(s, '\n')
		line := s[:end]
		s = s[end+1:]
		if line != "" && line[len(line)-1] == '\r' {
			line = line[:len(line)-1]
		}
		if line == "" {
			return nil
		}
		f, err := parseField(line, request)
		if err != nil {
			return err
		}
		for !request && s != "" && (s[0] == ' ' || s[0] == '\t') { // RFC 9112 5.2
			end := strings.IndexByte(s, '\n')
			more := trimOWS(strings.TrimSuffix(s[:end], "\r"))
			if !clean(more) {
				return errFieldValue
			}
			f.Value = trimOWS(f.Value + " " + more)
			s = s[end+1:]
		}
		*h = append(*h, f)
		if err := x.note(&f); err != nil {
			return err
		}
	}
}

func parseField(line string, request bool) (f Field, _ *Error) {
	if line[0] == ' ' || line[0] == '\t' {
		return f, errObsFold // RFC 9112 5.2; before the first field 2.2
	}
	i := 0
	for i < len(line) && classes[line[i]]&clToken != 0 {
		i++
	}
	name := line[:i]
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	switch {
	case i == len(line):
		return f, errFieldLine
	case name == "":
		return f, errFieldName
	case line[i] != ':':
		return f, errFieldName
	case i > len(name) && request:
		return f, errSpaceColon // RFC 9112 5.1; a proxy removes it from a response
	}
	value := trimOWS(line[i+1:])
	if !clean(value) {
		return f, errFieldValue // RFC 9110 5.5: CR, LF, NUL; here every control character
	}
	return Field{name, value}, nil
}

// facts are what the fields say about the message itself, gathered in the one
// pass that reads them.
type facts struct {
	hosts        int
	host         string
	lengths      int
	length       string
	lengthClash  bool
	codings      int
	coding       string
	options      int
	close        bool
	keepAlive    bool
	upgradeNamed bool
	upgrade      string
	expect       string
	expects      int
}

func (x *facts) note(f *Field) *Error {
	v := f.Value
	switch len(f.Name) {
	case 4:
		if equalFold(f.Name, "Host") {
			x.hosts++
			x.host = v
		}
	case 6:
		if equalFold(f.Name, "Expect") {
			x.expects++
			x.expect = v
		}
	case 7:
		if equalFold(f.Name, "Upgrade") {
			x.noteUpgrade(v)
		}
	case 10:
		if equalFold(f.Name, "Connection") {
			return x.noteConnection(v)
		}
	case 14:
		if equalFold(f.Name, "Content-Length") {
			x.lengthClash = x.lengthClash || x.lengths > 0 && v != x.length
			x.lengths++
			x.length = v
		}
	case 17:
		if equalFold(f.Name, "Transfer-Encoding") {
			x.codings++
			x.coding = v
		}
	}
	return nil
}

func (x *facts) noteConnection(v string) *Error {
	for v != "" {
		var t string
		t, v = cutList(v)
		if x.options++; x.options > maxOptions {
			return errConnection
		}
		switch {
		case equalFold(t, "close"):
			x.close = true
		case equalFold(t, "keep-alive"):
			x.keepAlive = true
		case equalFold(t, "upgrade"):
			x.upgradeNamed = true
		}
	}
	return nil
}

// noteUpgrade keeps the first protocol asked for, but never h2c nor another HTTP:
// a proxy that honours those lets a client past every later check (RFC 9113 3.1
// dropped them).
func (x *facts) noteUpgrade(v string) {
	for v != "" && x.upgrade == "" {
		var t string
		t, v = cutList(v)
		name, version, versioned := strings.Cut(t, "/")
		if IsToken(name) && (!versioned || IsToken(version)) &&
			!equalFold(name, "h2c") && !equalFold(name, "h2") && !equalFold(name, "HTTP") {
			x.upgrade = t
		}
	}
}
