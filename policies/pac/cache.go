package pac

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps the answers to the last queries. It belongs to one script, so that another script begins anew.
type cache struct {
	mu    sync.Mutex
	most  int
	turn  uint64 // how often everything was forgotten
	all   map[Query]*list.Element
	order list.List // of *cached, the last used in front
}

type known struct {
	answer Answer
	err    error
	until  time.Time
}

type cached struct {
	q Query
	known
}

// maxKey bounds the queries that are kept, in bytes: long ones hardly come twice.
const maxKey = 2 << 10

func newCache(most int) *cache { return &cache{most: most, all: make(map[Query]*list.Element)} }

func (c *cache) get(q Query, now time.Time) (known, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.all[q]
	if el == nil {
		return known{}, false
	}
	k := el.Value.(*cached)
	if now.After(k.until) {
		c.order.Remove(el)
		delete(c.all, q)
		return known{}, false
	}
	c.order.MoveToFront(el)
	return k.known, true
}

// forget makes the cache empty.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	clear(c.all)
	c.order.Init()
}

// now is the turn that an answer belongs to which is asked for now.
func (c *cache) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turn
}

// put keeps an answer, unless everything was forgotten since its turn.
func (c *cache) put(q Query, k known, turn uint64) {
	if len(q.URL)+len(q.Host) > maxKey {
		return
	}
	k.answer.Alerts = nil // they were said
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn != turn {
		return
	}
	if el := c.all[q]; el != nil {
		el.Value.(*cached).known = k
		c.order.MoveToFront(el)
		return
	}
	for len(c.all) >= c.most {
		last := c.order.Back()
		delete(c.all, last.Value.(*cached).q)
		c.order.Remove(last)
	}
	c.all[q] = c.order.PushFront(&cached{q, k})
}
