package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// A netrc file holds logins by machine. ftp made it up, curl and git read it; there is no standard. What is read here is what they agree on:
//
//	machine HOST login NAME password SECRET account IGNORED
//	default login NAME password SECRET
//	macdef NAME ... to the next empty line
//
// in tokens between blanks, of which one in double quotes knows \" \\ \n \r and \t (as with curl since 7.84). A line that begins with # is a comment.

// Bounds of a netrc file.
const (
	maxNetrc      = 256 << 10
	maxNetrcToken = 4 << 10
)

// netrcEntry is one login; machine "" is default.
type netrcEntry struct {
	machine, login, password string
}

// parseNetrc reads a file. Its errors name lines and nothing of what stands there.
func parseNetrc(src string) (all []netrcEntry, err error) {
	if len(src) > maxNetrc {
		return nil, fmt.Errorf("it is longer than %d bytes", maxNetrc)
	}
	s := &netrcScanner{rest: src, line: 1}
	var open *netrcEntry
	for {
		token, quoted, err := s.token()
		if err != nil || token == "" && !quoted {
			return all, err
		}
		if quoted {
			return nil, fmt.Errorf("line %d: a text in quotes stands where a word such as machine or login is due", s.line)
		}
		switch token {
		case "machine", "default":
			e := netrcEntry{}
			if token == "machine" {
				if e.machine, err = s.value(token); err != nil {
					return nil, err
				}
				e.machine = strings.ToLower(e.machine)
			}
			all = append(all, e)
			open = &all[len(all)-1]
		case "login", "password", "account":
			v, err := s.value(token)
			switch {
			case err != nil:
				return nil, err
			case open == nil:
				return nil, fmt.Errorf("line %d: %s stands before any machine", s.line, token)
			case token == "login":
				open.login = v
			case token == "password":
				open.password = v
			}
		case "macdef":
			if _, err := s.value(token); err != nil {
				return nil, err
			}
			s.skipMacro()
		default: // it may be half of a password with a blank in it
			return nil, fmt.Errorf("line %d: there is a word that is none of machine, default, login, password, account and macdef; a password with blanks stands in double quotes", s.line)
		}
	}
}

// findNetrc returns the first entry for a machine that has the login; "" is any. default stands for those that are not named.
func findNetrc(all []netrcEntry, machine, login string) (netrcEntry, bool) {
	machine = strings.ToLower(machine)
	for _, want := range []string{machine, ""} {
		for _, e := range all {
			if e.machine == want && (login == "" || e.login == login || e.login == "") && e.password != "" {
				return e, true
			}
		}
		if machine == "" {
			break
		}
	}
	return netrcEntry{}, false
}

// netrcScanner splits a file into tokens.
type netrcScanner struct {
	rest string
	line int // 1-based, of what was read last

	begun bool
}

func (s *netrcScanner) blanks() {
	fresh := !s.begun // at the beginning of a line
	s.begun = true
	for s.rest != "" {
		switch c := s.rest[0]; {
		case c == '\n':
			s.line++
			fresh = true
		case c == ' ' || c == '\t' || c == '\r':
		case c == '#' && fresh:
			i := strings.IndexByte(s.rest, '\n')
			if i < 0 {
				s.rest = ""
				return
			}
			s.rest = s.rest[i:]
			continue
		default:
			return
		}
		s.rest = s.rest[1:]
	}
}

// token returns the next token, "" at the end.
func (s *netrcScanner) token() (token string, quoted bool, err error) {
	s.blanks()
	if s.rest == "" {
		return "", false, nil
	}
	if s.rest[0] != '"' {
		end := strings.IndexAny(s.rest, " \t\r\n")
		if end < 0 {
			end = len(s.rest)
		}
		token, s.rest = s.rest[:end], s.rest[end:]
		return token, false, s.bounded(token)
	}
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			if s.rest != "" && !strings.ContainsRune(" \t\r\n", rune(s.rest[0])) {
				return "", true, fmt.Errorf("line %d: something stands right behind a closing quote", s.line)
			}
			return b.String(), true, s.bounded(b.String())
		case '\n':
			return "", true, fmt.Errorf("line %d: a quote is not closed", s.line)
		case '\\':
			if i++; i == len(s.rest) {
				break
			}
			switch e := s.rest[i]; e {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '\n':
				return "", true, fmt.Errorf("line %d: a quote is not closed", s.line)
			default:
				b.WriteByte(e)
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", true, fmt.Errorf("line %d: a quote is not closed", s.line)
}

func (s *netrcScanner) bounded(token string) error {
	if len(token) > maxNetrcToken {
		return fmt.Errorf("line %d: a word is longer than %d bytes", s.line, maxNetrcToken)
	}
	return nil
}

// value returns what stands behind a keyword.
func (s *netrcScanner) value(of string) (string, error) {
	v, quoted, err := s.token()
	if err == nil && v == "" && !quoted {
		err = fmt.Errorf("line %d: nothing stands behind the last %s", s.line, of)
	}
	return v, err
}

// skipMacro goes to behind the next empty line.
func (s *netrcScanner) skipMacro() {
	_, rest, _ := strings.Cut(s.rest, "\n") // what is left of the line with macdef
	for s.line++; rest != ""; s.line++ {
		var line string
		if line, rest, _ = strings.Cut(rest, "\n"); strings.Trim(line, " \t\r") == "" {
			s.line++
			break
		}
	}
	s.rest = rest
}

// checkNetrcMode refuses a file that others could read or write, as ftp and others do: it holds passwords of several machines, and is often copied
// from a home directory.
func checkNetrcMode(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // said by whoever reads it
	}
	if err != nil {
		return err
	}
	if mode := st.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("its mode is %04o, so others could read or change the passwords in it: chmod 600 (or 640)", mode)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, who is neither root nor who runs this", sys.Uid)
	}
	return nil
}
