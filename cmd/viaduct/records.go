package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
	"viaduct/router/admin"
)

// past finds the records of the past: the journal, and the door of the gateway for what is open.
type past struct {
	control
	dir string // --journal
	cfg *policies.Config
	bad bool // the policy has errors, which was said
}

const recordsHelp = `The journal is the directory given with --journal, or that of the policy given with --config or VIADUCT_CONFIG, or the one of the
gateway that runs, or "journal" in the directory of state.`

func (k *past) flags(c *cobra.Command) {
	k.control.flags(c)
	c.Flags().StringVar(&k.dir, "journal", "", "directory of the journal")
	_ = c.MarkFlagDirname("journal") // fails only where the flag does not exist
}

// policy reads the policy that the command line names; nil = none is named, or it cannot be read, which is said to notes: the past can be asked about
// without.
func (k *past) policy() (*policies.Config, error) {
	if k.cfg != nil || k.bad || len(k.paths(nil)) == 0 {
		return k.cfg, nil
	}
	cfg, diags, err := k.load(nil)
	if err != nil {
		return nil, err
	}
	if k.cfg, k.bad = cfg, cfg == nil; k.bad {
		fmt.Fprintf(k.notes, "viaduct: the policy has errors, see \"viaduct validate\": %v\n", diags.Err())
	}
	return cfg, nil
}

// zone is the time zone in which times are meant and shown.
func (k *past) zone() *time.Location {
	if cfg, err := k.policy(); err == nil && cfg != nil && cfg.Gateway.Timezone != nil {
		return cfg.Gateway.Timezone
	}
	return time.Local
}

// errNoJournal says that there is no journal where one was looked for.
type errNoJournal struct{ words string }

func (e *errNoJournal) Error() string { return e.words }

// place says where the journal is.
func (k *past) place(ctx context.Context) (string, error) {
	if k.dir != "" {
		return k.dir, nil
	}
	state := ""
	cfg, err := k.policy()
	switch {
	case err != nil:
		return "", err
	case cfg != nil && cfg.Gateway.Journal.Off:
		return "", &errNoJournal{"the policy keeps no journal: gateway { journal { enabled = false } }"}
	case cfg != nil && cfg.Gateway.Journal.Path != "":
		return cfg.Gateway.Journal.Path, nil
	case cfg != nil:
		state = cfg.Gateway.State
	default:
		if dir := k.ofGateway(ctx); dir != "" {
			return dir, nil
		}
	}
	if state, err = stateDir(state); err != nil {
		return "", err
	}
	return filepath.Join(state, "journal"), nil
}

// open opens the journal for reading, and says in a sentence what to do when it cannot.
func (k *past) open(ctx context.Context) (*journal.Reader, string, error) {
	dir, err := k.place(ctx)
	if err != nil {
		return nil, "", err
	}
	r, err := journal.OpenReader(dir)
	switch {
	case err == nil:
		return r, dir, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, dir, &errNoJournal{fmt.Sprintf("there is no journal at %s: has a gateway run here? Is it elsewhere (--journal, --config)?", printable(dir))}
	case errors.Is(err, fs.ErrPermission):
		return nil, dir, fmt.Errorf("the journal at %s may not be read by user %d: run the command as the gateway's user, or as root", printable(dir), os.Getuid())
	}
	return nil, dir, fmt.Errorf("the journal at %s: %w", printable(dir), err)
}

// askGateway bounds a question that is only about where things are.
const askGateway = 3 * time.Second

// ofGateway is where the gateway that runs has its journal; "" = none runs, or it has none.
func (k *past) ofGateway(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, askGateway)
	defer cancel()
	s := new(admin.Status)
	if refused, err := k.ask(ctx, http.MethodGet, "/v1/status", s); refused || err != nil || s.Journal == nil {
		return ""
	}
	return s.Journal.Dir
}

// country is how filters find the country of an address: by the database of the policy.
func (k *past) country() func(netip.Addr) string {
	cfg, err := k.policy()
	if err != nil || cfg == nil || cfg.Gateway.GeoIP == nil {
		return nil
	}
	return func(a netip.Addr) string { return cfg.Gateway.GeoIP.Country(connmodel.Embedded(a)).Letters() }
}
