package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// notYet is the summary for what the language has a place for and this version does not do. It is an error: a policy that
// seems to do what it does not is worse than none.
const notYet = "Not in this version"

// Parts of the language that are not in this version, by the block they stand in; "" is the file. They are known so that
// nobody looks for a misspelling.
var (
	laterParts = map[string][]string{
		"gateway": {"journal"},
	}
)

// content reports what a block, or a file, has in it that its schema does not know.
func (l *loader) content(diags hcl.Diagnostics, parent string) {
	for _, d := range diags {
		if d.Subject == nil || !slices.Contains([]string{"Unsupported argument", "Unsupported block type", "Extraneous JSON object property"}, d.Summary) {
			continue
		}
		src := l.sources[d.Subject.Filename]
		if !d.Subject.CanSliceBytes(src) {
			continue
		}
		if name := strings.Trim(string(d.Subject.SliceBytes(src)), `"`); slices.Contains(laterParts[parent], name) {
			d.Summary, d.Detail = notYet, fmt.Sprintf("%q is not in this version. Leave it out.", name)
		}
	}
	l.lost = l.lost || diags.HasErrors()
	l.ofHCL(diags)
}
