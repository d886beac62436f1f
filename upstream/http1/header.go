package http1

import (
	"iter"
	"strings"
)

// Field is one field line: name and value as received, without the white space
// around the value.
type Field struct{ Name, Value string }

// Header is the fields of a message in the order they came. Names are compared
// without regard to case. Strings of a parsed head share one allocation: a
// value that outlives the message should be cloned.
type Header []Field

// Get returns the value of the first field of that name, "" if there is none.
func (h Header) Get(name string) string {
	for i := range h {
		if equalFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field of that name, even an empty one.
func (h Header) Has(name string) bool {
	for i := range h {
		if equalFold(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Count is the number of field lines of that name.
func (h Header) Count(name string) (n int) {
	for i := range h {
		if equalFold(h[i].Name, name) {
			n++
		}
	}
	return n
}

// Values yields the value of every field line of that name, in order.
func (h Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h {
			if equalFold(h[i].Name, name) && !yield(h[i].Value) {
				return
			}
		}
	}
}

// Add appends a field. It is checked when it is written.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set replaces the fields of that name by one: the first stays in its place.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if equalFold((*h)[i].Name, name) {
			(*h)[i].Value = value
			tail := (*h)[i+1:]
			tail.Del(name)
			*h = (*h)[:i+1+len(tail)]
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field of that name, keeping the order of the others.
func (h *Header) Del(name string) {
	h.deleteFunc(func(f Field) bool { return equalFold(f.Name, name) })
}

func (h *Header) deleteFunc(drop func(Field) bool) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !drop(f) {
			kept = append(kept, f)
		}
	}
	*h = kept
}

// Clone is a copy that shares no memory with the message it came from.
func (h Header) Clone() Header {
	if h == nil {
		return nil
	}
	c := make(Header, len(h))
	for i, f := range h {
		c[i] = Field{strings.Clone(f.Name), strings.Clone(f.Value)}
	}
	return c
}

// Tokens yields the elements of a comma-separated list spread over the field
// lines of that name (RFC 9110 5.6.1), trimmed, without empty ones.
func (h Header) Tokens(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h {
			if !equalFold(h[i].Name, name) {
				continue
			}
			for rest := h[i].Value; rest != ""; {
				var t string
				t, rest = cutList(rest)
				if t != "" && !yield(t) {
					return
				}
			}
		}
	}
}

// HasToken reports whether the list of that name holds the token, in any case.
func (h Header) HasToken(name, token string) bool {
	for t := range h.Tokens(name) {
		if equalFold(t, token) {
			return true
		}
	}
	return false
}

// cutList takes the first element off a comma-separated list.
func cutList(s string) (first, rest string) {
	if i := strings.IndexByte(s, ','); i >= 0 {
		return trimOWS(s[:i]), s[i+1:]
	}
	return trimOWS(s), ""
}
