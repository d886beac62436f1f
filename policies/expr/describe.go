package expr

import (
	"strings"

	"viaduct/connmodel"
)

// use is a name that a condition looks at.
type use struct {
	text string
	show func(dst []byte, f *connmodel.Facts) []byte
}

// used notes a name, once.
func (c *compiler) used(text string, show func([]byte, *connmodel.Facts) []byte) {
	for _, u := range c.names {
		if u.text == text {
			return
		}
	}
	c.names = append(c.names, &use{text, show})
}

// Describe shows the names that the condition looks at with their values for f, in the order in which they are written:
// `now.hour = 20, client.user = "anna"`. Texts are cut at 80 bytes, and header fields that carry secrets are hidden. It
// is "" for a condition without names.
func (c *Condition) Describe(f *connmodel.Facts) string {
	var dst []byte
	for i, u := range c.names {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, u.text...)
		dst = append(dst, " = "...)
		dst = u.show(dst, f)
	}
	return string(dst)
}

// Names lists the names of the flow that the condition looks at, in the order in which they are written.
func (c *Condition) Names() []string {
	list := make([]string, len(c.names))
	for i, u := range c.names {
		list[i] = u.text
	}
	return list
}

// UsesRequest reports whether the condition looks at an HTTP request, which tunnels do not have.
func (c *Condition) UsesRequest() bool {
	for _, u := range c.names {
		if strings.HasPrefix(u.text, "request.") {
			return true
		}
	}
	return false
}
