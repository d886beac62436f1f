package connmodel

import (
	"context"
	"fmt"
	"time"
)

// CallClientConnected runs ClientConnected, if there is one, on a snapshot of the client. An error refuses the client.
func (h *Hooks) CallClientConnected(ctx context.Context, s *Session) error {
	if h == nil || h.ClientConnected == nil {
		return nil
	}
	c := s.Client()
	return h.Call(ctx, "client_connected", func(ctx context.Context) error { return h.ClientConnected(ctx, &c) })
}

// CallClientHello runs ClientHello, if there is one, on a snapshot of the flow. An error refuses the flow.
func (h *Hooks) CallClientHello(ctx context.Context, r *Recorder, hello *ClientHello) error {
	if h == nil || h.ClientHello == nil {
		return nil
	}
	f := r.Snapshot()
	return h.Call(ctx, "tls_clienthello", func(ctx context.Context) error { return h.ClientHello(ctx, f, hello) })
}

// CallRequest runs Request, if there is one. p changes only when it returns nil.
func (h *Hooks) CallRequest(ctx context.Context, r *Recorder, p *ServerPlan) error {
	if h == nil || h.Request == nil {
		return nil
	}
	return h.callPlan(ctx, "request", h.Request, r, p)
}

// CallServerConnect runs ServerConnect, if there is one. p changes only when it returns nil.
func (h *Hooks) CallServerConnect(ctx context.Context, r *Recorder, p *ServerPlan) error {
	if h == nil || h.ServerConnect == nil {
		return nil
	}
	return h.callPlan(ctx, "server_connect", h.ServerConnect, r, p)
}

func (h *Hooks) callPlan(ctx context.Context, name string, hook planHook, r *Recorder, p *ServerPlan) error {
	f, mine := r.Snapshot(), p.clone()
	if err := h.Call(ctx, name, func(ctx context.Context) error { return hook(ctx, f, mine) }); err != nil {
		return err
	}
	p.take(mine)
	return nil
}

// CallServerConnectError runs ServerConnectError, if there is one. p changes only when another dial is asked for.
func (h *Hooks) CallServerConnectError(ctx context.Context, r *Recorder, p *ServerPlan, cause *ConnError) (again bool, err error) {
	if h == nil || h.ServerConnectError == nil {
		return false, nil
	}
	f, mine, more := r.Snapshot(), p.clone(), false
	err = h.Call(ctx, "server_connect_error", func(ctx context.Context) (err error) {
		more, err = h.ServerConnectError(ctx, f, mine, cause)
		return err
	})
	if err != nil || !more {
		return false, err
	}
	p.take(mine)
	return true, nil
}

// clone copies p for a hook that may still write to it when nobody waits for it any more.
func (p *ServerPlan) clone() *ServerPlan {
	c := *p
	c.TLS = clone(p.TLS)
	return &c
}

// take sets p to what a hook made of its clone c. A TLS plan that was left as it was stays the decision's own.
func (p *ServerPlan) take(c *ServerPlan) {
	if p.TLS != nil && c.TLS != nil && *p.TLS == *c.TLS {
		c.TLS = p.TLS
	}
	*p = *c
}

func (h *Hooks) timeout() time.Duration {
	if h.Timeout > 0 {
		return h.Timeout
	}
	return DefaultHookTimeout
}

// Call runs a deciding hook under its deadline and turns a panic or a missed deadline into an error: hooks fail closed. After
// a missed deadline f may still run: what it writes must not be read.
func (h *Hooks) Call(ctx context.Context, name string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("hook %s: %w: it ended its goroutine", name, ErrHookPanic)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("hook %s: %w: %v", name, ErrHookPanic, p)
			}
			done <- err
		}()
		err = f(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("hook %s: %w", name, ctx.Err())
	}
}
