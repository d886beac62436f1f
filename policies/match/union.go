package match

// Union walks several ascending sets of clauses as one, in ascending order and without repeating a clause. It is meant
// for the handful of sets that a lookup finds, and for decisions that mostly end at one of the first candidates; see
// [Bits] for intersections. A step looks at the head of every set that is left.
type Union struct{ sets [][]uint32 }

// MakeUnion begins a walk over sets, each ascending and without repeats. The walk uses up the outer slice, not the sets themselves.
func MakeUnion(sets [][]uint32) Union { return Union{sets} }

// Next returns the next clause, or false at the end.
func (u *Union) Next() (clause uint32, ok bool) {
	for i := 0; i < len(u.sets); {
		s := u.sets[i]
		if len(s) == 0 {
			last := len(u.sets) - 1
			u.sets[i] = u.sets[last]
			u.sets = u.sets[:last]
			continue
		}
		if !ok || s[0] < clause {
			clause, ok = s[0], true
		}
		i++
	}
	for i, s := range u.sets {
		if len(s) > 0 && s[0] == clause {
			u.sets[i] = s[1:]
		}
	}
	return clause, ok
}
