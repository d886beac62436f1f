package pac

// shExpMatch: `*` takes any characters, `?` exactly one; everything else stands for itself, also brackets and backslashes. It is
// not match.Glob, whose classes PAC scripts do not know. The time is bounded by the product of the lengths, which the prelude bounds.
func globMatch(s, pattern string) bool {
	i, j, star, back := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, back = j, i
			j++
		case j < len(pattern) && pattern[j] == '?':
			i = next(s, i)
			j++
		case j < len(pattern) && pattern[j] == s[i]:
			i++
			j++
		case star >= 0:
			back = next(s, back)
			i, j = back, star+1
		default:
			return false
		}
	}
	for j < len(pattern) && pattern[j] == '*' {
		j++
	}
	return j == len(pattern)
}

// next is the place of the character behind the one at i.
func next(s string, i int) int {
	for i++; i < len(s) && s[i]&0xc0 == 0x80; i++ {
	}
	return i
}
