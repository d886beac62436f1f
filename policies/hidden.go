package policies

import (
	"bytes"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// hiddenMark stands for what is not shown. It is as long as it is, whatever it hides.
const hiddenMark = "***"

// hiddenDetail stands for what HCL says of a place that may hold a secret: it repeats what is written there.
const hiddenDetail = `What stands here may hold a secret, so it is not repeated. A password is written as credential("name") or env("NAME").`

// hidden are the parts of the sources that no report shows, by file. A part goes to the end of a line at least, so that no
// slip of the pen inside a password (a quote, a brace) lets the rest of it out.
type hidden map[string][]span

// span is a part of a file, in bytes.
type span struct{ from, to int }

// hide finds what must not be shown: what follows the name of a password, every value of an auth block whatever its name,
// users in URLs, and the locals and variables that auth blocks name. It looks at lines, so that it finds them in files that
// do not parse, then at the tokens, for values of several lines.
func hide(sources map[string][]byte) hidden {
	h := hidden{}
	names := map[string]bool{}
	for pass := range 2 { // the second time with the names that the first has found
		if pass > 0 && len(names) == 0 {
			break
		}
		for file, src := range sources {
			h[file] = hideLines(src, names)
			if !isJSON(file) && len(h[file]) > 0 { // a value of several lines begins in one
				h[file] = append(h[file], hideStatements(file, src, names)...)
			}
		}
		for file, spans := range h {
			for _, s := range spans {
				for _, m := range scopeNames.FindAllSubmatch(sources[file][s.from:s.to], -1) {
					names[string(m[1])] = true
				}
			}
		}
	}
	return h
}

const secretKey = `[\w-]*(?:pas+w|passphrase|pwd|secret|token|api[_-]?key)[\w-]*|pass|pw|[\w-]+_pw|pw_[\w-]+|credentials?|proxy-authorization|authorization|headers`

var (
	scopeNames  = regexp.MustCompile(`\b(?:local|var)\.([\p{L}_][\p{L}\p{N}_-]*)`)
	secretName  = regexp.MustCompile(`^(?i:` + secretKey + `)$`)
	userInURL   = regexp.MustCompile(`://.*@`)
	urlWithUser = regexp.MustCompile(`\burl"?\s*[=:].*@`)
	authOpens   = regexp.MustCompile(`\bauth"?\s*[:=]?\s*(?:[\[{]|$)`)
	varOpens    = regexp.MustCompile(`\bvariable\s+"?([\p{L}_][\p{L}\p{N}_-]*)"?\s*\{`)
	lineKey     = regexp.MustCompile(`^[\s{\[,]*"?[\p{L}_][\p{L}\p{N}_-]*"?\s*[=:]?`)
)

func isSecretName(name string, names map[string]bool) bool {
	return name != "" && (names[name] || secretName.MatchString(name))
}

// nameBefore is the name that s ends with, in quotes or not.
func nameBefore(s []byte) string {
	s = bytes.TrimSuffix(bytes.TrimRight(s, " \t"), []byte(`"`))
	from := len(s)
	for from > 0 && (s[from-1] == '_' || s[from-1] == '-' || s[from-1] >= 0x80 || isAlphanumeric(s[from-1])) {
		from--
	}
	return string(s[from:])
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// hideLines finds what to hide in each line by itself; all it knows of other lines is that an auth block is open.
func hideLines(src []byte, names map[string]bool) []span {
	var all []span
	inAuth, next := false, false
	at := 0
	for raw := range bytes.Lines(src) {
		line := bytes.TrimRight(raw, "\r\n")
		cut := -1
		add := func(at int) {
			if at >= 0 && (cut < 0 || at < cut) {
				cut = at
			}
		}
		content := len(bytes.Trim(line, " \t{}[],")) > 0
		if next && content { // the value of the line before
			add(0)
		}
		next = next && !content
		for sign := range line {
			if c := line[sign]; (c == '=' || c == ':') && isSecretName(nameBefore(line[:sign]), names) {
				add(sign + 1)
				next = len(bytes.TrimSpace(line[sign+1:])) == 0
			}
		}
		if bytes.IndexByte(line, '@') >= 0 {
			if m := userInURL.FindIndex(line); m != nil {
				add(m[0] + len("://"))
			}
			if m := urlWithUser.FindIndex(line); m != nil {
				add(m[0] + bytes.IndexAny(line[m[0]:], "=:") + 1)
			}
		}
		trimmed := bytes.TrimSpace(line)
		if inAuth {
			switch {
			case bytes.HasPrefix(trimmed, []byte("}")) || bytes.HasPrefix(trimmed, []byte("]")):
				inAuth = false
			case content:
				add(len(lineKey.Find(line)))
			}
		}
		if end := opensSecrets(line, names); end >= 0 {
			rest := line[end:]
			if len(bytes.TrimSpace(rest)) > 0 {
				add(end + len(lineKey.Find(rest)))
			}
			inAuth = !bytes.HasSuffix(trimmed, []byte("}"))
		}
		if cut >= 0 && len(bytes.TrimSpace(line[cut:])) > 0 {
			all = append(all, span{afterBlanks(src, at+cut), at + len(line)})
		}
		at += len(raw)
	}
	return all
}

// opensSecrets is the byte of the line behind the brace of an auth block, or of a variable for a secret; -1 = there is none.
func opensSecrets(line []byte, names map[string]bool) int {
	if !bytes.Contains(line, []byte("auth")) && !bytes.Contains(line, []byte(kindVariable)) {
		return -1
	}
	if m := authOpens.FindIndex(line); m != nil {
		return m[1]
	}
	if m := varOpens.FindSubmatchIndex(line); m != nil && isSecretName(string(line[m[2]:m[3]]), names) {
		return m[1]
	}
	return -1
}

// hideStatements finds the values of several lines: lists, calls, heredocs.
func hideStatements(file string, src []byte, names map[string]bool) []span {
	var all []span
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	var secret []bool // for each open bracket: what is in it is to be hidden
	first, header := true, false
	from, depth := -1, 0
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl,
			hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			within := len(secret) > 0 && secret[len(secret)-1]
			secret = append(secret, within || header && t.Type == hclsyntax.TokenOBrace)
			if t.Type == hclsyntax.TokenOBrace {
				first, header = true, false
				continue
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			if len(secret) > 0 {
				secret = secret[:len(secret)-1]
			}
		case hclsyntax.TokenEqual:
			name := i > 0 && tokens[i-1].Type == hclsyntax.TokenIdent
			if name && from < 0 && (len(secret) > 0 && secret[len(secret)-1] || isSecretName(string(tokens[i-1].Bytes), names)) {
				from, depth = afterBlanks(src, t.Range.End.Byte), len(secret)
			}
		case hclsyntax.TokenIdent:
			if first {
				header = string(t.Bytes) == "auth" || string(t.Bytes) == kindVariable && i+2 < len(tokens) && isSecretName(string(tokens[i+2].Bytes), names)
			}
		}
		first = t.Type == hclsyntax.TokenNewline
		if from >= 0 && (first && len(secret) <= depth || len(secret) < depth || t.Type == hclsyntax.TokenEOF) {
			all = append(all, span{from, lineEnd(src, max(from, t.Range.Start.Byte))})
			from = -1
		}
	}
	return all
}

func afterBlanks(src []byte, at int) int {
	for at < len(src) && (src[at] == ' ' || src[at] == '\t') {
		at++
	}
	return at
}

// lineEnd is where the line that at is in ends.
func lineEnd(src []byte, at int) int {
	at = min(at, len(src))
	if i := bytes.IndexByte(src[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(src)
}

// cut is the first byte of the line from start to end that is hidden.
func (h hidden) cut(file string, start, end int) (int, bool) {
	cut, found := end, false
	for _, s := range h[file] {
		if s.from <= end && s.to > start {
			cut, found = min(cut, max(s.from, start)), true
		}
	}
	return cut, found
}

// touches reports whether something of r is hidden.
func (h hidden) touches(r hcl.Range) bool {
	for _, s := range h[r.Filename] {
		if r.Start.Byte < s.to && max(r.End.Byte, r.Start.Byte+1) > s.from {
			return true
		}
	}
	return false
}

// seal takes out of a diagnostic what would show a secret: what HCL keeps beside it, and places inside of what is hidden,
// which say how long it is. Of what HCL wrote (foreign) about such a place the text is dropped.
func (h hidden) seal(d *hcl.Diagnostic, sources map[string][]byte, foreign bool) {
	d.Expression, d.EvalContext, d.Context = nil, nil, nil
	if d.Subject == nil {
		return
	}
	r := *d.Subject
	if foreign && h.touches(r) {
		d.Detail = hiddenDetail
	}
	r.Start = h.shown(r.Filename, sources[r.Filename], r.Start)
	r.End = h.shown(r.Filename, sources[r.Filename], r.End)
	d.Subject = &r
}

// shown is p, or where what is hidden begins on its line if p lies behind that.
func (h hidden) shown(file string, src []byte, p hcl.Pos) hcl.Pos {
	if p.Byte < 0 || p.Byte > len(src) {
		return p
	}
	start := bytes.LastIndexByte(src[:p.Byte], '\n') + 1
	cut, found := h.cut(file, start, lineEnd(src, p.Byte))
	if !found || p.Byte <= cut {
		return p
	}
	return hcl.Pos{Line: p.Line, Column: 1 + len([]rune(string(src[start:cut]))), Byte: cut}
}

// line is a line of a file as it may be shown.
func (h hidden) line(file string, src []byte, start, end int) (line string, cut int) {
	cut, found := h.cut(file, start, end)
	if !found {
		return string(src[start:end]), -1
	}
	return string(src[start:cut]) + hiddenMark, cut - start
}
