package connmodel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Hooks let a program that embeds Viaduct watch connections and, at a few moments, decide. It is a struct of optional
// functions in the manner of net/http/httptrace.ClientTrace; the nil *Hooks does nothing and costs nothing.
//
// Observers get snapshots and must not block: they run on the connection's goroutine. Functions that return an error may
// refuse; they run under Timeout and fail closed: an error, a panic or a missed deadline refuses the connection.
type Hooks struct {
	// Observe is called for every event, in order for one session. flow makes a snapshot when it is called; it is nil for
	// events of the session itself, which carry client instead.
	Observe func(e Event, flow func() *Flow, client *Client)

	// ClientConnected may refuse a client at accept.
	ClientConnected func(ctx context.Context, c *Client) error
	// ServerConnect is called once per flow, after the decision and before anything is dialled. It may edit the plan or refuse.
	// An edited address passes the destination check again.
	ServerConnect func(ctx context.Context, f *Flow, p *ServerPlan) error
	// ServerConnectError is called when all attempts of a dial have failed. It may edit the plan and ask for another dial; at
	// most maxAgain times per flow, and within the deadline of the route.
	ServerConnectError func(ctx context.Context, f *Flow, p *ServerPlan, err *ConnError) (again bool, refuse error)
	// Request is called for each plain HTTP request, before ServerConnect. It may edit the plan or refuse.
	Request func(ctx context.Context, f *Flow, p *ServerPlan) error

	// Timeout bounds each deciding call; 0 = 5 s.
	Timeout time.Duration
}

// ServerPlan is what is about to be dialled.
type ServerPlan struct {
	Address Address // server to reach
	Route   string  // name of a route of the configuration
	TLS     *TLSPlan
}

// MaxHookAgain bounds how often ServerConnectError may ask for another dial of one flow.
const MaxHookAgain = 3

// ErrHookPanic is wrapped by the error of a hook that panicked.
var ErrHookPanic = errors.New("hook panicked")

// Compose returns hooks that call those of each of list in order. The first refusal stands.
func Compose(list ...*Hooks) *Hooks {
	var all []*Hooks
	for _, h := range list {
		if h != nil {
			all = append(all, h)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return compose(all)
}

func compose(all []*Hooks) *Hooks {
	c := &Hooks{}
	for _, h := range all {
		c.Timeout = max(c.Timeout, h.Timeout)
	}
	c.Observe = func(e Event, flow func() *Flow, client *Client) {
		for _, h := range all {
			if h.Observe != nil {
				h.Observe(e, flow, client)
			}
		}
	}
	c.ClientConnected = func(ctx context.Context, cl *Client) error {
		for _, h := range all {
			if h.ClientConnected != nil {
				if err := h.ClientConnected(ctx, cl); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c.ServerConnect = func(ctx context.Context, f *Flow, p *ServerPlan) error {
		for _, h := range all {
			if h.ServerConnect != nil {
				if err := h.ServerConnect(ctx, f, p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c.Request = func(ctx context.Context, f *Flow, p *ServerPlan) error {
		for _, h := range all {
			if h.Request != nil {
				if err := h.Request(ctx, f, p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c.ServerConnectError = func(ctx context.Context, f *Flow, p *ServerPlan, cause *ConnError) (bool, error) {
		again := false
		for _, h := range all {
			if h.ServerConnectError != nil {
				a, err := h.ServerConnectError(ctx, f, p, cause)
				if err != nil {
					return false, err
				}
				again = again || a
			}
		}
		return again, nil
	}
	return c
}

// wants reports whether anybody observes.
func (h *Hooks) wants() bool { return h != nil && h.Observe != nil }

func (h *Hooks) observe(e Event, flow func() *Flow) {
	defer func() { recover() }() // an observer's panic is its own
	h.Observe(e, flow, nil)
}

func (h *Hooks) clientDisconnected(c *Client) {
	if h.wants() {
		h.ObserveClient(EventClientDisconnected, c)
	}
}

// ObserveClient tells observers of an event of the session itself.
func (h *Hooks) ObserveClient(kind EventKind, c *Client) {
	if !h.wants() {
		return
	}
	defer func() { recover() }()
	h.Observe(Event{Kind: kind, Time: time.Now(), Session: c.ID, Side: SideClient, Error: c.Error}, nil, c)
}

// Call runs a deciding hook under its deadline and turns a panic or a missed deadline into an error: hooks fail closed.
func (h *Hooks) Call(ctx context.Context, name string, f func(context.Context) error) error {
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("hook %s: %w: %v", name, ErrHookPanic, p)
			}
		}()
		done <- f(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("hook %s: %w", name, ctx.Err())
	}
}
