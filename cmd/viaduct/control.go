package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// maxAnswer bounds what is read from the door.
const maxAnswer = 64 << 20

// ask sends one request and decodes the answer into v. refused is true when the gateway said no with an answer of that form.
func (k *control) ask(ctx context.Context, method, path string, v any) (refused bool, err error) {
	address, token, err := k.find()
	if err != nil {
		return false, err
	}
	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				return d.DialContext(ctx, "unix", path)
			}
			return d.DialContext(ctx, "tcp", address)
		},
		DisableKeepAlives: true,
	}}
	host := "localhost"
	if !strings.HasPrefix(address, "unix:") {
		host = address
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return false, fmt.Errorf("--admin %s: %w", address, err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return false, unreachable(address, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return false, fmt.Errorf("the answer from %s ended early: %w", address, err)
	}
	refused = res.StatusCode != http.StatusOK
	if refused && res.Header.Get("Content-Type") == "application/problem+json" {
		var p struct{ Detail string }
		if json.Unmarshal(body, &p) != nil || p.Detail == "" {
			p.Detail = res.Status
		}
		return true, fmt.Errorf("the gateway at %s says: %s", address, p.Detail)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(v); err != nil {
		return refused, fmt.Errorf("what answers at %s is not a gateway (%s): %w", address, res.Status, err)
	}
	return refused, nil
}

// status asks how the gateway is. A policy that cannot be read does not keep anybody from that.
func (k *control) status(c *cobra.Command) (*admin.Status, error) {
	k.guess, k.notes = true, c.ErrOrStderr()
	s := new(admin.Status)
	_, err := k.ask(c.Context(), http.MethodGet, "/v1/status", s)
	return s, err
}

func unreachable(address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return &noDoor{address, err}
}

// noDoor says that nobody answers where the control door should be.
type noDoor struct {
	address string
	err     error
}

func (e *noDoor) Error() string {
	return fmt.Sprintf("no gateway answers at %s: %v. Does it run? Is its door elsewhere (--admin, --config)?", e.address, e.err)
}
func (e *noDoor) Unwrap() error { return e.err }
