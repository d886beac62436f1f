package importer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies"
)

// document is the policy that is being made.
type document struct {
	o     *Options
	files int
	size  int

	left   []Left
	notes  []string        // what to do before the policy is used
	blocks strings.Builder // listeners, upstreams, pools
	rules  strings.Builder
	last   string // of the policy: an otherwise block, or nothing

	names  map[string]bool // of blocks: "upstream.a"
	titles map[string]bool // of rules
}

// leave names a line that did not carry over.
func (d *document) leave(at place, text, format string, args ...any) {
	if len(d.left) < maxLeft {
		d.left = append(d.left, Left{at.file, at.line, oneLine(text), oneLine(fmt.Sprintf(format, args...))})
	}
}

// note says what to do, once.
func (d *document) note(format string, args ...any) {
	if s := oneLine(fmt.Sprintf(format, args...)); !slices.Contains(d.notes, s) && len(d.notes) < 100 {
		d.notes = append(d.notes, s)
	}
}

// oneLine makes a text fit into a comment.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 800 {
		s = strings.ToValidUTF8(s[:800], "") + "…"
	}
	return strings.TrimSpace(s)
}

// name makes a name for a block of a kind, which no other has.
func (d *document) name(kind, want string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(want) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	base := strings.Trim(b.String(), "_-")
	if base == "" || base[0] < 'a' || base[0] > 'z' {
		base = kind + "_" + base
	}
	base = strings.TrimRight(base[:min(len(base), 60)], "_-")
	if d.names == nil {
		d.names = map[string]bool{}
	}
	n := base
	for i := 2; d.names[kind+"."+n]; i++ {
		n = fmt.Sprintf("%s_%d", base, i)
	}
	d.names[kind+"."+n] = true
	return n
}

// rule writes a rule; its title is made one that no other has.
func (d *document) rule(title, body string) {
	if d.titles == nil {
		d.titles = map[string]bool{"otherwise": true}
	}
	t := title
	for i := 2; d.titles[t]; i++ {
		t = fmt.Sprintf("%s (%d)", title, i)
	}
	d.titles[t] = true
	fmt.Fprintf(&d.rules, "rule %s {\n%s\n}\n", quote(t), body)
}

func (d *document) block(format string, args ...any) { fmt.Fprintf(&d.blocks, format+"\n\n", args...) }

// pool makes a pool of routes that stand in for each other in order, or names the only one.
func (d *document) pool(name string, members []string, sel string) string {
	if len(members) == 1 {
		return members[0]
	}
	n := d.name("pool", name)
	d.block("pool %s {\nmembers = [%s]\nselect = %s\nretry {\nattempts = %d\n}\n}", quote(n), strings.Join(members, ", "), quote(sel), min(len(members), 10))
	return "pool." + n
}

// quote writes a text as HCL.
func quote(s string) string { return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes()) }

func quoteList(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// text puts all together, in the usual layout. It is loaded once, to be sure.
func (d *document) text() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made of %s (%s) by \"viaduct import\".\n", oneLine(d.o.Name), d.o.Kind)
	for _, n := range d.notes {
		fmt.Fprintf(&b, "#\n# TO DO: %s\n", n)
	}
	if len(d.left) > 0 {
		fmt.Fprintf(&b, "#\n# What did not carry over:\n")
		for _, l := range d.left {
			fmt.Fprintf(&b, "#   %s:%d: %s\n#     %s\n", oneLine(l.File), l.Line, l.Text, l.Why)
		}
	}
	fmt.Fprintf(&b, "\n%spolicy \"default\" {\n%s%s}\n", d.blocks.String(), d.rules.String(), d.last)
	out, diags := policies.Format("imported.hcl", []byte(b.String()))
	if err := diags.Err(); err != nil {
		return nil, fmt.Errorf("the policy that was made of %s cannot be read: %w", d.o.Name, err)
	}
	cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"imported.hcl": out}, Lenient: true, ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist }})
	if cfg == nil {
		return nil, fmt.Errorf("the policy that was made of %s cannot be used: %w", d.o.Name, diags.Err())
	}
	return out, nil
}

// upstream is a proxy to be.
type upstream struct {
	name, scheme string
	address      connmodel.Address
	auth, tls    []string // lines
	max          int
	dial         string
	comment      string
}

// declare writes the block and returns the route.
func (d *document) declare(u *upstream) string {
	n := d.name("upstream", u.name)
	var b strings.Builder
	if u.comment != "" {
		fmt.Fprintf(&b, "# %s\n", oneLine(u.comment))
	}
	fmt.Fprintf(&b, "upstream %s {\nurl = %s\n", quote(n), quote(u.scheme+"://"+u.address.String()))
	if u.max > 0 {
		fmt.Fprintf(&b, "max_connections = %d\n", u.max)
	}
	for _, x := range []struct {
		name  string
		lines []string
	}{{"tls", u.tls}, {"auth", u.auth}} {
		if len(x.lines) > 0 {
			fmt.Fprintf(&b, "%s {\n%s\n}\n", x.name, strings.Join(x.lines, "\n"))
		}
	}
	if u.dial != "" {
		fmt.Fprintf(&b, "timeouts {\ndial = %s\n}\n", quote(u.dial))
	}
	d.block("%s}", b.String())
	return "upstream." + n
}

// hostPort reads host:port, with a port for those without.
func hostPort(s string, port uint16) (connmodel.Address, error) {
	if a, err := connmodel.ParseAddress(s); err == nil {
		return a, nil
	}
	if port == 0 {
		return connmodel.Address{}, errors.New("it is no host:port")
	}
	return connmodel.MakeAddress(strings.Trim(s, "[]"), port)
}

// credential says how a password gets to where the policy finds it.
func (d *document) credential(name, of string) {
	d.note("The password of %s is not copied into policies. Put it where systemd reads it, printf %%s 'PASSWORD' > /etc/viaduct/%s (mode 0600), with LoadCredential=%s:/etc/viaduct/%s in the unit; or write env(\"NAME\") in place of credential(%q).", of, name, name, name, name)
}
