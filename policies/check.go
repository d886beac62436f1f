package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"viaduct/policies/pac"
)

// CheckHost reports whether a text can stand in match { host }, for programs that write policies.
func CheckHost(pattern string) error {
	_, err := parseHost(pattern)
	return err
}

// CheckHeader reports whether headers { set } takes a field of that name.
func CheckHeader(name string) error {
	switch {
	case !isToken(name):
		return fmt.Errorf("%q is no name of a header field", name)
	case slices.Contains(ownFields, strings.ToLower(name)):
		return errors.New("the field belongs to the connection")
	}
	return nil
}

// CheckPACURL reports whether pac { url } takes a text.
func CheckPACURL(text string) error { return pac.CheckURL(text) }
