package policies

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// didYouMean is a sentence with the nearest of the names, or "" if none is near.
func didYouMean(given string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(n), nil); d < at && d < len(n) {
			best, at = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// maxNamed is how many names a message lists.
const maxNamed = 8

// didYouMeanOr suggests a name, or lists what there is.
func didYouMeanOr(given string, names []string, what string) string {
	if s := didYouMean(given, names); s != "" {
		return s
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf(" No %s is declared.", what)
	case len(names) > maxNamed:
		return fmt.Sprintf(" There are: %s, …", strings.Join(names[:maxNamed], ", "))
	}
	return fmt.Sprintf(" There are: %s.", strings.Join(names, ", "))
}

// article puts "a" or "an" before a kind of block.
func article(kind string) string {
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}

// oneOf lists values in quotes.
func oneOf(values []string) string {
	return `"` + strings.Join(values, `", "`) + `"`
}

const maxTitle = 200

var loneName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_-]*$`)

// checkName wants a name that a reference can hold.
func (l *loader) checkName(name string, r hcl.Range, kind string) {
	if !hclsyntax.ValidIdentifier(name) || !loneName.MatchString(name) || len(name) > maxTitle {
		l.errorAt(r, "Invalid name", fmt.Sprintf("The name of %s must begin with a letter and hold letters, digits, _ and - only, so that %s.NAME can refer to it.", article(kind), kind))
		l.lost = true // whoever means it cannot say so
	}
}

// checkTitle wants a text that fits into a line of a log.
func (l *loader) checkTitle(name string, r hcl.Range, what string) bool {
	bad := name == "" || len(name) > maxTitle || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
	if bad {
		l.errorAt(r, "Invalid name", fmt.Sprintf("The name of a %s must be a text of one line, at most %d bytes long, without blanks at its ends.", what, maxTitle))
	}
	return !bad
}
