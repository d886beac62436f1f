package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"time"

	"viaduct/policies"
	"viaduct/router/admin"
)

// doorPatience is how long a gateway is asked where its journal is.
const doorPatience = 2 * time.Second

// place is where the journal is: what the command line says, then the policy where it says it, then a gateway that runs, then the default.
func (q *planQuestion) place(ctx context.Context, cfg *policies.Config, paths []string) (string, error) {
	if q.journal != "" {
		return q.journal, nil
	}
	g := cfg.Gateway
	at, err := journalAt(&g)
	if err == nil && (g.Journal.Path != "" || g.State != "") {
		if st, err := os.Stat(at.dir); err == nil && st.IsDir() { // a new policy may be about to move it
			return at.dir, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, doorPatience)
	defer cancel()
	k := control{source: source{config: paths, vars: q.src.vars}, guess: true, notes: io.Discard}
	var s admin.Status
	if _, asked := k.ask(ctx, http.MethodGet, "/v1/status", &s); asked == nil && s.Journal != nil && s.Journal.Dir != "" {
		return s.Journal.Dir, nil
	}
	if at.dir == "" && err == nil { // turned off from now on
		g.Journal = policies.Journal{}
		at, err = journalAt(&g)
	}
	if err != nil {
		return "", planTrouble("%w", err)
	}
	return at.dir, nil
}
