// Command viaduct-bench compares what Viaduct costs with what other proxies cost, in one run: Debian's squid, dante, tinyproxy,
// microsocks, haproxy, cntlm and others as far as they are installed, and a bare Go relay as the floor. Without arguments it measures everything
// and prints a table of medians with ratios.
//
//	go run ./cmd/viaduct-bench
//	go run ./cmd/viaduct-bench --only viaduct,squid --measure connect,idle --rounds 3 --svg bench.svg
//
// What is measured is the proxy's process, by the kernel's accounting: rates on a shared machine move by a third from run to run,
// cost moves by a few percent. The proxy has one CPU for itself; load, origin and the next hop share another. Contenders take turns
// within each round. All traffic stays on loopback, and every process that was started is ended.
//
// contender.go says who takes part and how each is configured, measure.go what is measured. Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		os.Exit(bareMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == writeCommand {
		os.Exit(writeMain(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "viaduct-bench:", err)
		stop()
		os.Exit(1)
	}
}

// logOff leaves the two log lines out.
const logOff = "off"

// options are the flags.
type options struct {
	rounds, tunnels, requests, idle, pings int
	records, planned                       int
	bytes                                  int64
	only, measures                         []string
	short, json, requirePeers              bool
	svg, viaduct, log                      string
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("viaduct-bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, strings.Split(s, ",")...); return nil }
	}
	f.IntVar(&o.rounds, "rounds", 7, "rounds of which the median counts")
	f.IntVar(&o.tunnels, "tunnels", 4000, "tunnels in one sample")
	f.IntVar(&o.requests, "requests", 20000, "plain HTTP requests in one sample")
	f.Int64Var(&o.bytes, "bytes", 2e9, "bytes that one sample downloads")
	f.IntVar(&o.idle, "idle", 2000, "idle tunnels held at once")
	f.IntVar(&o.pings, "pings", 10000, "round trips in one sample of latency")
	f.IntVar(&o.records, "records", 200_000, "records that one sample writes into the journal")
	f.IntVar(&o.planned, "planned", planGoal, "records of the journal that viaduct plan replays")
	f.Func("only", "`contenders` to run, of "+strings.Join(contenderNames(), ","), list(&o.only))
	f.Func("measure", "`measures` to take, of "+strings.Join(measureNames(), ","), list(&o.measures))
	f.BoolVar(&o.short, "short", false, "a smoke run of seconds: few units, one round, floor and Viaduct unless --only says otherwise")
	f.BoolVar(&o.json, "json", false, "print JSON instead of tables")
	f.StringVar(&o.svg, "svg", "", "also draw a chart into this `file`")
	f.StringVar(&o.viaduct, "viaduct", "", "a viaduct `binary` to measure, instead of building one")
	f.BoolVar(&o.requirePeers, "require-peers", false, "fail when a peer is not installed")
	f.StringVar(&o.log, "log-format", "text", "format of Viaduct's two log lines per flow: text, json, or off for records alone")
	f.Usage = func() {
		fmt.Fprint(stderr, "Compares the cost of Viaduct with other proxies, over loopback.\n\nUsage:\n  viaduct-bench [flags]\n\nExample:\n  go run ./cmd/viaduct-bench --only viaduct,squid --measure connect,idle --rounds 3\n\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("no arguments are expected, only flags; got %q", f.Arg(0))
	}
	if o.short {
		shorten(f, o)
	}
	return o, o.check()
}

// shorten lowers what the caller has not set.
func shorten(f *flag.FlagSet, o *options) {
	changed := map[string]bool{}
	f.Visit(func(x *flag.Flag) { changed[x.Name] = true })
	for name, set := range map[string]func(){
		"rounds": func() { o.rounds = 1 }, "tunnels": func() { o.tunnels = 500 }, "requests": func() { o.requests = 1000 },
		"bytes": func() { o.bytes = 100e6 }, "idle": func() { o.idle = 200 }, "pings": func() { o.pings = 500 },
		"records": func() { o.records = 20_000 }, "planned": func() { o.planned = 20_000 },
		"only": func() { o.only = []string{floorName, viaductName} },
	} {
		if !changed[name] {
			set()
		}
	}
}

func (o *options) check() error {
	for _, n := range []struct {
		name         string
		v, low, high int64
	}{
		{"rounds", int64(o.rounds), 1, 100}, {"tunnels", int64(o.tunnels), 16, 1e6}, {"requests", int64(o.requests), 16, 1e7},
		{"bytes", o.bytes, 1e6, 1e12}, {"idle", int64(o.idle), 10, 100000}, {"pings", int64(o.pings), 100, 1e6},
		{"records", int64(o.records), 1000, 1e8}, {"planned", int64(o.planned), 1000, 1e8},
	} {
		if n.v < n.low || n.v > n.high {
			return fmt.Errorf("--%s must be between %d and %d", n.name, n.low, n.high)
		}
	}
	for _, n := range o.only {
		if !slices.Contains(contenderNames(), n) {
			return fmt.Errorf("--only: there is no contender %q; there are %s", n, strings.Join(contenderNames(), ", "))
		}
	}
	for _, n := range o.measures {
		if !slices.Contains(measureNames(), n) {
			return fmt.Errorf("--measure: there is no measure %q; there are %s", n, strings.Join(measureNames(), ", "))
		}
	}
	return nil
}

// wants reports whether list names x; an empty list names everything.
func wants(list []string, x string) bool { return len(list) == 0 || slices.Contains(list, x) }

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	begun := time.Now()
	rep, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	rep.Seconds = time.Since(begun).Round(time.Second).Seconds()
	if o.svg != "" {
		if err := os.WriteFile(o.svg, rep.svg(), 0o644); err != nil {
			return err
		}
	}
	if o.json {
		return rep.writeJSON(stdout)
	}
	return rep.writeText(stdout)
}
