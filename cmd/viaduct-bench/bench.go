package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"viaduct/upstream/upstreamtest/peers"
)

// bench is one run.
type bench struct {
	o       *options
	env     *env
	report  *report
	stderr  io.Writer
	playing []*contender
	running []*process
}

// measure runs everything that o asks for.
func measure(ctx context.Context, o *options, stderr io.Writer) (*report, error) {
	b := &bench{o: o, stderr: stderr, report: newReport(o)}
	if err := b.choose(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "viaduct-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	defer b.stopAll()
	b.env = &env{o: o, dir: dir}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer b.env.origin.close()
	for _, m := range measures {
		if !wants(o.measures, m.name) {
			continue
		}
		if err := b.take(ctx, m); err != nil {
			return nil, err
		}
	}
	b.report.finish()
	return b.report, nil
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// choose finds who takes part. What is not installed is named.
func (b *bench) choose() error {
	var missing []string
	for _, c := range contenders {
		if !wants(b.o.only, c.name) {
			continue
		}
		if _, ok := peers.Look(c.program); c.program != "" && !ok {
			if !slices.Contains(missing, c.program) {
				missing = append(missing, c.program)
			}
			continue
		}
		b.playing = append(b.playing, c)
	}
	for _, m := range measures {
		for _, p := range m.programs {
			if _, ok := peers.Look(p); !ok && wants(b.o.measures, m.name) {
				missing = append(missing, p)
			}
		}
	}
	if len(missing) > 0 {
		text := "not installed: " + strings.Join(missing, ", ")
		if b.o.requirePeers {
			return errors.New(text)
		}
		b.say("%s; left out", text)
		b.report.Missing = missing
	}
	if len(b.playing) == 0 {
		return errors.New("nobody is left to take part")
	}
	for _, c := range b.playing {
		note := c.note
		if b.o.log == logOff {
			note = strings.Replace(note, "both log lines to a file", "no log lines", 1)
		}
		b.report.Contenders = append(b.report.Contenders, participant{c.name, c.title, note})
	}
	return nil
}

// prepare builds Viaduct with all the machine's CPUs, then gives one CPU to the proxies and takes the other.
func (b *bench) prepare(ctx context.Context) (err error) {
	e := b.env
	if slices.ContainsFunc(b.playing, func(c *contender) bool { return strings.HasPrefix(c.name, viaductName) }) {
		if e.binary = b.o.viaduct; e.binary == "" {
			b.say("building viaduct")
			e.built = true
			if e.binary, err = buildViaduct(ctx, e.dir); err != nil {
				return err
			}
		}
	}
	if e.cpus, err = findCPUs(); err != nil {
		return err
	}
	b.report.Machine.ProxyCPU, b.report.Machine.LoadCPU = e.cpus.proxy, e.cpus.load
	if e.cpus.proxy == e.cpus.load {
		b.say("there is one CPU only: load and proxy share it, and disturb each other")
	}
	if err := pinSelf(e.cpus.load); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	if e.origin, err = newOrigin(); err != nil {
		return err
	}
	signers, config, err := newAuthorities(e.dir)
	if err == nil {
		e.authorities = signers
		err = signers.writeBareOpened(e.dir)
	}
	if err == nil {
		err = e.origin.startTLS(config)
	}
	if err != nil {
		return err
	}
	for _, to := range []*string{&e.httpHop, &e.socksHop} {
		ln, err := listen()
		if err != nil {
			return err
		}
		e.origin.listeners = append(e.origin.listeners, ln)
		*to = ln.Addr().String()
		go new(bare).serve(ln)
	}
	ln, err := listen()
	if err != nil {
		return err
	}
	e.origin.listeners = append(e.origin.listeners, ln)
	e.ntlm, e.ntlmHop = newNTLMHop(), ln.Addr().String()
	go e.ntlm.serve(ln)
	return nil
}

// take takes one measure of everybody: round by round, and in each round one after the other, so that whatever else happens on
// the machine happens to all. Rounds begin with another one each time.
func (b *bench) take(ctx context.Context, m *measured) error {
	if slices.ContainsFunc(m.programs, func(p string) bool { return slices.Contains(b.report.Missing, p) }) {
		return nil
	}
	rounds := b.o.rounds
	if m.rounds > 0 {
		rounds = min(rounds, m.rounds)
	}
	var ours []*contender
	for _, c := range b.playing {
		if _, ok := m.roleOf(c); ok {
			ours = append(ours, c)
		}
	}
	failed := map[*contender]bool{}
	for round := range rounds {
		for i := range ours {
			c := ours[(i+round)%len(ours)]
			if failed[c] {
				continue
			}
			err := b.sample(ctx, m, c, round)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				b.say("  %s: %v", c.name, err)
				if c.program == "" { // ours must work
					return fmt.Errorf("%s: %s: %w", m.name, c.name, err)
				}
				failed[c] = true
				b.report.failed(m, c, err)
			}
		}
	}
	return nil
}

func (b *bench) sample(ctx context.Context, m *measured, c *contender, round int) error {
	r, _ := m.roleOf(c)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := b.process(ctx, m, c, r)
	if err != nil {
		return err
	}
	if m.fresh {
		defer p.stop()
	}
	d := p.doors[r]
	if round == 0 && !m.fresh { // caches, pools and lazy parts
		if err := b.warm(ctx, m, d); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	values, err := m.sample(ctx, b, p, d)
	if err != nil {
		return err
	}
	b.report.add(m, c, values)
	var text []string
	for i, v := range values {
		text = append(text, m.metrics[i].key+" "+number(v))
	}
	b.say("%-13s round %d  %-13s %s", m.name, round+1, c.name, strings.Join(text, ", "))
	return nil
}

func (b *bench) warm(ctx context.Context, m *measured, d door) error {
	switch m.name {
	case "pac", "records", "plan":
		return nil
	case "bulk":
		_, err := d.download(ctx, b.env.origin.bulk, min(b.o.bytes, 50e6))
		return err
	case "plain":
		return d.requests(ctx, b.env.origin.http, min(b.o.requests, 1000))
	case "opened", "opened-tunnel":
		return d.openedTunnels(ctx, b.env.origin.https, b.env.authorities.opened(), clients)
	}
	return d.tunnels(ctx, b.env.origin.echo, min(b.o.tunnels, 500), clients)
}

// process returns one that runs and plays r, or starts it.
func (b *bench) process(ctx context.Context, m *measured, c *contender, r role) (*process, error) {
	target := m.target(b.env.origin)
	if !m.fresh {
		for _, p := range b.running {
			if _, ok := p.doors[r]; ok && p.contender == c && (p.target == "" || p.target == target) {
				return p, nil
			}
		}
	}
	p, err := b.start(ctx, c, r, target)
	if err == nil && !m.fresh {
		b.running = append(b.running, p)
	}
	return p, err
}

func (b *bench) start(ctx context.Context, c *contender, r role, target string) (*process, error) {
	var p *process
	// Processes outlive the time that one sample has.
	err := pinned(b.env.cpus.proxy, b.env.cpus.load, func() (err error) {
		p, err = c.start(context.WithoutCancel(ctx), b.env, r, target)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.contender = c
	return p, nil
}

func (b *bench) stopAll() {
	for _, p := range b.running {
		if err := p.stop(); err != nil {
			b.say("%s: %v", p.contender.name, err)
		}
	}
}
