package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/hashicorp/hcl/v2"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"viaduct/policies"
)

const runLong = `Runs the gateway until SIGTERM or SIGINT, then drains: it stops accepting, lets tunnels and requests
go on for gateway { drain_timeout } (30 s unless said otherwise), and cuts what is left. A second
signal ends the wait at once.

` + sourceHelp + `

SIGHUP, like "viaduct reload", reads the policy again. It is checked as a whole and its sockets are
bound before anything changes; when something is wrong, nothing changes, and log, "viaduct status"
and the metric viaduct_config_last_reload_success say so. Open tunnels live on either way.
SIGUSR1 opens the file of records anew, for log rotation; a reload does so too.

Logs go to stderr. Under systemd the service reports readiness, reloads, its state and the watchdog
(Type=notify-reload), and takes sockets by name (address = "systemd:NAME").

Exit codes: 0 stopped as asked, 1 the policy has errors or the gateway could not start, 2 usage.`

func newRun() *cobra.Command {
	var src source
	var dumpable bool
	c := &cobra.Command{
		Use:     "run [PATH...]",
		Short:   "Run the gateway",
		Long:    runLong,
		Example: "  viaduct run\n  viaduct run /etc/viaduct\n  viaduct run --var office=10.20.0.0/16 viaduct.hcl",
		RunE:    func(_ *cobra.Command, args []string) error { return run(&src, args, dumpable) },
	}
	src.flags(c)
	c.Flags().BoolVar(&dumpable, "dumpable", false, "let core files and debuggers of the same user see the memory, in which passwords are")
	return c
}

func run(src *source, args []string, dumpable bool) error {
	// Before anything else, so that a reload that comes early is late rather than deadly.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // records on a pipe whose reader has left are an error of writing, not the end

	log := logrus.New()
	lines := newLogWriter(os.Stderr)
	defer lines.Flush()
	log.SetOutput(lines)
	setLog(log, &policies.Gateway{})
	descriptors, memory := prepareProcess(dumpable)
	defer runtime.KeepAlive(ballast)

	s := newService(src, src.paths(args), log)
	diags, err := s.load()
	if err != nil {
		return startFailed(diags, err)
	}
	s.warn(diags)
	entry := log.WithFields(logrus.Fields{
		"version": buildVersion().Version, "policy": said(s.now.Load().cfg.Files), "admin": s.place.address, "descriptors": descriptors,
	})
	if memory > 0 {
		entry = entry.WithField("memory_limit", memory)
	}
	entry.Info("viaduct runs")
	s.watchNetwork()
	s.history.Begin()
	ctx, end := context.WithCancel(context.Background())
	defer end()
	s.super.watch(ctx, func() { s.router.Stats() })
	s.super.ready(s.headline())
	s.attend(signals)
	return nil
}

// attend does what signals ask for, until one of them ends the service.
func (s *service) attend(signals <-chan os.Signal) {
	for {
		var sig os.Signal
		select {
		case <-s.over:
			s.end("drained", signals)
			return
		case sig = <-signals:
		}
		switch sig {
		case syscall.SIGHUP:
			s.Reload(context.Background())
		case syscall.SIGUSR1:
			s.records.reopen(s.log)
			s.log.Info("records opened anew")
		default:
			s.end(sig.String(), signals)
			return
		}
	}
}

// end drains; one more signal to end cuts what is left.
func (s *service) end(why string, signals <-chan os.Signal) {
	s.log.WithField("signal", why).Info("stopping")
	ctx, hurry := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer hurry()
		for {
			select {
			case <-done:
				return
			case sig := <-signals:
				if sig == syscall.SIGTERM || sig == syscall.SIGINT {
					return
				}
			}
		}
	}()
	cut := s.stop(ctx)
	close(done)
	s.log.WithField("cut", cut).Info("stopped")
}

// startFailed says why: the errors of the policy with their places, or what the system did not allow.
func startFailed(diags policies.Diagnostics, err error) error {
	if !diags.HasErrors() {
		return err
	}
	var usage *exitError
	if errors.As(err, &usage) {
		return err
	}
	if werr := diags.WriteText(os.Stderr, colourful(os.Stderr)); werr != nil {
		return werr
	}
	n, _ := diags.Count()
	return &exitError{exitProblems, fmt.Errorf("the policy has %s; nothing was started", count(n, "error"))}
}

// warningText puts a warning on one line.
func warningText(d *hcl.Diagnostic) (text string, isWarning bool) {
	if d.Severity != hcl.DiagWarning {
		return "", false
	}
	text = d.Summary
	if d.Detail != "" {
		text += ": " + d.Detail
	}
	if d.Subject != nil {
		text = fmt.Sprintf("%s:%d: %s", d.Subject.Filename, d.Subject.Start.Line, text)
	}
	return text, true
}

// count writes "1 error", "2 errors".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
