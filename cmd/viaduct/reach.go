package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router/admin"
	"viaduct/upstream"
)

// This file is about network.reachable: what a policy asks is tried in the background, and once by commands that explain.

// reachSpec is how addresses are tried: those of upstreams as flows would reach them, others as the route direct does. The resolvers of the
// configuration are open.
func reachSpec(c *policies.Config) upstream.ReachSpec {
	spec := upstream.ReachSpec{Addresses: c.Reaches, Direct: c.Upstreams.Direct, Resolver: c.Upstreams.Resolver, Ways: map[connmodel.Address]upstream.ReachWay{}}
	for i := range c.Upstreams.Upstreams {
		u := &c.Upstreams.Upstreams[i]
		if _, another := spec.Ways[u.Address]; !another && slices.Contains(c.Reaches, u.Address) {
			spec.Ways[u.Address] = upstream.ReachWay{Resolver: u.Resolver,
				Direct: upstream.DirectSpec{SourceAddress: u.SourceAddress, Interface: u.Interface, Mark: u.Mark, KeepAlive: u.KeepAlive}}
		}
	}
	return spec
}

// newReach begins to try what a configuration asks. It waits for the first results, within a bound: the first flow is decided by what is so, if that
// can be known by then; what is not known counts as not reachable.
func (s *service) newReach(c *policies.Config, prev *upstream.Reach) *upstream.Reach {
	spec := reachSpec(c)
	spec.Owns, spec.Changed = s.router.Owns, s.reachChanged
	r := upstream.NewReach(spec, prev)
	ctx, cancel := context.WithTimeout(context.Background(), upstream.ReachWait)
	defer cancel()
	r.Await(ctx)
	return r
}

func (s *service) reachChanged(r upstream.ReachStatus) {
	entry := s.log.WithFields(logrus.Fields{"address": r.Address.String(), "reachable": r.Reachable})
	if r.Reachable {
		entry.Info("network: " + r.Address.String() + " can be reached")
		return
	}
	entry.Info("network: " + r.Address.String() + " cannot be reached: " + r.Error)
}

func reachStatus(r *upstream.ReachStatus) admin.ReachStatus {
	return admin.ReachStatus{Address: r.Address.String(), Reachable: r.Reachable, Known: r.Known, Since: maybe(r.Since), At: maybe(r.At),
		Took: float64(r.Took.Microseconds()) / 1000, Error: r.Error, Tries: r.Tries}
}

func printReach(w io.Writer, s *admin.Status) {
	if len(s.Reach) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\nNETWORK\tREACHABLE\tSINCE\tLAST ERROR\n")
	for _, r := range s.Reach {
		state, since := "no", "-"
		if r.Reachable {
			state = "yes"
		} else if !r.Known {
			state = "not known yet"
		}
		if r.Since != nil {
			since = r.Since.Local().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Address, state, since, r.Error)
	}
	t.Flush() // the next one of w's writers reports the error
}

// reachOnce answers network.reachable for a command that explains: as it is told, or by trying once.
type reachOnce struct {
	ctx     context.Context
	spec    upstream.ReachSpec
	told    map[connmodel.Address]bool // nil = nothing is told
	offline bool                       // nothing is to be tried
	known   map[connmodel.Address]upstream.ReachStatus
	order   []connmodel.Address
	unsaid  bool                   // it was asked what is not known
	knows   []upstream.ReachStatus // by a gateway that runs, which tries it all the time
}

// newReachOnce reads --reachable, given by the caller where the flag is set.
func newReachOnce(ctx context.Context, c *policies.Config, given []string, set, offline bool) (*reachOnce, error) {
	r := &reachOnce{ctx: ctx, spec: reachSpec(c), offline: offline, known: map[connmodel.Address]upstream.ReachStatus{}}
	if !set {
		return r, nil
	}
	r.told = map[connmodel.Address]bool{}
	for _, text := range given {
		if text == "" {
			continue
		}
		to, err := connmodel.ParseAddress(text)
		if err != nil {
			return nil, usageError("--reachable %s: %w", text, err)
		}
		asked := false
		for _, have := range c.Reaches {
			asked = asked || have == to
		}
		if !asked {
			return nil, usageError("--reachable %s: no rule asks network.reachable about that", text)
		}
		r.told[to] = true
	}
	return r, nil
}

// Reachable implements connmodel.Reach.
func (r *reachOnce) Reachable(to connmodel.Address) bool {
	s, ok := r.known[to]
	if ok {
		return s.Reachable
	}
	switch {
	case r.told != nil:
		s = upstream.ReachStatus{Address: to, Reachable: r.told[to], Known: true}
	case slices.ContainsFunc(r.knows, func(k upstream.ReachStatus) bool { return k.Address == to && k.Known }):
		s = r.knows[slices.IndexFunc(r.knows, func(k upstream.ReachStatus) bool { return k.Address == to })]
	case r.offline:
		s, r.unsaid = upstream.ReachStatus{Address: to}, true
	default:
		s = upstream.TryReach(r.ctx, r.spec, to)
	}
	r.known[to] = s
	r.order = append(r.order, to)
	return s.Reachable
}

// Show is for the trace.
func (r *reachOnce) Show(to connmodel.Address) string {
	if s, ok := r.known[to]; ok && s.Known {
		return fmt.Sprint(s.Reachable)
	}
	return "(not tried)"
}

// open says what is missing for a decision; "" = nothing.
func (r *reachOnce) open() string {
	if !r.unsaid {
		return ""
	}
	return fmt.Sprintf("it depends on whether %s can be reached: leave --no-dns out to have it tried, or say so with --reachable %s (or --reachable \"\" for none)", r.order[0], r.order[0])
}

// reachStep is one address in an explanation.
type reachStep struct {
	Address   string  `json:"address"`
	Reachable bool    `json:"reachable"`
	Tried     bool    `json:"tried"` // just now; else it is as told
	Took      float64 `json:"took_ms,omitempty"`
	Error     string  `json:"error,omitempty"`
}

func (r *reachOnce) steps() (all []reachStep) {
	for _, to := range r.order {
		if s := r.known[to]; s.Known {
			all = append(all, reachStep{to.String(), s.Reachable, r.told == nil, float64(s.Took.Microseconds()) / 1000, s.Error})
		}
	}
	return all
}

func (s *reachStep) words() string {
	text := s.Address + " cannot be reached"
	if s.Reachable {
		text = s.Address + " can be reached"
	}
	switch {
	case !s.Tried:
		return text + ", as told"
	case s.Error != "":
		return text + ", tried just now: " + strings.TrimSuffix(s.Error, ".")
	}
	return text + fmt.Sprintf(", tried just now (%v)", time.Duration(s.Took*float64(time.Millisecond)).Round(100*time.Microsecond))
}
