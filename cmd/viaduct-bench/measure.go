package main

import (
	"context"
	"fmt"
	"time"
)

// metric is one number that a measure gives for each contender.
type metric struct {
	key, title, unit string
	raw              bool // ratios say nothing: the floor may be 0, or less noise than the rest
	more             bool // more is better
}

// measured is something that contenders are compared by.
type measured struct {
	name     string
	role     role // that a contender must play; "" = its first one
	metrics  []metric
	fresh    bool // needs processes that have done nothing before
	rounds   int  // at most; 0 = all
	programs []string
	sample   func(ctx context.Context, b *bench, p *process, d door) ([]float64, error)
}

const perTunnel = "CPU µs of the proxy per tunnel"

// measures are in the order in which they are taken: idle tunnels first, while the kernel holds nothing of past connections.
var measures = []*measured{
	{name: "idle", fresh: true, rounds: 3, sample: sampleIdle, metrics: []metric{
		{key: "idle-memory", title: "Idle tunnels: memory of the process", unit: "bytes per tunnel"},
		{key: "idle-total", title: "Idle tunnels: memory of the process, with all that it had before", unit: "MB"},
		{key: "idle-descriptors", title: "Idle tunnels: descriptors of the process", unit: "per tunnel"},
		{key: "idle-pipes", title: "Idle tunnels: descriptors that are pipes", unit: "per tunnel", raw: true},
		{key: "idle-kernel", title: "Idle tunnels: kernel memory (Slab + KernelStack + PageTables + TCP buffers of the whole machine, the two peers' sockets included)", unit: "bytes per tunnel"},
	}},
	{name: "syscalls", rounds: 1, programs: []string{"strace"}, sample: sampleSyscalls, metrics: []metric{
		{key: "syscalls", title: "System calls of a new tunnel", unit: "per tunnel, without those for waiting, scheduling and memory"},
		{key: "syscalls-all", title: "System calls of a new tunnel: all of them", unit: "per tunnel, one at a time"},
	}},
	{name: "connect", role: roleConnect, sample: sampleTunnels, metrics: []metric{
		{key: "connect", title: "New CONNECT tunnel, direct (connect, ask, 1-byte echo, close; 16 clients)", unit: perTunnel}}},
	{name: "journal", role: roleJournal, sample: sampleTunnels, metrics: []metric{
		{key: "journal", title: "New CONNECT tunnel with the journal and without", unit: perTunnel}}},
	{name: "records", role: roleRecords, sample: sampleWriter, metrics: []metric{
		{key: "records", title: "Record into the journal", unit: "CPU µs per record"},
		{key: "records-rate", title: "Records into the journal: rate", unit: "records/s, one CPU", more: true}}},
	{name: "plan", role: rolePlan, rounds: 3, sample: samplePlan, metrics: []metric{
		{key: "plan-rate", title: "Replay of the journal by viaduct plan: rate", unit: "records/s, both CPUs", more: true},
		{key: "plan-million", title: "Replay of the journal by viaduct plan: time for a million records", unit: "s, both CPUs"},
		{key: "plan", title: "Replay of the journal by viaduct plan", unit: "CPU µs per record"}}},
	{name: "connect-http", role: roleHTTPHop, sample: sampleTunnels, metrics: []metric{
		{key: "connect-http", title: "New CONNECT tunnel through one HTTP hop", unit: perTunnel}}},
	{name: "connect-socks", role: roleSOCKSHop, sample: sampleTunnels, metrics: []metric{
		{key: "connect-socks", title: "New CONNECT tunnel through one SOCKS5 hop", unit: perTunnel}}},
	{name: "connect-ntlm", role: roleNTLMHop, sample: sampleNTLM, metrics: []metric{
		{key: "connect-ntlm", title: "New CONNECT tunnel through one HTTP hop that wants NTLMv2", unit: perTunnel},
		{key: "connect-ntlm-rate", title: "New CONNECT tunnels through that hop: rate", unit: "tunnels/s, 16 clients", more: true}}},
	{name: "socks", role: roleSOCKS, sample: sampleTunnels, metrics: []metric{
		{key: "socks", title: "New SOCKS5 tunnel, direct", unit: perTunnel}}},
	{name: "plain", role: rolePlain, sample: samplePlain, metrics: []metric{
		{key: "plain", title: "Plain HTTP request, keep-alive, 1 KiB back", unit: "CPU µs of the proxy per request"}}},
	{name: "pac", role: rolePAC, sample: samplePAC, metrics: []metric{
		{key: "pac", title: "PAC script of 120 rules, none of which matches", unit: "CPU µs per evaluation"},
		{key: "pac-rate", title: "PAC script: rate", unit: "evaluations/s, one after the other", more: true}}},
	{name: "opened", role: roleOpened, sample: sampleOpenedRequests, metrics: []metric{
		{key: "opened", title: "Intercepted HTTPS request, keep-alive, 1 KiB back", unit: "CPU µs of the proxy per request"},
		{key: "opened-rate", title: "Intercepted HTTPS requests: rate", unit: "requests/s, 16 clients", more: true}}},
	{name: "opened-tunnel", role: roleOpened, sample: sampleOpenedTunnels, metrics: []metric{
		{key: "opened-tunnel", title: "New intercepted tunnel (CONNECT, handshakes with client and server, one request, close)", unit: perTunnel},
		{key: "opened-tunnel-rate", title: "New intercepted tunnels: rate", unit: "handshakes with clients/s, 16 clients", more: true}}},
	{name: "bulk", sample: sampleBulk, metrics: []metric{
		{key: "bulk", title: "Download through one tunnel", unit: "CPU ms of the proxy per GB"},
		{key: "bulk-rate", title: "Download through one tunnel: rate", unit: "GB/s", more: true},
	}},
	{name: "latency", sample: sampleLatency, metrics: []metric{
		{key: "rtt", title: "Round trip in an open tunnel: median", unit: "µs added to the median without a proxy"},
		{key: "rtt-p99", title: "Round trip in an open tunnel: 99th percentile", unit: "µs added to the median without a proxy"},
	}},
}

// openedMeasures are those of contenders that only open tunnels.
var openedMeasures = []string{"opened", "opened-tunnel"}

func measureNames() []string {
	var names []string
	for _, m := range measures {
		names = append(names, m.name)
	}
	return names
}

// roleOf returns what c does in m, and whether it takes part.
func (m *measured) roleOf(c *contender) (role, bool) {
	if len(c.measures) > 0 && !wants(c.measures, m.name) {
		return "", false
	}
	if m.role != "" {
		return m.role, c.plays(m.role)
	}
	return c.roles[0], true
}

// target is where the load of m leads.
func (m *measured) target(o *origin) string {
	switch m.name {
	case "plain":
		return o.http
	case "bulk":
		return o.bulk
	case "opened", "opened-tunnel":
		return o.https
	}
	return o.echo
}

// work runs load and returns the CPU time that the process spent on it, all of it.
func (b *bench) work(p *process, load func() error) (time.Duration, error) {
	before := cpuTime(p.pids())
	if err := load(); err != nil {
		return 0, err
	}
	if err := b.env.origin.settled(); err != nil {
		return 0, err
	}
	time.Sleep(50 * time.Millisecond) // what it does after the last connection: records, logs
	return cpuTime(p.pids()) - before, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func sampleTunnels(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	n := p.contender.units(b.o.tunnels)
	cpu, err := b.work(p, func() error { return d.tunnels(ctx, b.env.origin.echo, n, clients) })
	return []float64{micros(cpu) / float64(n)}, err
}

func samplePlain(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	n := p.contender.units(b.o.requests)
	// The proxies keep connections to the origin beyond the load, so that the sample does not wait for their end.
	before := cpuTime(p.pids())
	err := d.requests(ctx, b.env.origin.http, n)
	time.Sleep(50 * time.Millisecond)
	return []float64{micros(cpuTime(p.pids())-before) / float64(n)}, err
}

func sampleBulk(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	n := b.o.bytes
	var took time.Duration
	cpu, err := b.work(p, func() (err error) {
		took, err = d.download(ctx, b.env.origin.bulk, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	gb := float64(n) / 1e9
	return []float64{float64(cpu.Microseconds()) / 1e3 / gb, gb / took.Seconds()}, nil
}

func sampleLatency(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	median, p99, err := d.pings(ctx, b.env.origin.echo, b.o.pings)
	if err != nil {
		return nil, err
	}
	none := door{b.env.origin.echo, speakNothing}
	base, _, err := none.pings(ctx, b.env.origin.echo, max(b.o.pings/10, 100))
	return []float64{micros(median - base), micros(p99 - base)}, err
}

// restTime is how long idle tunnels are left alone before they are measured.
func (b *bench) restTime() time.Duration {
	if b.o.short {
		return time.Second
	}
	return 3 * time.Second
}

// sampleIdle takes the sample again when something else on the machine moved the kernel's memory meanwhile, which is measured for
// all processes together.
func sampleIdle(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	for try := 1; ; try++ {
		values, steady, err := b.idleTunnels(ctx, p, d)
		if err != nil || steady || try == 3 || b.o.short {
			return values, err
		}
		b.say("  something else moves the kernel's memory; once more")
		r := p.contender.roles[0]
		if p, err = b.start(ctx, p.contender, r, b.env.origin.echo); err != nil {
			return nil, err
		}
		defer p.stop()
		d = p.doors[r]
	}
}

// drift is how far the kernel's memory may move during the second half of the rest, in bytes for each tunnel.
const drift = 512

func (b *bench) idleTunnels(ctx context.Context, p *process, d door) (values []float64, steady bool, err error) {
	o := b.env.origin
	if err := d.tunnels(ctx, o.echo, 2*clients, clients); err != nil { // so that what is made once does not count
		return nil, false, err
	}
	if err := o.settled(); err != nil {
		return nil, false, err
	}
	most := int64(drift * b.o.idle)
	calm := b.calm(ctx, most)
	before := footprintOf(p.pids())
	held, err := d.hold(ctx, o.echo, b.o.idle)
	defer func() {
		drop(held)
		o.reset()
		o.settled()
	}()
	if err != nil {
		return nil, false, err
	}
	rest(ctx, b.restTime()/2)
	half := kernelMemory()
	rest(ctx, b.restTime()/2)
	after := footprintOf(p.pids())
	steady = calm && max(after.kernel-half, half-after.kernel) < most
	var buf [8]byte
	for i, c := range held { // they must still work, or they would be idle for nothing
		c.SetDeadline(time.Now().Add(patience))
		if err := echo(c, buf[:]); err != nil {
			return nil, false, fmt.Errorf("idle tunnel %d of %d: %w", i+1, len(held), err)
		}
	}
	n := float64(b.o.idle)
	return []float64{
		float64(after.memory-before.memory) / n, float64(after.memory) / 1e6, float64(after.descriptors-before.descriptors) / n,
		float64(after.pipes-before.pipes) / n, float64(after.kernel-before.kernel) / n,
	}, steady, nil
}

// calm waits, for 15 s at most, until the kernel's memory stays where it is.
func (b *bench) calm(ctx context.Context, most int64) bool {
	was := kernelMemory()
	for range 15 {
		rest(ctx, b.restTime()/3)
		now := kernelMemory()
		if max(now-was, was-now) < most {
			return true
		}
		if was = now; b.o.short {
			return false
		}
	}
	return false
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
