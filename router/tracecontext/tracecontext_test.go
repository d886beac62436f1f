package tracecontext

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestParent: the examples of the recommendation and of its test suite.
func TestParent(t *testing.T) {
	for _, c := range []struct {
		value   string
		ok      bool
		sampled bool
	}{
		{good, true, true},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true, true}, // unknown flags
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02", true, false},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true, true}, // a version to come
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future", true, true},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false, false},
		{"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, false},
		{"0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, false},
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false, false},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e473.-00f067aa0ba902b7-01", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", false, false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false, false},
		{" " + good, false, false},
		{good + " ", false, false},
		{"", false, false},
	} {
		s, ok := ParseParent(c.value)
		if ok != c.ok || s.Sampled != c.sampled {
			t.Errorf("%q: %v, sampled %v", c.value, ok, s.Sampled)
		}
		if ok && (s.Trace.String() != "4bf92f3577b34da6a3ce929d0e0e4736" || s.Parent.String() != "00f067aa0ba902b7") {
			t.Errorf("%q: %v %v", c.value, s.Trace, s.Parent)
		}
	}
	s, _ := ParseParent(good)
	s.ID = s.Parent
	if got := string(AppendParent(nil, &s)); got != good {
		t.Error(got)
	}
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		name          string
		parent, state []string
		ok            bool
		want          string
	}{
		{"none", nil, []string{"a=b"}, false, ""},
		{"two", []string{good, good}, []string{"a=b"}, false, ""},
		{"broken", []string{"x"}, []string{"a=b"}, false, ""},
		{"no state", []string{good}, nil, true, ""},
		{"lines are joined", []string{good}, []string{"rojo=1, ,congo=t61 ", "", "x@y=2"}, true, "rojo=1,congo=t61,x@y=2"},
		{"a member twice", []string{good}, []string{"a=1,a=2"}, true, ""},
		{"upper case key", []string{good}, []string{"A=1"}, true, ""},
		{"no value", []string{good}, []string{"a="}, true, ""},
		{"control character", []string{good}, []string{"a=\x1b[31m"}, true, ""},
		{"inner blanks stay", []string{good}, []string{"a=1 2"}, true, "a=1 2"},
		{"system begins with a digit", []string{good}, []string{"t@1=2"}, true, ""},
		{"33 members", []string{good}, []string{members(33)}, true, ""},
		{"32 members", []string{good}, []string{members(32)}, true, members(32)},
		{"too long", []string{good}, []string{"a=" + strings.Repeat("b", 256) + ",b=" + strings.Repeat("c", 256)}, true, ""},
		{"far too long", []string{good}, []string{strings.Repeat(",", 1<<20)}, true, ""},
	} {
		s, ok := Parse(slices.Values(c.parent), slices.Values(c.state))
		if ok != c.ok || s.State != c.want {
			t.Errorf("%s: %v %q", c.name, ok, s.State)
		}
	}
}

func members(n int) string {
	var list []string
	for i := range n {
		list = append(list, "k"+strconv.Itoa(i)+"=1")
	}
	return strings.Join(list, ",")
}

// FuzzParse: what is taken can be passed on, and is taken by the next one as the same.
func FuzzParse(f *testing.F) {
	f.Add(good, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", " a=b , ,c@d=e")
	f.Fuzz(func(t *testing.T, parent, state string) {
		s, ok := Parse(slices.Values([]string{parent}), slices.Values([]string{state}))
		if !ok {
			if s.State != "" || !s.Trace.IsZero() {
				t.Fatal("something is left of what was refused")
			}
			return
		}
		for _, c := range []byte(s.State) {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("%q is passed on", s.State)
			}
		}
		s.ID = s.Parent
		again, ok := Parse(slices.Values([]string{string(AppendParent(nil, &s))}), slices.Values([]string{s.State}))
		again.ID = s.ID
		if !ok || again != s {
			t.Fatalf("%+v became %+v", s, again)
		}
	})
}
