package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"viaduct/upstream/upstreamtest/peers"
)

// What is measured of PAC scripts: a program is given a script and a file of URLs, none of them twice so that no answer is one that was kept, and
// prints the answer for each. What it takes to start and to read the script is taken off by a run with one URL.

const (
	pacRules = 120
	pacURLs  = 20_000
)

// pacFiles are a script, many URLs and one URL.
type pacFiles struct{ script, many, one string }

// writePAC writes the files once for a run.
func (e *env) writePAC() (*pacFiles, error) {
	if e.pac != nil {
		return e.pac, nil
	}
	f := &pacFiles{filepath.Join(e.dir, "bench.pac"), filepath.Join(e.dir, "urls.txt"), filepath.Join(e.dir, "url.txt")}
	var urls strings.Builder
	for i := range pacURLs {
		fmt.Fprintf(&urls, "https://host%d.nowhere%d.example/\n", i, i%7)
	}
	for path, text := range map[string]string{f.script: benchScript(), f.many: urls.String(), f.one: "https://www.example.com/\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	e.pac = f
	return f, nil
}

// benchScript has rules of the kinds that scripts in use are made of. No URL of the run is taken by one, so each asks them all.
func benchScript() string {
	var b strings.Builder
	b.WriteString("function FindProxyForURL(url, host) {\n")
	for i := range pacRules {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "  if (dnsDomainIs(host, '.site%d.example')) return 'DIRECT';\n", i)
		case 1:
			fmt.Fprintf(&b, "  if (shExpMatch(host, '*.zone%d.*')) return 'PROXY proxy%d.example:8080';\n", i, i)
		default:
			fmt.Fprintf(&b, "  if (host == 'name%d.example' || url.substring(0, 4) == 'ftp:') return 'DIRECT';\n", i)
		}
	}
	b.WriteString("  return 'PROXY proxy.example:8080; DIRECT';\n}\n")
	return b.String()
}

// startPAC stands for a program that is run anew for each sample.
func startPAC(context.Context, *env, role, string) (*process, error) {
	return &process{doors: map[role]door{rolePAC: {}}, pids: func() []int { return nil }, stop: func() error { return nil }}, nil
}

// samplePAC runs the program with the many URLs and with one.
func samplePAC(ctx context.Context, b *bench, p *process, _ door) ([]float64, error) {
	f, err := b.env.writePAC()
	if err != nil {
		return nil, err
	}
	run := func(list string, n int) (cpu, took time.Duration, err error) {
		path, args := b.env.binary, []string{"pac", "eval", "--no-dns", "--urls", list, f.script}
		if p.contender.program != "" { // pactester
			path, _ = peers.Look(p.contender.program)
			args = []string{"-p", f.script, "-f", list}
		}
		cmd := exec.CommandContext(ctx, path, args...)
		var out, problems bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &problems
		begun := time.Now()
		err = pinned(b.env.cpus.proxy, b.env.cpus.load, cmd.Run)
		took = time.Since(begun)
		if err != nil {
			return 0, 0, fmt.Errorf("%w: %s", err, problems.Bytes())
		}
		if answers := bytes.Count(out.Bytes(), []byte("PROXY proxy.example:8080")); answers != n {
			return 0, 0, fmt.Errorf("%d URLs and %d answers", n, answers)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), took, nil
	}
	cpu, took, err := run(f.many, pacURLs)
	if err != nil {
		return nil, err
	}
	cpu1, took1, err := run(f.one, 1)
	if err != nil {
		return nil, err
	}
	if took <= took1 || cpu <= cpu1 {
		return nil, errors.New("one URL takes as long as many")
	}
	n := float64(pacURLs - 1)
	return []float64{micros(cpu-cpu1) / n, n / (took - took1).Seconds()}, nil
}
