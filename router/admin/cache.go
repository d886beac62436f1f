package admin

import (
	"maps"
	"sync"
	"sync/atomic"
)

// other stands for all labels beyond the bound of a cache.
const other = "other"

// maxChildren bounds each family. Labels come from configurations, and a process may see many of those in its life.
const maxChildren = 10_000

// cache keeps metrics by their labels. Reading takes no lock and allocates nothing; writing copies the map, which happens a
// few times in the life of a process. The zero value is empty.
type cache[K comparable, V any] struct {
	m  atomic.Pointer[map[K]V]
	mu sync.Mutex
}

func (c *cache[K, V]) get(k K) (v V, ok bool) {
	if m := c.m.Load(); m != nil {
		v, ok = (*m)[k]
	}
	return v, ok
}

// put returns what is kept for k, made by create if need be; once there are maxChildren, what is kept for overflow.
func (c *cache[K, V]) put(k, overflow K, create func(K) V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.m.Load()
	if old != nil {
		if v, ok := (*old)[k]; ok {
			return v
		}
		if len(*old) >= maxChildren {
			k = overflow
			if v, ok := (*old)[k]; ok {
				return v
			}
		}
	}
	fresh := map[K]V{}
	if old != nil {
		fresh = maps.Clone(*old)
	}
	v := create(k)
	fresh[k] = v
	c.m.Store(&fresh)
	return v
}
