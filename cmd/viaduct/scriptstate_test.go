package main

import (
	"net"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// tunnels keeps what scripts hold open, by script and name, because commands have no state of their own.
type tunnels struct {
	mu     sync.Mutex
	open   map[*testscript.TestScript]map[tunnelKey]tunnelValue
	daemon map[*testscript.TestScript]*net.UnixConn
}

func newTunnels() *tunnels {
	return &tunnels{open: map[*testscript.TestScript]map[tunnelKey]tunnelValue{}, daemon: map[*testscript.TestScript]*net.UnixConn{}}
}

func (t *tunnels) put(ts *testscript.TestScript, name tunnelKey, v tunnelValue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[ts] == nil {
		t.open[ts] = map[tunnelKey]tunnelValue{}
	}
	t.open[ts][name] = v
}

func (t *tunnels) get(ts *testscript.TestScript, name tunnelKey) tunnelValue {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.open[ts][name]
	if !ok {
		ts.Fatalf("there is no tunnel %s", name)
	}
	return v
}

func (t *tunnels) putNotify(ts *testscript.TestScript, c *net.UnixConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.daemon[ts] = c
}

func (t *tunnels) notify(ts *testscript.TestScript) *net.UnixConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.daemon[ts]
	if c == nil {
		ts.Fatalf("notifysocket comes first")
	}
	return c
}
