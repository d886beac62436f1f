package pac

import (
	"fmt"
	"strings"

	"viaduct/connmodel"
)

// Kind says what an entry is, by its word in the answer of the script.
type Kind string

// The kinds. PROXY and HTTP are the same.
const (
	Direct Kind = "DIRECT"
	HTTP   Kind = "HTTP"
	HTTPS  Kind = "HTTPS"
	SOCKS  Kind = "SOCKS" // the version is not said; browsers take it for 4
	SOCKS4 Kind = "SOCKS4"
	SOCKS5 Kind = "SOCKS5"
)

// Entry is one way that the script wants tried.
type Entry struct {
	Kind    Kind
	Address connmodel.Address // zero for Direct
}

// String writes the entry as a script would.
func (e Entry) String() string {
	word := string(e.Kind)
	if e.Kind == HTTP {
		word = "PROXY"
	}
	if e.Kind == Direct {
		return word
	}
	return word + " " + e.Address.String()
}

// MaxEntries bounds the entries of an answer; what comes behind them is a problem of the answer.
const MaxEntries = 32

var kinds = map[string]struct {
	kind Kind
	port uint16 // where none is said
}{
	"PROXY": {HTTP, 80}, "HTTP": {HTTP, 80}, "HTTPS": {HTTPS, 443},
	"SOCKS": {SOCKS, 1080}, "SOCKS4": {SOCKS4, 1080}, "SOCKS5": {SOCKS5, 1080},
}

// ParseResult reads the answer of a script: entries in their order, each once, and what is wrong with the parts that are none. An answer
// without any entry is an error, also the empty one: browsers go direct then, and a gateway must not because a script said nothing.
func ParseResult(text string) (entries []Entry, problems []string, err error) {
	seen := map[Entry]bool{}
	rest, more := text, true
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ";")
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if len(entries)+len(problems) >= MaxEntries {
			problems = append(problems, fmt.Sprintf("only the first %d entries are looked at", MaxEntries))
			break
		}
		e, err := parseEntry(part)
		switch {
		case err != nil:
			problems = append(problems, err.Error())
		case !seen[e]:
			seen[e] = true
			entries = append(entries, e)
		}
	}
	switch {
	case len(entries) > 0:
		return entries, problems, nil
	case len(problems) > 0:
		return nil, problems, &ScriptError{Reason: ReasonAnswer, Text: "the answer has no entry that means anything: " + problems[0]}
	}
	return nil, nil, &ScriptError{Reason: ReasonAnswer, Text: "the answer is empty; a script that wants no proxy says DIRECT"}
}

func parseEntry(part string) (Entry, error) {
	words := strings.Fields(part)
	word := strings.ToUpper(words[0])
	if word == string(Direct) {
		if len(words) > 1 {
			return Entry{}, fmt.Errorf("%s: nothing follows DIRECT", shown(part))
		}
		return Entry{Kind: Direct}, nil
	}
	k, ok := kinds[word]
	if !ok {
		return Entry{}, fmt.Errorf("%s: the word %s is none of PROXY, HTTP, HTTPS, SOCKS, SOCKS4, SOCKS5, DIRECT", shown(part), shown(words[0]))
	}
	if len(words) != 2 {
		return Entry{}, fmt.Errorf("%s: one host:port follows %s", shown(part), word)
	}
	a, err := parseProxy(words[1], k.port)
	if err != nil {
		return Entry{}, fmt.Errorf("%s: %w", shown(part), err)
	}
	return Entry{k.kind, a}, nil
}

func parseProxy(text string, port uint16) (connmodel.Address, error) {
	if strings.ContainsAny(text, "@/") {
		return connmodel.Address{}, fmt.Errorf("a proxy is host:port and no URL")
	}
	if a, err := connmodel.ParseAddress(text); err == nil {
		return a, nil
	} else if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		return a, err
	}
	return connmodel.MakeAddress(strings.Trim(text, "[]"), port)
}

// shown is what of a script's words may stand in a message: printable, short, and nothing that looks like a password.
func shown(s string) string {
	if strings.Contains(s, "@") {
		return "an entry with @"
	}
	return clip(fmt.Sprintf("%q", clip(s, 60)), 200)
}

// clip cuts s to n bytes, at the beginning of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "..."
}
