package policies

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// File is a file of a policy.
type File struct{ Name, Text string }

// Redacted returns the files that c was read from, in the order they were read, with *** in place of every secret that is written out in them.
// Where a secret is found is told (credential("corp"), env("TOKEN")); what it is never.
//
// The syntax tree says what may be a secret: values of attributes that are one (password, token), values of header fields that are not known to be
// harmless, variables and locals that these name or that are called like a secret, users in URLs. What was found so is then looked for in all of
// the text, comments included, and so is every secret in force, wherever it came from.
func (c *Config) Redacted() []File {
	r, trees := c.redactor()
	var all []File
	for _, name := range c.Files {
		all = append(all, File{name, r.text(name, c.sources[name], trees[name] != nil || isJSON(name))})
	}
	return all
}

// Concealer returns a function that puts *** in place of what Redacted hides, in a text that may repeat a part of the policy.
func (c *Config) Concealer() func(string) string {
	r, _ := c.redactor()
	var pairs []string
	for _, s := range slices.SortedFunc(maps.Keys(r.found), func(a, b string) int { return len(b) - len(a) }) {
		pairs = append(pairs, s, hiddenMark)
	}
	return strings.NewReplacer(pairs...).Replace
}

func (c *Config) redactor() (*redactor, map[string]*hclsyntax.Body) {
	r := &redactor{names: map[string]bool{}, found: map[string]bool{}}
	trees := map[string]*hclsyntax.Body{}
	for _, name := range c.Files {
		if !isJSON(name) {
			if f, _ := parse(name, c.sources[name]); f != nil {
				trees[name], _ = f.Body.(*hclsyntax.Body)
			}
		}
	}
	for before := -1; before != len(r.names); { // a secret local may name another
		before = len(r.names)
		r.spans = map[string][]span{}
		for _, name := range c.Files {
			r.file, r.src = name, c.sources[name]
			switch {
			case trees[name] != nil:
				r.body(trees[name], nil)
			case isJSON(name):
				r.json()
			}
		}
	}
	for i := range c.Upstreams.Upstreams {
		if a := c.Upstreams.Upstreams[i].Auth; a != nil {
			r.secret(a.Password.Reveal())
			r.secret(a.Token.Reveal())
		}
	}
	r.secret(c.Gateway.Door.Token.Reveal())
	if t := c.Gateway.Traces; t != nil {
		for name, value := range t.Headers {
			if !plainField(name) {
				r.secret(value)
			}
		}
	}
	return r, trees
}

// redactor finds what is secret in files.
type redactor struct {
	file  string
	src   []byte
	names map[string]bool // of variables and locals
	spans map[string][]span
	found map[string]bool // texts that are secret wherever they stand
}

// shortestSecret is the length from which on a secret is looked for everywhere: a shorter one would be found in words.
const shortestSecret = 5

func (r *redactor) secret(s string) {
	if s = strings.TrimSpace(s); len(s) >= shortestSecret {
		r.found[s] = true
	}
}

// secretAttrs are attributes whose value is a secret, by the block that they stand in. An attribute of the schema that asks for a secret belongs here: a test
// looks for it.
var secretAttrs = map[string][]string{"auth": {"password", "token"}, "admin": {"token"}}

// role says what a value is.
type role uint8

const (
	openly role = iota // nothing is hidden in it but users in URLs
	secretly
	asHeader // an object: names of fields and their values
)

func (r *redactor) roleOf(path []string, name string) role {
	block := ""
	if len(path) > 0 {
		block = path[len(path)-1]
	}
	switch {
	case slices.Contains(secretAttrs[block], name), block == "locals" && (r.names[name] || secretName.MatchString(name)):
		return secretly
	case block == kindVariable+" secret" && name == "default":
		return secretly
	case block == "traces" && name == "headers":
		return asHeader
	case block == "headers" && name == "set", name == "header":
		if block == "auth" {
			return openly // the name of a field
		}
		return asHeader
	}
	return openly
}

func (r *redactor) body(b *hclsyntax.Body, path []string) {
	for _, a := range b.Attributes {
		r.value(a.Expr, r.roleOf(path, a.Name))
	}
	for _, x := range b.Blocks {
		kind := x.Type
		if kind == kindVariable && len(x.Labels) > 0 && (r.names[x.Labels[0]] || secretName.MatchString(x.Labels[0])) {
			kind += " secret"
		}
		r.body(x.Body, append(path[:len(path):len(path)], kind))
	}
}

func (r *redactor) value(e hclsyntax.Expression, as role) {
	switch as {
	case secretly:
		r.hide(e)
	case asHeader:
		r.header(e)
	default:
		r.look(e)
	}
}

// sources are the functions whose arguments say where something is found.
var sourceFunctions = []string{"credential", "env", "file", "netrc", "netrc_login", "command", "proxy_username", "proxy_password", "proxy_url"}

// hide hides all that is written out in an expression, and notes what it names.
func (r *redactor) hide(e hclsyntax.Expression) {
	switch x := e.(type) {
	case *hclsyntax.FunctionCallExpr:
		if slices.Contains(sourceFunctions, x.Name) {
			for i, a := range x.Args {
				if x.Name == "env" && i > 0 {
					r.hide(a) // what stands in for the variable
				}
			}
			return
		}
		for _, a := range x.Args {
			r.hide(a)
		}
	case *hclsyntax.TemplateExpr:
		for _, p := range x.Parts {
			r.hide(p)
		}
	case *hclsyntax.TemplateWrapExpr:
		r.hide(x.Wrapped)
	case *hclsyntax.ParenthesesExpr:
		r.hide(x.Expression)
	case *hclsyntax.ConditionalExpr:
		r.look(x.Condition)
		r.hide(x.TrueResult)
		r.hide(x.FalseResult)
	case *hclsyntax.ScopeTraversalExpr:
		r.named(x.Traversal)
	case *hclsyntax.LiteralValueExpr:
		rng := x.Range()
		text := r.src[rng.Start.Byte:rng.End.Byte]
		r.span(rng.Start.Byte, rng.Start.Byte+len(bytes.TrimRight(text, "\r\n"))) // lines of a heredoc stay lines
		r.secret(string(text))
	default: // lists, objects, operators, loops: whatever is written in them
		r.hideWithin(e)
	}
}

// hideWithin hides the literals in what has parts of many kinds.
func (r *redactor) hideWithin(e hclsyntax.Expression) {
	hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch x := n.(type) {
		case *hclsyntax.LiteralValueExpr:
			r.hide(x)
		case *hclsyntax.ScopeTraversalExpr:
			r.named(x.Traversal)
		}
		return nil
	})
}

// named notes the variable or local that a secret comes from.
func (r *redactor) named(t hcl.Traversal) {
	if root := t.RootName(); len(t) > 1 && (root == "local" || root == "var") {
		switch a := t[1].(type) {
		case hcl.TraverseAttr:
			r.names[a.Name] = true
		case hcl.TraverseIndex: // local["corp"]
			if a.Key.Type() == cty.String {
				r.names[a.Key.AsString()] = true
			}
		}
	}
}

// plainFields are header fields whose values are no secret.
var plainFields = []string{"accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-type", "content-length", "host", "origin", "pragma",
	"referer", "server", "upgrade", "user-agent", "via", "expect", "te", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-requested-with", "proxy-connection"}

func plainField(name string) bool { return slices.Contains(plainFields, strings.ToLower(name)) }

// header hides the values of fields in an object.
func (r *redactor) header(e hclsyntax.Expression) {
	o, ok := e.(*hclsyntax.ObjectConsExpr)
	if !ok {
		if t, ok := e.(*hclsyntax.ScopeTraversalExpr); ok { // an object of a local: its keys are not known here
			r.named(t.Traversal)
			return
		}
		r.hide(e)
		return
	}
	for _, item := range o.Items {
		key, diags := item.KeyExpr.Value(nil)
		if !diags.HasErrors() && key.IsKnown() && !key.IsNull() && key.Type().FriendlyName() == "string" && plainField(key.AsString()) {
			r.look(item.ValueExpr)
			continue
		}
		r.hide(item.ValueExpr)
	}
}

// look goes through what is no secret itself: conditions that compare header fields, and texts that hold a URL.
func (r *redactor) look(e hclsyntax.Expression) {
	hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch x := n.(type) {
		case *hclsyntax.LiteralValueExpr:
			rng := x.Range()
			r.urls(rng.Start.Byte, rng.End.Byte)
		case *hclsyntax.BinaryOpExpr:
			if secretField(x.LHS) || secretField(x.RHS) {
				r.compared(x.LHS)
				r.compared(x.RHS)
			}
		case *hclsyntax.FunctionCallExpr:
			if slices.ContainsFunc(x.Args, secretField) {
				for _, a := range x.Args {
					r.compared(a)
				}
			}
		}
		return nil
	})
}

// compared hides the literals of what a header field is compared with. In a larger condition that is done comparison by comparison.
func (r *redactor) compared(e hclsyntax.Expression) {
	switch x := e.(type) {
	case *hclsyntax.TemplateExpr, *hclsyntax.TupleConsExpr, *hclsyntax.LiteralValueExpr:
		r.hide(x)
	case *hclsyntax.ParenthesesExpr:
		r.compared(x.Expression)
	}
}

// secretField reports whether e asks for a header field that may hold a secret.
func secretField(e hclsyntax.Expression) bool {
	found := false
	hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		var t hcl.Traversal
		switch x := n.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			t = x.Traversal
		case *hclsyntax.IndexExpr:
			if of, ok := x.Collection.(*hclsyntax.ScopeTraversalExpr); ok && isHeader(of.Traversal) {
				found = true // by a name that is computed
			}
		}
		if !isHeader(t) || len(t) < 3 {
			return nil
		}
		switch k := t[2].(type) {
		case hcl.TraverseIndex:
			found = found || k.Key.Type().FriendlyName() != "string" || !plainField(k.Key.AsString())
		case hcl.TraverseAttr:
			found = found || !plainField(k.Name)
		}
		return nil
	})
	return found
}

func isHeader(t hcl.Traversal) bool {
	if len(t) < 2 || t.RootName() != "request" {
		return false
	}
	a, ok := t[1].(hcl.TraverseAttr)
	return ok && strings.HasPrefix(a.Name, "header")
}

func (r *redactor) span(from, to int) {
	if from < to {
		r.spans[r.file] = append(r.spans[r.file], span{from, to})
	}
}

var (
	urlUser  = regexp.MustCompile(`://([^/\s"?#]*)@`)
	urlQuery = regexp.MustCompile(`[?&](?i:` + secretKey + `|key|sig|signature|api[_-]?key)=([^&\s"#]+)`)
)

// urls hides users, and parameters that are called like a secret, in the URLs of a part of the file.
func (r *redactor) urls(from, to int) {
	for _, re := range []*regexp.Regexp{urlUser, urlQuery} {
		for _, m := range re.FindAllSubmatchIndex(r.src[from:to], -1) {
			r.span(from+m[2], from+m[3])
			for _, part := range strings.Split(string(r.src[from+m[2]:from+m[3]]), ":") {
				r.secret(part)
			}
		}
	}
}

// json finds what is secret in a file of HCL's JSON syntax: by the names that lead to it.
func (r *redactor) json() {
	d := json.NewDecoder(bytes.NewReader(r.src))
	r.jsonValue(d, nil)
}

func (r *redactor) jsonValue(d *json.Decoder, path []string) bool {
	before := int(d.InputOffset())
	t, err := d.Token()
	if err != nil {
		return false
	}
	switch t {
	case json.Delim('{'):
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return false
			}
			name, _ := key.(string)
			if !r.jsonValue(d, append(path[:len(path):len(path)], name)) {
				return false
			}
		}
		_, err = d.Token()
		return err == nil
	case json.Delim('['):
		for d.More() {
			if !r.jsonValue(d, path) {
				return false
			}
		}
		_, err = d.Token()
		return err == nil
	}
	text, isText := t.(string)
	if !isText && !isNumber(t) {
		return true
	}
	end := int(d.InputOffset())
	from := end - len(bytes.TrimLeft(r.src[before:end], " \t\r\n:,"))
	if isText {
		from, end = from+1, end-1 // within the quotes
	}
	if !r.jsonSecret(path) {
		if isText && jsonHeader.MatchString(text) { // a condition on a header field: where its literals stand behind escapes is not worth the risk
			r.span(from, end)
			return true
		}
		r.urls(from, end)
		return true
	}
	if isText && r.onlyFound(text) {
		return true
	}
	r.span(from, end)
	r.secret(text)
	return true
}

// jsonHeader finds texts that look at header fields.
var jsonHeader = regexp.MustCompile(`request\s*\.\s*header`)

func isNumber(t json.Token) bool { _, ok := t.(float64); return ok }

// jsonSecret reports whether the value at path is secret: its name, or that of something around it, says so.
func (r *redactor) jsonSecret(path []string) bool {
	if len(path) == 0 {
		return false
	}
	name := path[len(path)-1]
	for i, p := range path {
		next := ""
		if i+1 < len(path) {
			next = path[i+1]
		}
		switch {
		case p == "auth" && slices.Contains(secretAttrs["auth"], name), p == "admin" && slices.Contains(secretAttrs["admin"], name):
			return true
		case (p == "locals" || p == kindVariable) && (r.names[next] || secretName.MatchString(next)) && name != "type" && name != "description":
			return true
		case (p == "set" || p == "header") && next != "" && !plainField(next):
			return true
		case p == "headers" && slices.Contains(path[:i], "traces") && next != "" && !plainField(next):
			return true
		}
	}
	return false
}

// onlyFound reports whether a text says where a secret is found, and nothing else. What it names is noted.
func (r *redactor) onlyFound(text string) bool {
	if !strings.HasPrefix(text, "${") {
		return false
	}
	e, diags := hclsyntax.ParseTemplate(plainCalls([]byte(text), nil), r.file, hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	inner := &redactor{file: r.file, src: []byte(text), names: r.names, found: r.found, spans: map[string][]span{}}
	inner.hide(e)
	return len(inner.spans[r.file]) == 0
}

// text is the file with all of it hidden.
func (r *redactor) text(name string, src []byte, whole bool) string {
	all := r.spans[name]
	if !whole { // it did parse once; what cannot be looked at is not shown
		return hiddenMark + "\n"
	}
	if !isJSON(name) {
		all = append(all, commentSpans(name, src)...)
	}
	for s := range r.found {
		for at := 0; ; {
			i := bytes.Index(src[at:], []byte(s))
			if i < 0 {
				break
			}
			all = append(all, span{at + i, at + i + len(s)})
			at += i + len(s)
		}
	}
	slices.SortFunc(all, func(a, b span) int { return a.from - b.from })
	var out strings.Builder
	at := 0
	for _, s := range all {
		if s.to <= at {
			continue
		}
		if s.from >= at {
			out.Write(src[at:s.from])
			out.WriteString(hiddenMark)
		}
		at = s.to
	}
	out.Write(src[at:])
	return out.String()
}

// commentSpans are the parts of comments that look like a secret which was written there once.
func commentSpans(name string, src []byte) []span {
	var all []span
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenComment {
			continue
		}
		end := len(t.Bytes)
		if bytes.HasSuffix(t.Bytes, []byte("*/")) {
			end -= len("*/")
		}
		for _, s := range hideLines(t.Bytes, nil) {
			from := t.Range.Start.Byte
			all = append(all, span{from + min(s.from, end), from + min(s.to, end)})
		}
	}
	return all
}
