package source

import (
	"fmt"
	"slices"
	"testing"
)

func TestTeller(t *testing.T) {
	var told []string
	s := NewTeller(func(problem bool, text string) { told = append(told, fmt.Sprint(problem, " ", text)) })
	s.Say(true, "dial 127.0.0.1:%d: refused", 1)
	s.Say(true, "dial 127.0.0.1:%d: refused", 2) // the same, but for a port
	s.Say(true, "it is a page")
	s.Say(true, "dial 127.0.0.1:%d: refused", 3)
	s.Say(false, "a new copy")
	s.Say(false, "a new copy")
	s.Say(true, "dial 127.0.0.1:%d: refused", 4)
	s.Over()
	s.Say(true, "dial 127.0.0.1:%d: refused", 5)
	want := []string{"true dial 127.0.0.1:1: refused", "true it is a page", "true dial 127.0.0.1:3: refused", "false a new copy", "false a new copy",
		"true dial 127.0.0.1:4: refused", "true dial 127.0.0.1:5: refused"}
	if !slices.Equal(told, want) {
		t.Errorf("%q", told)
	}
	NewTeller(nil).Say(true, "nobody is told")
}
