package expr

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean is a sentence with the nearest of the names, or "" if none is near.
func didYouMean(given string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if d := distance(strings.ToLower(given), strings.ToLower(n), at); d < at && d < max(len(n), 2) {
			best, at = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// distance is the number of edits (insert, delete, replace, swap of neighbours) between a and b, or limit if it is at
// least that.
func distance(a, b string, limit int) int {
	if len(a) > 64 || len(b) > 64 || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			replace := row[j]
			if a[i] != b[j] {
				replace++
			}
			next[j+1] = min(replace, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return min(row[len(b)], limit)
}

// oneOf lists names for a message.
func oneOf(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	slices.Sort(quoted)
	return strings.Join(quoted, ", ")
}
