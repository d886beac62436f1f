package admin

import (
	"maps"
	"sync"
	"sync/atomic"
)

// other stands for all labels beyond the bound of a cache.
const other = "other"

// maxChildren bounds each family, maxTimed those with histograms, which take some 3 KB each. Labels come from configurations, and a process
// may see many of those in its life.
const (
	maxChildren = 10_000
	maxTimed    = 1000
)

// cache keeps metrics by their labels. Reading what has been there for a while takes no lock and allocates nothing (a sync.Map
// would allocate its key). What is new stays behind the lock until it has been asked for as often as there are entries; then all
// of it is published at once, so that growing costs a constant time an entry. The zero value is empty.
type cache[K comparable, V any] struct {
	published atomic.Pointer[map[K]V] // never written
	mu        sync.Mutex
	all       map[K]V // what is published and what is new; nil = nothing is new
	misses    int
	most      int // entries, beside those for overflow; 0 = maxChildren
}

func (c *cache[K, V]) get(k K) (v V, ok bool) {
	if m := c.published.Load(); m != nil {
		v, ok = (*m)[k]
	}
	return v, ok
}

// put returns what is kept for k, made by create if need be; once there are maxChildren, what is kept for overflow.
func (c *cache[K, V]) put(k, overflow K, create func(K) V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		if v, ok := c.get(k); ok {
			return v
		}
		c.all = map[K]V{}
		if m := c.published.Load(); m != nil {
			c.all = maps.Clone(*m)
		}
	}
	v, ok := c.all[k]
	if !ok && len(c.all) >= c.limit() {
		k = overflow
		v, ok = c.all[k]
	}
	if !ok {
		v = create(k)
		c.all[k] = v
	}
	if c.misses++; c.misses >= len(c.all) {
		m := c.all
		c.published.Store(&m)
		c.all, c.misses = nil, 0
	}
	return v
}

func (c *cache[K, V]) limit() int {
	if c.most > 0 {
		return c.most
	}
	return maxChildren
}

// drop forgets all that gone says.
func (c *cache[K, V]) drop(gone func(K, V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.all
	if m == nil {
		p := c.published.Load()
		if p == nil {
			return
		}
		m = maps.Clone(*p)
	}
	maps.DeleteFunc(m, gone)
	c.published.Store(&m)
	c.all, c.misses = nil, 0
}

// each calls f for everything there is. f must not call the cache.
func (c *cache[K, V]) each(f func(K, V)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.all
	if m == nil {
		if p := c.published.Load(); p != nil {
			m = *p
		}
	}
	for k, v := range m {
		f(k, v)
	}
}

// peek returns what is kept for k, also when it is new, and makes nothing.
func (c *cache[K, V]) peek(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all != nil {
		v, ok = c.all[k]
		return v, ok
	}
	return c.get(k)
}
