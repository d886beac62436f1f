package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"viaduct/upstream/upstreamtest/peers"
)

// role is what a contender does in a measure.
type role string

const (
	roleConnect  role = "connect"       // a tunnel, straight to the target
	roleHTTPHop  role = "connect-http"  // a tunnel, through an HTTP proxy
	roleSOCKSHop role = "connect-socks" // a tunnel, through a SOCKS5 proxy
	roleSOCKS    role = "socks"         // a tunnel asked for by SOCKS5, straight to the target
	rolePlain    role = "plain"         // plain HTTP requests
	roleOpened   role = "opened"        // a tunnel whose TLS ends at the proxy
	roleNTLMHop  role = "connect-ntlm"  // a tunnel, through an HTTP proxy that wants NTLM
	rolePAC      role = "pac"           // a PAC script is run; no door
	roleJournal  role = "journal"       // a tunnel, straight to the target, to see what the journal costs
	roleRecords  role = "records"       // records are written; no door
	rolePlan     role = "plan"          // records are replayed; no door
)

// contender is one program in one configuration.
type contender struct {
	name, title string
	program     string // that must be installed
	note        string // how it is configured, for the report
	roles       []role // the first is the one for what any tunnel can show: bulk, idle, latency, system calls
	measures    []string
	heavy       int // divides the units of a sample: what costs more needs fewer of them
	start       func(ctx context.Context, e *env, r role, target string) (*process, error)
}

// env is what contenders are started with.
type env struct {
	o        *options
	dir      string
	cpus     cpus
	binary   string // of Viaduct
	built    bool   // ... which was built here
	httpHop  string // "host:port" of the next hops, in this process
	socksHop string
	ntlmHop  string
	pac      *pacFiles
	journal  string   // directory of the one that is replayed
	ntlm     *ntlmHop // what is there
	origin   *origin

	authorities *authorities
}

// process is a contender that runs.
type process struct {
	contender *contender
	doors     map[role]door
	target    string // the only one it leads to; "" = any
	pids      func() []int
	stop      func() error
}

const (
	floorName   = "floor"
	viaductName = "viaduct"
)

// contenders are all of them, in the order of the report.
var contenders = []*contender{
	{name: floorName, title: "bare Go relay", roles: []role{roleConnect, roleHTTPHop, roleSOCKSHop, roleSOCKS, roleOpened, roleJournal},
		note: "the floor: accept, read, dial, copy with package net; no policy, log, timeout, limit or TCP keepalive", start: startFloor},
	{name: "copying", title: "copying Go relay", roles: []role{roleConnect}, measures: []string{"bulk"},
		note: "the same without splice: 32 KiB buffers", start: startFloor},
	{name: viaductName, title: "Viaduct, everything on", roles: []role{roleConnect, roleHTTPHop, roleSOCKSHop, roleSOCKS, rolePlain, roleOpened, roleNTLMHop, rolePAC},
		note: "1,000 rules, a list of 100,000 hosts, records to a file and to the journal, both log lines to a file", start: startViaduct},
	{name: "viaduct-bare", title: "Viaduct, bare policy", roles: []role{roleConnect, roleHTTPHop, roleSOCKSHop, roleSOCKS, rolePlain, roleOpened, roleNTLMHop},
		note: "five rules, no records, no journal, only errors logged", start: startViaductBare},
	{name: noJournalName, title: "Viaduct, no journal", roles: []role{roleJournal}, measures: []string{"journal"},
		note: "the bare policy", start: startViaductBare},
	{name: journalName, title: "Viaduct, journal", roles: []role{roleJournal}, measures: []string{"journal"},
		note: "the bare policy with the journal on", start: startViaductJournal},
	{name: "journal-writer", title: "journal's writer", roles: []role{roleRecords}, measures: []string{"records"},
		note: "records of CONNECT tunnels through one hop, on one CPU", start: startCommand},
	{name: "viaduct-plan", title: "viaduct plan", roles: []role{rolePlan}, measures: []string{"plan"},
		note: "1,000 rules, both CPUs", start: startCommand},
	{name: "squid", title: "squid", program: "squid", heavy: 4, roles: []role{roleConnect, roleHTTPHop, rolePlain},
		note: "one process, no cache, memory_pools off, no access log", start: startSquid},
	{name: "squid-bump", title: "squid, ssl_bump", program: "squid-openssl", heavy: 1, roles: []role{roleOpened}, measures: openedMeasures,
		note: "as squid, with ssl_bump peek and bump, one certificate helper", start: startSquidBump},
	{name: "mitmproxy", title: "mitmproxy", program: "mitmdump", heavy: 4, roles: []role{roleOpened}, measures: openedMeasures,
		note: "mitmdump --quiet, no scripts", start: startMitmproxy},
	{name: "pactester", title: "pactester", program: "pactester", roles: []role{rolePAC}, measures: []string{"pac"}, note: "of libpacparser", start: startPAC},
	{name: "cntlm", title: "cntlm", program: "cntlm", roles: []role{roleNTLMHop}, measures: []string{"connect-ntlm"},
		note: "Auth NTLMv2, no log", start: startCntlm},
	{name: "tinyproxy", title: "tinyproxy", program: "tinyproxy", roles: []role{roleConnect, roleHTTPHop, roleSOCKSHop, rolePlain},
		note: "errors logged alone; closes after each plain request, so each costs a connection", start: startTinyproxy},
	{name: "dante", title: "dante", program: "danted", heavy: 4, roles: []role{roleSOCKS},
		note: "errors logged alone, no authentication", start: startDante},
	{name: "microsocks", title: "microsocks", program: "microsocks", roles: []role{roleSOCKS}, note: "no authentication; it logs every connection, to a file", start: startMicrosocks},
	{name: "haproxy", title: "haproxy, TCP", program: "haproxy", roles: []role{roleConnect}, note: "mode tcp, one backend: nobody asks, nothing is decided; no log", start: startHAProxy},
	{name: "haproxy-http", title: "haproxy, HTTP", program: "haproxy", roles: []role{rolePlain}, measures: []string{"plain"},
		note: "mode http, one backend, keep-alive on both sides, http-reuse always, no log", start: startHAProxy},
}

func contenderNames() []string {
	var names []string
	for _, c := range contenders {
		names = append(names, c.name)
	}
	return names
}

func (c *contender) plays(r role) bool {
	for _, have := range c.roles {
		if have == r {
			return true
		}
	}
	return false
}

// units is how many of n units c is given.
func (c *contender) units(n int) int { return max(n/max(c.heavy, 1), 16) }

// fromPeer makes a process of one that package peers has started.
func fromPeer(p *peers.Proc, err error, r role, s speech) (*process, error) {
	if err != nil {
		return nil, err
	}
	return &process{doors: map[role]door{r: {p.Addr(), s}}, pids: p.Pids, stop: p.Close}, nil
}

func startSquid(ctx context.Context, e *env, r role, _ string) (*process, error) {
	o := peers.SquidOptions{NoAccessLog: true}
	if r == roleHTTPHop {
		o.Parent = e.httpHop
		p, err := peers.Squid(ctx, e.dir, o)
		return fromPeer(p, err, r, speakCONNECT)
	}
	p, err := peers.Squid(ctx, e.dir, o)
	q, err := fromPeer(p, err, roleConnect, speakCONNECT)
	if err == nil {
		q.doors[rolePlain] = q.doors[roleConnect]
	}
	return q, err
}

func startTinyproxy(ctx context.Context, e *env, r role, _ string) (*process, error) {
	o := peers.TinyproxyOptions{Quiet: true}
	switch r {
	case roleHTTPHop:
		o.Upstream = "http " + e.httpHop
	case roleSOCKSHop:
		o.Upstream = "socks5 " + e.socksHop
	}
	p, err := peers.Tinyproxy(ctx, e.dir, o)
	q, err := fromPeer(p, err, r, speakCONNECT)
	if err == nil && o.Upstream == "" {
		d := q.doors[r]
		q.doors[roleConnect], q.doors[rolePlain] = d, d
	}
	return q, err
}

func startDante(ctx context.Context, e *env, r role, _ string) (*process, error) {
	p, err := peers.Dante(ctx, e.dir, peers.DanteOptions{Quiet: true})
	return fromPeer(p, err, r, speakSOCKS5)
}

func startMicrosocks(ctx context.Context, e *env, r role, _ string) (*process, error) {
	p, err := peers.Microsocks(ctx, e.dir, peers.MicrosocksOptions{})
	return fromPeer(p, err, r, speakSOCKS5)
}

func startHAProxy(ctx context.Context, e *env, r role, target string) (*process, error) {
	p, err := peers.HAProxy(ctx, e.dir, peers.HAProxyOptions{Backend: target, HTTP: r == rolePlain})
	q, err := fromPeer(p, err, r, speakNothing)
	if err == nil {
		q.target = target
	}
	return q, err
}

// startFloor starts this program as a bare relay: one process for each way, because it has no rules to choose one by.
func startFloor(ctx context.Context, e *env, r role, _ string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{bareCommand}
	switch r {
	case roleHTTPHop:
		args = append(args, "-hop", e.httpHop)
	case roleSOCKSHop:
		args = append(args, "-hop", e.socksHop, "-hop-socks")
	case roleOpened:
		args = append(args, "-opened", e.dir)
	}
	return e.bare(ctx, self, args, r)
}

func (e *env) bare(ctx context.Context, self string, args []string, r role) (*process, error) {
	cmd := exec.CommandContext(ctx, self, args...)
	in, err := cmd.StdinPipe() // when it is closed, even by our death, the child ends
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() error {
		in.Close()
		return cmd.Wait()
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, fmt.Errorf("the bare relay says no address: %w", err)
	}
	addr = strings.TrimSpace(addr)
	pids := []int{cmd.Process.Pid}
	p := &process{doors: map[role]door{r: {addr, speakCONNECT}}, pids: func() []int { return pids }, stop: stop}
	if r == roleSOCKS {
		p.doors[r] = door{addr, speakSOCKS5}
	}
	return p, nil
}

// ended waits for a command that was told to end, and kills it after a while.
func ended(cmd *exec.Cmd, sig syscall.Signal) error {
	done := make(chan error, 1)
	cmd.Process.Signal(sig)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		<-done
		return fmt.Errorf("%s did not end within 10 s of %v", cmd.Path, sig)
	}
}
