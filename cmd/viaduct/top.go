package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const topLong = `Shows what goes through a running gateway, live in the terminal: open connections and those that
ended, filtered and in any order; everything about one of them; upstreams with their health; rules
with their hits; throughput. "?" shows the keys.

` + controlHelp + `

When the gateway goes away, top says so and finds it again when it is back. It needs a terminal;
--once prints one picture and ends, and "viaduct connections --json" is for programs.

Colours follow NO_COLOR. In a locale that is not UTF-8 everything is ASCII.

Exit codes: 0 the end was asked for, 1 the gateway is not reachable or there is no terminal, 2 usage.`

// Bounds of what top asks for.
const (
	topLimit       = 1000
	topMostLimit   = 10_000
	topShortest    = 200 * time.Millisecond
	topFrameWidth  = 100 // of --once where nobody says how wide
	topFrameHeight = 40
)

type topOptions struct {
	control
	interval time.Duration
	limit    int
	filter   string
	once     bool
}

func newTop() *cobra.Command {
	var o topOptions
	c := &cobra.Command{
		Use:     "top",
		Short:   "Watch a running gateway",
		Long:    topLong,
		Example: "  viaduct top\n  viaduct top --where 'target.host == \"www.example.com\"'\n  viaduct top --once",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return top(c, &o) },
	}
	o.control.flags(c)
	c.Flags().DurationVar(&o.interval, "interval", time.Second, "time between two looks at the gateway")
	c.Flags().IntVar(&o.limit, "limit", topLimit, "how many open connections are looked at, the newest first")
	c.Flags().StringVar(&o.filter, "where", "", "only connections for which this expression holds")
	c.Flags().BoolVar(&o.once, "once", false, "print one picture and end")
	return c
}

func top(c *cobra.Command, o *topOptions) error {
	switch {
	case o.limit < 1 || o.limit > topMostLimit:
		return usageError("--limit is from 1 to %d", topMostLimit)
	case o.interval < topShortest:
		return usageError("--interval is at least %v", topShortest)
	case o.once:
	case !isTerminal(os.Stdout):
		return errors.New(`top needs a terminal: use "viaduct connections --json", or --once for one picture`)
	case os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "":
		return fmt.Errorf(`top needs a terminal whose cursor can be moved, and TERM is %q: use "viaduct connections", or --once for one picture`, os.Getenv("TERM"))
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	o.guess, o.notes = true, c.ErrOrStderr()
	door := newTopDoor(&o.control, o.limit)
	defer door.close()
	if _, err := door.client(); err != nil {
		return err
	}
	o.notes = io.Discard // nothing but the program writes to the terminal from here on
	first, err := door.look(ctx, topWish{filter: o.filter, rules: o.once})
	if err != nil {
		return err
	}
	if first.refused != "" {
		lines := strings.Split(strings.TrimPrefix(first.refused, "filter: "), "\n")
		for i, line := range lines { // the mark below the mistake stays where it is
			lines[i] = printable(line)
		}
		return usageError("--where: %s", strings.Join(lines, "\n"))
	}
	m := newTopModel(ctx, door.look, o.interval, nil)
	m.filter, m.utf8 = o.filter, unicodeTerminal()
	m.take(first)
	if o.once {
		return printFrame(c, m)
	}
	_, err = tea.NewProgram(m, tea.WithContext(ctx), tea.WithFPS(20)).Run()
	if errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// printFrame prints what the screen would show at first, as wide as the terminal, and as long as it takes.
func printFrame(c *cobra.Command, m *topModel) error {
	m.width, m.height = topFrameWidth, topFrameHeight
	if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		m.width, m.height = int(size.Col), int(size.Row)
	}
	lines := m.frame()
	lines = lines[:len(lines)-1] // there is nobody to press keys
	for len(lines) > 0 && strings.TrimSpace(ansi.Strip(lines[len(lines)-1])) == "" {
		lines = lines[:len(lines)-1]
	}
	w := c.OutOrStdout()
	text := strings.Join(lines, "\n") + "\n"
	if !colourful(w) {
		_, err := fmt.Fprint(w, ansi.Strip(text))
		return err
	}
	_, err := colorprofile.NewWriter(w, os.Environ()).WriteString(text)
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
