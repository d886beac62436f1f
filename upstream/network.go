package upstream

import "time"

// NetworkChanged says that this machine has other addresses or routes than a moment ago: what was found out of the ways before may not hold
// now. Active checks are made again within a second or so, ejected members may be tried at once, names of proxies are asked for anew, and
// connections that were kept for tunnels to come are given up.
func (t *Table) NetworkChanged() {
	now := time.Now()
	for _, h := range t.hops {
		h.state.names.doubt()
		if h.warm != nil {
			h.warm.drop()
		}
	}
	t.lanes.retire()
	for _, p := range t.pools {
		for _, m := range p.members {
			m.chance(now)
		}
	}
	for _, r := range t.routes {
		if r != nil && r.dynamic != nil {
			r.dynamic.networkChanged(now)
		}
	}
	for _, r := range t.resolvers {
		if r, ok := r.(interface{ NetworkChanged() }); ok {
			r.NetworkChanged()
		}
	}
	if w := t.watcher; w != nil {
		select {
		case w.again <- struct{}{}:
		default:
		}
	}
}

// networkChanged is Table.NetworkChanged for the members of a dynamic route.
func (d *dynamic) networkChanged(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.members {
		m.chance(now)
		if w := m.route.way; w != nil {
			for _, h := range w.hops {
				h.state.names.doubt()
			}
		}
	}
}

// drop closes those that are kept; others may be made.
func (w *warmth) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.idle {
		c.close()
	}
	w.idle = nil
}
