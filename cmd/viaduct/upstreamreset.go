package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/spf13/cobra"

	"viaduct/policies"
	"viaduct/router/admin"
	"viaduct/upstream/auth"
)

func newUpstreamReset() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:   "reset NAME",
		Short: "Open the credential of an upstream again",
		Long: "Opens the credential that the upstream NAME rejected: the next connection shows it once more. When the secret\n" +
			"is still wrong, that is one more failed logon of the account. Where no gateway runs, what it left in its directory of\n" +
			"state is changed, for its next start.\n\n" + controlHelp,
		Example: "  viaduct upstream reset corp",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			res, err := resetRunning(c.Context(), &k, args[0])
			next := "the next connection shows it"
			if gone := new(noDoor); errors.As(err, &gone) && k.address == "" {
				next = "the gateway shows it when it is started"
				res, err = resetStopped(c.Context(), &k, args[0], gone)
			}
			switch {
			case err != nil:
				return err
			case res.Error != "":
				return fmt.Errorf("the credential of %s stays %s: %s", args[0], res.Was, res.Error)
			case asJSON:
				return writeJSON(c.OutOrStdout(), &res)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the credential of %s was %s; %s\n", args[0], res.Was, next)
			return err
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// resetRunning asks the gateway that runs.
func resetRunning(ctx context.Context, k *control, name string) (res admin.ResetResult, err error) {
	_, err = k.ask(ctx, http.MethodPost, "/v1/upstreams/"+url.PathEscape(name)+"/reset", &res)
	return res, err
}

// resetStopped opens a credential in the directory of state, since nobody answers at the door.
func resetStopped(ctx context.Context, k *control, name string, gone *noDoor) (res admin.ResetResult, err error) {
	res = admin.ResetResult{Upstream: name, Found: true, Was: admin.CredentialClosed}
	var g policies.Gateway
	if len(k.paths(nil)) > 0 {
		if g, err = k.gateway(); err != nil {
			return res, err
		}
	}
	dir, err := authDir(g.State)
	if err != nil {
		return res, err
	}
	if ok, err := k.resetBySecret(ctx, name, dir); ok || err != nil {
		return res, err
	}
	n, err := auth.Forget(dir, name)
	if err == nil && n == 0 {
		err = fmt.Errorf("%w\nNothing is kept of a closed credential of %s in %s either", gone, name, dir)
	}
	return res, err
}

// resetBySecret opens the pair that the policy makes of the secret of an upstream. Where the secret is not to be had here, or is another one, it
// does nothing: the files tell by name whose they are, too, but one that several upstreams share tells one of them alone.
func (k *control) resetBySecret(ctx context.Context, name, dir string) (done bool, err error) {
	o, notes, err := k.options(k.paths(nil))
	if err != nil || notes.HasErrors() {
		return false, err
	}
	o.Command = commands{}.run(ctx)
	cfg, diags := policies.Load(o)
	if diags.HasErrors() || cfg == nil {
		return false, nil
	}
	cfg.Upstreams.Guard = auth.NewGuard(dir, nil)
	_, table, _, _, err := wireUp(cfg, nil)
	if err != nil {
		return false, nil
	}
	defer table.Close()
	for _, s := range table.Status() {
		if s.Name == name && s.CredentialState == admin.CredentialClosed {
			_, done, err = table.ResetCredential(name)
			return done, err
		}
	}
	return false, nil
}

// authDir is where the guard of credentials keeps its files.
func authDir(state string) (string, error) {
	dir, err := stateDir(state)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "auth"), nil
}

// guardAt returns a guard for a command that goes through proxies beside a gateway, or without one: what is closed there is closed here.
func guardAt(state string) *auth.Guard {
	dir, err := authDir(state)
	if err != nil {
		return auth.BrokenGuard(err, nil)
	}
	return auth.NewGuard(dir, nil)
}
