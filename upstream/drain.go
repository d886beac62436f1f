package upstream

// SetDrained takes a declared upstream out of service for attempts to come, or back, in this table and those that follow it as long as they
// have an upstream of that name. Connections through it go on. It reports whether there is such an upstream, and whether this changed
// anything, and how many connections and attempts go through it now.
func (t *Table) SetDrained(name string, drained bool) (found, changed bool, open int64) {
	h := t.hop(name)
	if h == nil {
		return false, false, 0
	}
	return true, h.out.Swap(drained) != drained, h.state.open.Load()
}
