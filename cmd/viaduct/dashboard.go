package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const dashboardLong = `Shows the dashboard of a running gateway in a browser.

A browser cannot open a Unix socket. Where the gateway's door is one, this command listens on loopback and forwards to it, until it is
interrupted. It prints the address with a token that is made for this run: whoever else uses this machine cannot come in without it. Without
--write only questions are forwarded, nothing that changes the gateway.

Where the door is over TCP, the browser can go there by itself: the address is printed, and the page asks for the door's token.

` + controlHelp + `

Exit codes: 0 it was interrupted or the address was printed, 1 the gateway is not reachable or the port is taken, 2 usage.`

func newDashboard() *cobra.Command {
	var k control
	var listen string
	var write, noOpen bool
	c := &cobra.Command{
		Use:     "dashboard",
		Short:   "Show the dashboard of a running gateway in a browser",
		Long:    dashboardLong,
		Example: "  viaduct dashboard\n  viaduct dashboard --write --no-open --listen 127.0.0.1:9091",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ap, err := netip.ParseAddrPort(listen)
			if err != nil || !ap.Addr().Unmap().IsLoopback() {
				return usageError("--listen %s: write an address of loopback with a port, such as 127.0.0.1:9091", listen)
			}
			k.guess, k.notes = true, c.ErrOrStderr()
			d, err := k.open()
			if err != nil {
				return err
			}
			defer d.close()
			var status struct{ Version string }
			if _, err := d.ask(c.Context(), http.MethodGet, "/v1/status", nil, &status); err != nil {
				return err
			}
			if !strings.HasPrefix(d.address, "unix:") {
				fmt.Fprintf(c.OutOrStdout(), "%s://%s/\n", d.scheme, d.address)
				fmt.Fprintln(c.ErrOrStderr(), "viaduct: the page asks for the token of the door: the credential admin.token, or the file admin.token in the directory of state")
				return nil
			}
			return forwardDashboard(c, d, listen, write, !noOpen)
		},
	}
	k.flags(c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "where to listen: an address of loopback and a port (0 = any)")
	c.Flags().BoolVar(&write, "write", false, "forward also what changes the gateway: close, drain, reload")
	c.Flags().BoolVar(&noOpen, "no-open", false, "open no browser")
	return c
}

func forwardDashboard(c *cobra.Command, d *doorClient, listen string, write, open bool) error {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", listen, err)
	}
	var b [24]byte
	rand.Read(b[:])
	token := base64.RawURLEncoding.EncodeToString(b[:])
	f := newDoorForwarder(d, ln.Addr().String(), token, write)
	ended := make(chan error, 1)
	srv := f.server()
	go func() { ended <- srv.Serve(ln) }()
	url := "http://" + ln.Addr().String() + "/#token=" + token
	fmt.Fprintln(c.OutOrStdout(), url)
	fmt.Fprintf(c.ErrOrStderr(), "viaduct: the dashboard of the gateway at %s%s; interrupt to end\n", printable(d.address), map[bool]string{false: ", read-only"}[write])
	if open {
		if forget, err := openBrowser(ctx, url); err == nil {
			defer forget()
		}
	}
	select {
	case err := <-ended:
		return fmt.Errorf("the dashboard at %s has ended: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	f.end() // streams of events do not end by themselves
	last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if srv.Shutdown(last) != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// openBrowser opens url where there is a desktop. The command lines of programs can be read by everybody on a machine, so that the browser
// is given a file that only this user can read, which leads to url. forget removes it.
func openBrowser(ctx context.Context, url string) (forget func(), err error) {
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil, errors.New("there is no desktop")
	}
	program, err := exec.LookPath("xdg-open")
	if err != nil {
		return nil, err
	}
	page, err := os.CreateTemp("", "viaduct-dashboard-*.html") // mode 0600
	if err != nil {
		return nil, err
	}
	forget = func() { os.Remove(page.Name()) }
	_, err = fmt.Fprintf(page, "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\"><title>Viaduct</title><meta http-equiv=\"refresh\" content=\"0; url=%s\">\n", html.EscapeString(url))
	if e := page.Close(); err == nil {
		err = e
	}
	if err == nil {
		cmd := exec.CommandContext(ctx, program, page.Name())
		cmd.Cancel = func() error { return nil } // the browser stays
		if err = cmd.Start(); err == nil {
			go cmd.Wait() // it is the desktop's from here on
		}
	}
	if err != nil {
		forget()
		return nil, err
	}
	return forget, nil
}
