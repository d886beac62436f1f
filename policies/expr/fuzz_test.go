package expr

import (
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FuzzCompile compiles any source. Nothing may panic or take long; what compiles must evaluate, and agree with itself.
func FuzzCompile(f *testing.F) {
	for _, tt := range valueTable {
		f.Add(tt.src)
	}
	for _, tt := range invalidTable {
		f.Add(tt.src)
	}
	context := consts()
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 2000 {
			return
		}
		e, diags := hclsyntax.ParseExpression([]byte(src), "t.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			return
		}
		start := time.Now()
		c, diags := Compile(e, context, Options{Listeners: []string{"desk", "lan"}, Country: country})
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
		if (c == nil) != diags.HasErrors() {
			t.Fatalf("condition %v with %v", c, diags)
		}
		for _, d := range diags {
			if d.Subject == nil || d.Detail == "" {
				t.Errorf("incomplete: %+v", d)
			}
		}
		if c == nil {
			return
		}
		fixed, constant := c.Constant()
		for _, facts := range facts() {
			v, need := c.Test(facts)
			if need == 0 && v != c.Eval(facts) || constant && v != fixed {
				t.Errorf("%s: Eval gives %v, Test %v, Constant %v", src, c.Eval(facts), v, fixed)
			}
			_ = c.Describe(facts)
		}
	})
}
