package policies

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns the source of a policy file in its usual layout, comments kept. A file that cannot be parsed comes back
// as it is, with what is wrong. HCL-JSON is left alone: its layout belongs to whatever writes it.
func Format(name string, src []byte) ([]byte, Diagnostics) {
	_, diags := parse(name, src)
	d := Diagnostics{List: diags}
	if len(diags) > 0 {
		sources := map[string][]byte{name: src}
		d = newDiagnostics(diags, sources, hide(sources), func(*hcl.Diagnostic) bool { return true })
	}
	if d.HasErrors() || isJSON(name) {
		return src, d
	}
	return hclwrite.Format(src), d
}
