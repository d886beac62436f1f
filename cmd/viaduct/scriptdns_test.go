package main

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"viaduct/upstream/upstreamtest"
)

// nameserver NAME HOST=ADDRESS[,ADDRESS][@TTL]...  starts a name server; NAME_tls and NAME_https are its other ends, and NAME.crt their authority
// nameserverdown NAME...                           ends it
func init() {
	scriptCommands["nameserver"], scriptCommands["nameserverdown"] = scriptNameServer, scriptNameServerDown
}

// serversOf is the name servers of the scripts that run.
type serversOf struct{ m sync.Map }

type serverOf struct {
	ts   *testscript.TestScript
	name string
}

var nameServers serversOf

func (s *serversOf) Store(ts *testscript.TestScript, name string, d *upstreamtest.DNS) {
	s.m.Store(serverOf{ts, name}, d)
	ts.Defer(func() { s.m.Delete(serverOf{ts, name}) })
}

func (s *serversOf) Load(ts *testscript.TestScript, name string) *upstreamtest.DNS {
	d, ok := s.m.Load(serverOf{ts, name})
	if !ok {
		ts.Fatalf("there is no name server %q", name)
	}
	return d.(*upstreamtest.DNS)
}

func scriptNameServer(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "nameserver NAME HOST=ADDRESS[@TTL]...")
	names := map[string]upstreamtest.DNSName{}
	for _, a := range args[1:] {
		host, rest, _ := strings.Cut(a, "=")
		addrs, ttl, _ := strings.Cut(rest, "@")
		n := upstreamtest.DNSName{Addrs: strings.Split(addrs, ","), TTL: 300}
		if ttl != "" {
			x, err := strconv.ParseUint(ttl, 10, 32)
			ts.Check(err)
			n.TTL = uint32(x)
		}
		names[host] = n
	}
	ca, err := upstreamtest.NewCA()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), ca.PEM(), 0o644))
	tb := scriptTB{ts}
	d := upstreamtest.NewDNS(tb, names, ca.ServerTLS(tb, "127.0.0.1"))
	setAddress(ts, args[0], d.Addr)
	setAddress(ts, args[0]+"_tls", d.TLSAddr)
	setAddress(ts, args[0]+"_https", d.HTTPSAddr)
	nameServers.Store(ts, args[0], d)
}

func scriptNameServerDown(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		nameServers.Load(ts, name).Close()
	}
}
