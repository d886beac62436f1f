package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/policies"
	"viaduct/router/admin"
)

// control finds the control door of a running gateway.
type control struct {
	source
	address string
	token   string // file
	// guess says that a policy which cannot be read is no reason to give up: the default place is asked, and notes is told so. It is for
	// commands that change nothing.
	guess bool
	notes io.Writer
}

const controlHelp = `The gateway is found by --admin, VIADUCT_ADMIN, the policy given with --config or VIADUCT_CONFIG, or
where its socket is by default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/viaduct, /run/viaduct,
/tmp/viaduct-UID. Over TCP it asks for a token, which is read from --token-file, $CREDENTIALS_DIRECTORY
or the directory of state.`

func (k *control) flags(c *cobra.Command) {
	k.source.flags(c)
	c.Flags().StringVar(&k.address, "admin", "", "address of the control door: unix:/path or host:port")
	c.Flags().StringVar(&k.token, "token-file", "", "file with the token, for a door over TCP")
	_ = c.MarkFlagFilename("token-file") // fails only where the flag does not exist
}

// find returns the door's address and, for one over TCP, the token.
func (k *control) find() (address, token string, err error) {
	var g policies.Gateway
	address = k.address
	if address == "" {
		address = os.Getenv("VIADUCT_ADMIN")
	}
	if address == "" && len(k.paths(nil)) > 0 {
		g, err = k.gateway()
		switch {
		case err != nil && k.guess && codeIsProblem(err):
			fmt.Fprintf(k.notes, "viaduct: %v\nviaduct: asking at the default place, %s\n", err, k.usualPlace())
		case err != nil:
			return "", "", err
		}
		address = g.Admin
	}
	if address == "" {
		address = k.usualPlace()
	}
	if strings.HasPrefix(address, "unix:") {
		return address, "", nil
	}
	path := k.token
	if path == "" {
		if path, _, err = tokenPath(g.State); err != nil {
			return "", "", err
		}
	}
	token, err = admin.LoadToken(path, false)
	if err != nil {
		return "", "", fmt.Errorf("the door at %s asks for a token: %w", address, err)
	}
	return address, token, nil
}

// codeIsProblem reports whether an error is of what was found, not of how the command was written.
func codeIsProblem(err error) bool {
	code, _ := codeOf(err, true)
	return code != exitUsage
}

// gateway reads the gateway block of a policy, which need not be good otherwise than in form.
func (k *control) gateway() (policies.Gateway, error) {
	cfg, diags, err := k.load(nil)
	if err != nil {
		return policies.Gateway{}, err
	}
	if cfg == nil {
		return policies.Gateway{}, fmt.Errorf("the policy does not say where the gateway is: it has errors (use --admin): %w", diags.Err())
	}
	return cfg.Gateway, nil
}

// usualPlace is the first of the default sockets that is there, or the first of them.
func (k *control) usualPlace() string {
	here := filepath.Join(runtimeDir(), socketName)
	if _, err := os.Stat(here); err == nil {
		return "unix:" + here
	}
	if other := "/run/viaduct/" + socketName; os.Getenv("RUNTIME_DIRECTORY") == "" {
		if _, err := os.Stat(other); err == nil {
			return "unix:" + other
		}
	}
	return "unix:" + here
}

// ask sends one request and decodes the answer into v. refused is true when the gateway said no with an answer of that form.
func (k *control) ask(ctx context.Context, method, path string, v any) (refused bool, err error) {
	d, err := k.open()
	if err != nil {
		return false, err
	}
	defer d.close()
	return d.ask(ctx, method, path, nil, v)
}

// status asks how the gateway is. A policy that cannot be read does not keep anybody from that.
func (k *control) status(c *cobra.Command) (*admin.Status, error) {
	k.guess, k.notes = true, c.ErrOrStderr()
	s := new(admin.Status)
	_, err := k.ask(c.Context(), http.MethodGet, "/v1/status", s)
	return s, err
}
