package resolve

import (
	"net/netip"
	"sync"
	"time"
)

// entry is what is known of a name. It is not changed once it is in the cache.
type entry struct {
	addrs  []netip.Addr
	err    *Error // set instead of addrs
	server string
	from   string    // FromServer, or FromSystem
	until  time.Time // good until then
	stale  time.Time // and, where nobody answers, until then
}

// cache keeps entries, at most as many as size says. Room is made where chance points: of a few entries the one that would
// have ended first.
type cache struct {
	mu      sync.RWMutex
	entries map[string]*entry
	size    int
	flushed uint64 // how often
}

// state is what an entry is put for: once the cache was flushed it is another.
func (c *cache) state() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.flushed
}

// get returns the entry of a name, which may have ended; nil = there is none.
func (c *cache) get(name string) *entry {
	c.mu.RLock()
	e := c.entries[name]
	c.mu.RUnlock()
	return e
}

// put keeps an entry, unless the cache was flushed since of.
func (c *cache) put(name string, e *entry, of uint64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of != c.flushed {
		return
	}
	if _, there := c.entries[name]; !there && len(c.entries) >= c.size {
		c.makeRoom(now)
	}
	c.entries[name] = e
}

// makeRoom takes out what has ended among some entries, or one of them.
func (c *cache) makeRoom(now time.Time) {
	const looks = 16
	var first string
	var ends time.Time
	n, freed := 0, false
	for name, e := range c.entries {
		end := e.until
		if e.stale.After(end) {
			end = e.stale
		}
		if end.Before(now) {
			delete(c.entries, name)
			freed = true
		} else if first == "" || end.Before(ends) {
			first, ends = name, end
		}
		if n++; n == looks {
			break
		}
	}
	if !freed {
		delete(c.entries, first)
	}
}

// remove takes out an entry that has ended.
func (c *cache) remove(name string, e *entry) {
	c.mu.Lock()
	if c.entries[name] == e {
		delete(c.entries, name)
	}
	c.mu.Unlock()
}

// flush forgets what was not found, and makes addresses end: they may still stand in where nobody answers.
func (c *cache) flush(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushed++
	for name, e := range c.entries {
		if e.err != nil || !e.stale.After(now) {
			delete(c.entries, name)
			continue
		}
		if e.until.After(now) {
			ended := *e
			ended.until = now
			c.entries[name] = &ended
		}
	}
}

func (c *cache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}
