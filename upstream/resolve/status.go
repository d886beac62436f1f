package resolve

import "time"

// Status is how a Client is at a moment.
type Status struct {
	Name     string
	Lookups  uint64 // names asked for, addresses not counted
	Hits     uint64 // of those, answered from the cache
	Stale    uint64 // answered by what is past its time
	Hosts    uint64 // answered by what is written
	Failures uint64 // without an address, not counting those from the cache
	Entries  int    // in the cache
	InFlight int
	Servers  []ServerStatus // of all groups, the one for all names last
}

// ServerStatus is how one name server is.
type ServerStatus struct {
	Suffix    string // of the names that it is asked for; "" = all
	Server    string
	Via       string
	Queries   uint64 // sent to it
	Failures  uint64 // without an answer, or that it could not find out
	Results   map[string]uint64
	Latency   time.Duration // moving average; 0 = it has not answered yet
	Resting   bool          // it did not answer, and is asked after the others
	LastError string
	LastTime  time.Time
}

// Status returns how c is.
func (c *Client) Status() Status {
	st := Status{Name: c.o.Name, Lookups: c.lookups.Load(), Hits: c.hits.Load(), Stale: c.stale.Load(), Hosts: c.written.Load(), Failures: c.failures.Load(), Entries: c.cache.len()}
	c.mu.Lock()
	st.InFlight = len(c.flights)
	c.mu.Unlock()
	now := c.now()
	for _, g := range c.groups {
		if g.system {
			st.Servers = append(st.Servers, ServerStatus{Suffix: g.suffix, Server: FromSystem})
		}
		for _, s := range g.servers {
			x := ServerStatus{Suffix: g.suffix, Server: s.label, Via: s.via, Queries: s.queries.Load(), Failures: s.failures.Load(), Latency: time.Duration(s.latency.Load()), Results: map[string]uint64{}}
			for r := range results {
				x.Results[r.String()] = s.counts[r].Load()
			}
			s.mu.Lock()
			x.Resting, x.LastError, x.LastTime = s.until.After(now), s.last, s.at
			s.mu.Unlock()
			st.Servers = append(st.Servers, x)
		}
	}
	return st
}
