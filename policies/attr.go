package policies

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/policies/expr"
)

// block is a block that is being read: its readers take one attribute each, and report what is wrong with it. A reader of
// an attribute that is absent or wrong returns the zero value.
type block struct {
	l      *loader
	src    *hcl.Block
	attrs  hcl.Attributes
	blocks hcl.Blocks
}

// schema puts the parts of a block's schema together.
func schema(parts ...func(*hcl.BodySchema)) *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, p := range parts {
		p(s)
	}
	return s
}

func attrs(names ...string) func(*hcl.BodySchema) {
	return func(s *hcl.BodySchema) {
		for _, n := range names {
			s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: n})
		}
	}
}

func blocks(names ...string) func(*hcl.BodySchema) {
	return func(s *hcl.BodySchema) {
		for _, n := range names {
			s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: n})
		}
	}
}

func labelled(name, label string) func(*hcl.BodySchema) {
	return func(s *hcl.BodySchema) {
		s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: name, LabelNames: []string{label}})
	}
}

// open reads the content of a block.
func (l *loader) open(b *hcl.Block, s *hcl.BodySchema) *block {
	content, diags := b.Body.Content(s)
	l.content(diags)
	return &block{l, b, content.Attributes, content.Blocks}
}

// rng is where an attribute's value stands, or where the block begins.
func (b *block) rng(name string) hcl.Range {
	if a := b.attrs[name]; a != nil {
		return a.Expr.Range()
	}
	return b.src.DefRange
}

// has reports whether an attribute is written.
func (b *block) has(name string) bool { return b.attrs[name] != nil }

// need reports when an attribute is missing.
func (b *block) need(name, why string) bool {
	if b.has(name) {
		return true
	}
	b.l.errorAt(b.src.DefRange, "Missing argument", fmt.Sprintf("%s needs %q: %s.", title(b.src), name, why))
	return false
}

// title names a block in a message.
func title(b *hcl.Block) string {
	if len(b.Labels) > 0 {
		return fmt.Sprintf("The %s %q", b.Type, b.Labels[0])
	}
	return fmt.Sprintf("The block %q", b.Type)
}

// one returns the block of that name, and reports a second.
func (b *block) one(name string) *hcl.Block {
	var found *hcl.Block
	for _, x := range b.blocks {
		if x.Type != name {
			continue
		}
		if found != nil {
			b.l.errorAt(x.DefRange, "Duplicate block", fmt.Sprintf("There can be only one %q here; the first is at %s.", name, place(found.DefRange)))
			continue
		}
		found = x
	}
	return found
}

// value evaluates an attribute. A secret is refused: see secret.
func (b *block) value(name string) (cty.Value, hcl.Range, bool) {
	a := b.attrs[name]
	if a == nil {
		return cty.NilVal, hcl.Range{}, false
	}
	r := a.Expr.Range()
	v, ok := b.l.evaluate(a.Expr)
	if !ok {
		return v, r, false
	}
	if b.l.refuseSecret(v, r, name) {
		return v, r, false
	}
	return v, r, true
}

func (l *loader) refuseSecret(v cty.Value, r hcl.Range, what string) bool {
	if !v.ContainsMarked() {
		return false
	}
	l.errorAt(r, "Secret in an open place", fmt.Sprintf("The value comes from credential() or another secret, and %q is shown in logs and records. Secrets can stand only where a password is asked for.", what))
	return true
}

// text reads a string without control characters.
func (b *block) text(name string) string {
	v, r, ok := b.value(name)
	if !ok {
		return ""
	}
	s, ok := b.l.to(v, cty.String, r, quoted(name))
	if !ok {
		return ""
	}
	return b.l.clean(s.AsString(), r, name)
}

func quoted(name string) string { return fmt.Sprintf("%q", name) }

// clean refuses what could break a line of a header or a log.
func (l *loader) clean(s string, r hcl.Range, name string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		l.errorAt(r, "Control character", fmt.Sprintf("%q holds a line break or another control character.", name))
		return ""
	}
	return s
}

// oneOf reads a string that must be one of some.
func (b *block) oneOf(name string, values ...string) string {
	s := b.text(name)
	if s != "" && !slices.Contains(values, s) {
		b.l.errorAt(b.rng(name), "Unknown value", fmt.Sprintf("%q can be %s.%s", name, oneOf(values), didYouMean(s, values)))
		return ""
	}
	return s
}

// item is an entry of a list, with its own place.
type item struct {
	v cty.Value
	r hcl.Range
}

// items reads one value or a list of them, each with its place. Lists within lists (of locals) are poured out.
func (b *block) items(name string) []item {
	a := b.attrs[name]
	if a == nil {
		return nil
	}
	list, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		list = []hcl.Expression{a.Expr}
	} else if len(list) == 0 {
		b.l.emptyList(a.Expr.Range(), name)
	}
	var all []item
	for _, e := range list {
		r := e.Range()
		v, ok := b.l.evaluate(e)
		if !ok || b.l.refuseSecret(v, r, name) {
			continue
		}
		for _, x := range b.l.flatten(v, r, name) {
			all = append(all, item{x, r})
		}
	}
	return all
}

func (l *loader) emptyList(r hcl.Range, name string) {
	l.errorAt(r, "Empty list", fmt.Sprintf("%q is an empty list, which nothing is in. Leave the attribute out if it is not to be tested.", name))
}

// named is a text with its place.
type named struct {
	text string
	r    hcl.Range
}

// entries reads one text or a list of them, each with its place.
func (b *block) entries(name string) []named {
	var list []named
	for _, e := range b.items(name) {
		if s, ok := b.l.to(e.v, cty.String, e.r, "Each entry of "+quoted(name)); ok {
			list = append(list, named{b.l.clean(s.AsString(), e.r, name), e.r})
		}
	}
	return list
}

// flatten takes a value, or a list of them, to a list.
func (l *loader) flatten(v cty.Value, r hcl.Range, name string) []cty.Value {
	if v.IsNull() {
		l.errorAt(r, "Wrong type", fmt.Sprintf("%q is null. Leave it out instead.", name))
		return nil
	}
	t := v.Type()
	if !(t.IsTupleType() || t.IsListType() || t.IsSetType()) {
		return []cty.Value{v}
	}
	if v.LengthInt() == 0 {
		l.emptyList(r, name)
		return nil
	}
	var all []cty.Value
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		all = append(all, l.flatten(e, r, name)...)
	}
	return all
}

// boolean reads true or false.
func (b *block) boolean(name string, otherwise bool) bool {
	v, r, ok := b.value(name)
	if !ok {
		return otherwise
	}
	x, ok := b.l.to(v, cty.Bool, r, quoted(name))
	return ok && x.True() || !ok && otherwise
}

// number reads a whole number between two bounds.
func (b *block) number(name string, lo, hi int) int {
	v, r, ok := b.value(name)
	if !ok {
		return 0
	}
	x, ok := b.l.to(v, cty.Number, r, quoted(name))
	if !ok {
		return 0
	}
	n, accuracy := x.AsBigFloat().Int64()
	if accuracy != big.Exact || n < int64(lo) || n > int64(hi) {
		b.l.errorAt(r, "Number out of range", fmt.Sprintf("%q must be a whole number from %d to %d.", name, lo, hi))
		return 0
	}
	return int(n)
}

// maxDuration keeps sums of durations far from overflow.
const maxDuration = 10 * 365 * 24 * time.Hour

// duration reads a time span: "200ms", "30s", "1h30m", "7d". What it means must be more than nothing.
func (b *block) duration(name string) time.Duration {
	s := b.text(name)
	if s == "" {
		if b.has(name) && !b.l.diags.HasErrors() {
			b.l.errorAt(b.rng(name), "Wrong duration", durationHelp(name))
		}
		return 0
	}
	d, ok := parseDuration(s)
	if !ok || d <= 0 || d > maxDuration {
		b.l.errorAt(b.rng(name), "Wrong duration", durationHelp(name))
		return 0
	}
	return d
}

func durationHelp(name string) string {
	return fmt.Sprintf(`%q must be a time span longer than nothing, with its unit: "200ms", "30s", "5m", "1h30m", "7d".`, name)
}

// parseDuration is time.ParseDuration with days in front.
func parseDuration(s string) (time.Duration, bool) { return expr.ParseLength(s) }
