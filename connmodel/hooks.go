package connmodel

import (
	"context"
	"errors"
	"time"
)

// Hooks let a program that embeds Viaduct watch connections and, at a few moments, decide. It is a struct of optional
// functions in the manner of net/http/httptrace.ClientTrace; the nil *Hooks does nothing and costs nothing.
//
// Observers get snapshots and must not block: they run on the connection's goroutine. Functions that return an error may
// refuse; they run under Timeout and fail closed: an error, a panic or a missed deadline refuses the connection, and what
// the function did to the plan is dropped.
type Hooks struct {
	// Observe is called for every event: in order and one at a time for one session, but for many sessions at once. flow
	// makes a snapshot when it is called, of what is known then; it is nil for events of the session itself, which carry
	// client instead. A panic is swallowed: an observer harms nobody but itself.
	Observe func(e Event, flow func() *Flow, client *Client)

	// ClientConnected may refuse a client at accept.
	ClientConnected func(ctx context.Context, c *Client) error
	// ClientHello is called when a tunnel was looked into and begins with a TLS ClientHello; it may refuse. It makes no tunnel be
	// looked into: the rules of the policy do. h is not to be changed.
	ClientHello func(ctx context.Context, f *Flow, h *ClientHello) error
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

// ServerPlan is what is about to be dialled. TLS may be edited or replaced; the Config in it is shared with other flows, so a
// hook that wants another one sets a clone.
type ServerPlan struct {
	Address Address // server to reach
	Route   string  // name of a route of the configuration
	TLS     *TLSPlan
}

// MaxHookAgain bounds how often ServerConnectError may ask for another dial of one flow.
const MaxHookAgain = 3

// DefaultHookTimeout bounds a deciding hook when Hooks.Timeout does not.
const DefaultHookTimeout = 5 * time.Second

// ErrHookPanic is wrapped by the error of a hook that panicked.
var ErrHookPanic = errors.New("hook panicked")

// Compose returns hooks that call those of each of list in order. The first refusal stands; another dial is made when one of
// them asks for it. The longest Timeout holds for all.
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
	c := &Hooks{}
	for _, h := range all {
		c.Timeout = max(c.Timeout, h.timeout())
		c.add(h)
	}
	return c
}

// add appends the functions of h to those of c. What h leaves out costs nothing.
func (c *Hooks) add(h *Hooks) {
	if next := h.Observe; next != nil {
		first := c.Observe
		c.Observe = func(e Event, flow func() *Flow, client *Client) {
			if first != nil {
				guarded(first, e, flow, client)
			}
			guarded(next, e, flow, client)
		}
	}
	if next := h.ClientConnected; next != nil {
		first := c.ClientConnected
		c.ClientConnected = func(ctx context.Context, cl *Client) error {
			if first != nil {
				if err := first(ctx, cl); err != nil {
					return err
				}
			}
			return next(ctx, cl)
		}
	}
	if next := h.ClientHello; next != nil {
		first := c.ClientHello
		c.ClientHello = func(ctx context.Context, f *Flow, hello *ClientHello) error {
			if first != nil {
				if err := first(ctx, f, hello); err != nil {
					return err
				}
			}
			return next(ctx, f, hello)
		}
	}
	c.ServerConnect = inOrder(c.ServerConnect, h.ServerConnect)
	c.Request = inOrder(c.Request, h.Request)
	if next := h.ServerConnectError; next != nil {
		first := c.ServerConnectError
		c.ServerConnectError = func(ctx context.Context, f *Flow, p *ServerPlan, cause *ConnError) (again bool, err error) {
			if first != nil {
				if again, err = first(ctx, f, p, cause); err != nil {
					return false, err
				}
			}
			more, err := next(ctx, f, p, cause)
			return (again || more) && err == nil, err
		}
	}
}

type planHook = func(ctx context.Context, f *Flow, p *ServerPlan) error

func inOrder(first, next planHook) planHook {
	if first == nil {
		return next
	}
	if next == nil {
		return first
	}
	return func(ctx context.Context, f *Flow, p *ServerPlan) error {
		if err := first(ctx, f, p); err != nil {
			return err
		}
		return next(ctx, f, p)
	}
}

// wants reports whether anybody observes.
func (h *Hooks) wants() bool { return h != nil && h.Observe != nil }

func (h *Hooks) observe(e Event, flow func() *Flow, c *Client) { guarded(h.Observe, e, flow, c) }

func guarded(observe func(Event, func() *Flow, *Client), e Event, flow func() *Flow, c *Client) {
	defer func() { _ = recover() }() // an observer's panic is its own
	observe(e, flow, c)
}

// ObserveClient tells observers of an event of a client that has no Session, such as one refused before it got one.
func (h *Hooks) ObserveClient(kind EventKind, c *Client) {
	if h.wants() {
		h.observe(Event{Kind: kind, Time: time.Now(), Session: c.ID, Side: SideClient, Error: c.Error}, nil, c)
	}
}
