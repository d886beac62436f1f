package connmodel

import (
	"context"
	"crypto/tls"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newFlow(h *Hooks) *Recorder { return newSession(h).NewFlow(ProtocolConnect, hostA, time.Time{}) }

func TestNilHooksDoNothing(t *testing.T) {
	var h *Hooks
	r := newFlow(h)
	p := ServerPlan{Address: hostA}
	ctx := context.Background()
	again, err := h.CallServerConnectError(ctx, r, &p, refused)
	if h.CallClientConnected(ctx, r.Session()) != nil || h.CallRequest(ctx, r, &p) != nil || h.CallServerConnect(ctx, r, &p) != nil || again || err != nil || p.Address != hostA {
		t.Error("nil hooks did something")
	}
	h.ObserveClient(EventClientConnected, &Client{})
	if Compose() != nil || Compose(nil, nil) != nil {
		t.Error("nothing composed is not nil")
	}
	one := &Hooks{}
	if Compose(nil, one, nil) != one {
		t.Error("one hook is wrapped")
	}
	if n := testing.AllocsPerRun(100, func() { _ = h.CallServerConnect(ctx, r, &p); one.CallServerConnect(ctx, r, &p) }); n != 0 {
		t.Errorf("hooks that are not there allocate %v times", n)
	}
}

func TestPlanChangesOnlyOnSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &TLSPlan{Mode: TLSUpgrade, ServerName: "a", Config: &tls.Config{}}
		release := make(chan struct{})
		left := errors.New("no")
		for name, c := range map[string]struct {
			hook func(ctx context.Context, f *Flow, p *ServerPlan) error
			want error
		}{
			"refuses": {func(_ context.Context, _ *Flow, p *ServerPlan) error { p.Address = hostB; return left }, left},
			"panics":  {func(_ context.Context, _ *Flow, p *ServerPlan) error { p.Route = "x"; panic("boom") }, ErrHookPanic},
			"exits":   {func(_ context.Context, _ *Flow, p *ServerPlan) error { p.Route = "x"; runtime.Goexit(); return nil }, ErrHookPanic},
			"too slow": {func(ctx context.Context, _ *Flow, p *ServerPlan) error {
				<-ctx.Done()
				p.Address = hostB
				p.TLS.ServerName = "late"
				<-release
				p.Route = "later"
				return nil
			}, context.DeadlineExceeded},
		} {
			h := &Hooks{Timeout: time.Second, ServerConnect: c.hook, Request: c.hook, ServerConnectError: func(ctx context.Context, f *Flow, p *ServerPlan, _ *ConnError) (bool, error) {
				return true, c.hook(ctx, f, p)
			}}
			p := ServerPlan{Address: hostA, Route: RouteDirect, TLS: shared}
			before := p
			if err := h.CallServerConnect(t.Context(), newFlow(h), &p); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if err := h.CallRequest(t.Context(), newFlow(h), &p); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if again, err := h.CallServerConnectError(t.Context(), newFlow(h), &p, refused); again || !errors.Is(err, c.want) {
				t.Errorf("%s: %v %v", name, again, err)
			}
			if p != before || shared.ServerName != "a" {
				t.Errorf("%s: the plan became %+v, the decision's %+v", name, p, shared)
			}
		}
		close(release)
		synctest.Wait()
		if shared.ServerName != "a" {
			t.Error("a late hook reached the decision")
		}
	})
}

func TestPlanIsEdited(t *testing.T) {
	shared := &TLSPlan{Mode: TLSUpgrade, ServerName: "a", Config: &tls.Config{}}
	p := ServerPlan{Address: hostA, Route: RouteDirect, TLS: shared}
	h := &Hooks{ServerConnect: func(_ context.Context, f *Flow, p *ServerPlan) error {
		if f.Target != hostA {
			t.Errorf("hook sees %v", f)
		}
		p.Address = hostB
		return nil
	}}
	if err := h.CallServerConnect(t.Context(), newFlow(h), &p); err != nil || p.Address != hostB || p.TLS != shared {
		t.Errorf("%v, %+v", err, p)
	}
	h.ServerConnect = func(_ context.Context, _ *Flow, p *ServerPlan) error { p.TLS.ServerName = "b"; return nil }
	if err := h.CallServerConnect(t.Context(), newFlow(h), &p); err != nil || p.TLS.ServerName != "b" || shared.ServerName != "a" || p.TLS.Config != shared.Config {
		t.Errorf("%v, %+v, decision's %+v", err, p.TLS, shared)
	}
	h.ServerConnectError = func(_ context.Context, _ *Flow, p *ServerPlan, err *ConnError) (bool, error) {
		p.Route = "pool.b"
		return err == refused, nil
	}
	if again, err := h.CallServerConnectError(t.Context(), newFlow(h), &p, refused); !again || err != nil || p.Route != "pool.b" {
		t.Errorf("%v %v %+v", again, err, p)
	}
	p.Route = "pool.a"
	if again, err := h.CallServerConnectError(t.Context(), newFlow(h), &p, errSlower); again || err != nil || p.Route != "pool.a" {
		t.Errorf("no other dial, but %v %v %+v", again, err, p)
	}
}

func TestClientConnectedRefuses(t *testing.T) {
	h := &Hooks{ClientConnected: func(_ context.Context, c *Client) error {
		if c.Peer != client || c.State != Active {
			t.Errorf("hook sees %v", c)
		}
		c.State = Closed // a snapshot: nobody cares
		return errors.New("blocked")
	}}
	s := newSession(h)
	if err := h.CallClientConnected(t.Context(), s); err == nil || s.Client().State != Active {
		t.Errorf("%v, %v", err, s.Client())
	}
}

func TestClientHelloHook(t *testing.T) {
	hello := &ClientHello{SNI: "a.example"}
	var none *Hooks
	if err := none.CallClientHello(t.Context(), newFlow(nil), hello); err != nil {
		t.Error(err)
	}
	no := errors.New("no")
	var seen []string
	hook := func(name string, err error) *Hooks {
		return &Hooks{ClientHello: func(_ context.Context, f *Flow, h *ClientHello) error {
			seen = append(seen, name+" "+h.SNI+" "+f.Target.Host+" "+f.Client.Hello.SNI)
			return err
		}}
	}
	h := Compose(hook("a", nil), &Hooks{}, hook("b", no), hook("c", nil))
	r := newFlow(h)
	r.ClientHello(hello)
	r.ClientHello(&ClientHello{SNI: "second.example"})
	if err := h.CallClientHello(t.Context(), r, hello); !errors.Is(err, no) {
		t.Error(err)
	}
	expect(t, seen, "a a.example "+hostA.Host+" a.example", "b a.example "+hostA.Host+" a.example")
	h = &Hooks{ClientHello: func(context.Context, *Flow, *ClientHello) error { panic("boom") }}
	if err := h.CallClientHello(t.Context(), r, hello); !errors.Is(err, ErrHookPanic) {
		t.Errorf("%v: a hook that panics lets the flow pass", err)
	}
	f := r.Close(FlowEnd{Reason: CloseDenied})
	r.ClientHello(&ClientHello{SNI: "late.example"})
	if f.Client.Hello != hello {
		t.Errorf("the record has %+v", f.Client.Hello)
	}
}

// The streams of one connection have a tunnel each, and a hello each.
func TestClientHellosOfStreams(t *testing.T) {
	s := newSession(nil)
	s.Multiplexed()
	a, b, c := s.NewFlow(ProtocolConnect, hostA, time.Time{}), s.NewFlow(ProtocolConnect, hostA, time.Time{}), s.NewFlow(ProtocolConnect, hostA, time.Time{})
	a.Identified(ProtocolConnect, "alice")
	before := a.Snapshot()
	a.ClientHello(&ClientHello{SNI: "a.example"})
	b.ClientHello(&ClientHello{SNI: "b.example"})
	if before.Client.Hello != nil {
		t.Error("a snapshot has changed")
	}
	if f := a.Snapshot(); f.Client.Hello.SNI != "a.example" || f.Client.User != "alice" {
		t.Errorf("%+v", f.Client)
	}
	for r, want := range map[*Recorder]string{a: "a.example", b: "b.example", c: ""} {
		f := r.Close(FlowEnd{Reason: CloseDone})
		got := ""
		if f.Client.Hello != nil {
			got = f.Client.Hello.SNI
		}
		if got != want || r == b && f.Client.User != "" {
			t.Errorf("the record says %q of user %q, expected %q", got, f.Client.User, want)
		}
	}
}

func TestClientHelloEvent(t *testing.T) {
	var kinds []string
	r := newFlow(&Hooks{Observe: func(e Event, flow func() *Flow, _ *Client) {
		kinds = append(kinds, string(e.Kind)+" "+string(e.Side)+" "+flow().Client.Hello.SNI)
	}})
	r.ClientHello(&ClientHello{SNI: "a.example"})
	expect(t, kinds, "tls_clienthello client a.example")
}

func TestCompose(t *testing.T) {
	var calls []string
	mk := func(name string, err error, again bool) *Hooks {
		return &Hooks{
			Observe:         func(e Event, _ func() *Flow, _ *Client) { calls = append(calls, name+" "+string(e.Kind)) },
			ClientConnected: func(context.Context, *Client) error { calls = append(calls, name+" client"); return err },
			ServerConnect: func(_ context.Context, _ *Flow, p *ServerPlan) error {
				calls = append(calls, name+" connect")
				p.Route += name
				return err
			},
			Request: func(context.Context, *Flow, *ServerPlan) error { calls = append(calls, name+" request"); return err },
			ServerConnectError: func(context.Context, *Flow, *ServerPlan, *ConnError) (bool, error) {
				calls = append(calls, name+" failed")
				return again, err
			},
		}
	}
	no := errors.New("no")
	bad := &Hooks{Observe: func(Event, func() *Flow, *Client) { panic("observer") }}
	h := Compose(bad, mk("a", nil, true), nil, &Hooks{Timeout: time.Millisecond}, mk("b", no, false), mk("c", nil, false))
	if h.Timeout != DefaultHookTimeout {
		t.Errorf("timeout %v: the longest holds, and 0 is %v", h.Timeout, DefaultHookTimeout)
	}
	s := newSession(h)
	s.Connected()
	p := ServerPlan{}
	r := s.NewFlow(ProtocolHTTP, hostA, time.Time{})
	again, err := h.CallServerConnectError(t.Context(), r, &p, refused)
	if !errors.Is(h.CallClientConnected(t.Context(), s), no) || !errors.Is(h.CallServerConnect(t.Context(), r, &p), no) || !errors.Is(h.CallRequest(t.Context(), r, &p), no) || again || !errors.Is(err, no) || p.Route != "" {
		t.Errorf("%v %v %+v", again, err, p)
	}
	expect(t, calls, "a client_connected", "b client_connected", "c client_connected", "a failed", "b failed", "a client", "b client", "a connect", "b connect", "a request", "b request")

	calls = nil
	h = Compose(mk("a", nil, false), mk("b", nil, true), mk("c", nil, false))
	if again, err := h.CallServerConnectError(t.Context(), r, &p, refused); !again || err != nil {
		t.Errorf("one of three asks for another dial: %v %v", again, err)
	}
	if err := h.CallServerConnect(t.Context(), r, &p); err != nil || p.Route != "abc" {
		t.Errorf("%v %+v", err, p)
	}
	quiet := Compose(&Hooks{}, &Hooks{})
	if quiet.Observe != nil || quiet.ClientConnected != nil || quiet.ServerConnect != nil || quiet.Request != nil || quiet.ServerConnectError != nil {
		t.Error("composing nothing makes functions that cost")
	}
}

// An observer that panics, ends its goroutine or calls verbs itself does not disturb the order or the session.
func TestObserversMisbehave(t *testing.T) {
	var kinds []string
	var r *Recorder
	h := &Hooks{}
	h.Observe = func(e Event, flow func() *Flow, _ *Client) {
		kinds = append(kinds, string(e.Kind))
		switch e.Kind {
		case EventDecision:
			_ = r.BeginDial(hostA, RouteDirect, false)
			r.BeginAttempt(RouteDirect).Connected(local, peer)
			r.SetMetadata("seen", "decision")
			panic("observer")
		case EventServerConnected:
			runtime.Goexit()
		}
	}
	s := newSession(h)
	r = s.NewFlow(ProtocolConnect, hostA, time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Decided(&Decision{}, nil)
	}()
	<-done
	f := r.Close(FlowEnd{Reason: CloseDone})
	s.Close()
	if f.Metadata["seen"] != "decision" {
		t.Error("an observer cannot attach metadata")
	}
	if got := strings.Join(kinds, " "); got != "decision server_connect server_connected server_disconnected client_disconnected" {
		t.Error(got)
	}
}

func TestHookTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for timeout, want := range map[time.Duration]time.Duration{0: DefaultHookTimeout, time.Minute: time.Minute} {
			h := &Hooks{Timeout: timeout}
			began := time.Now()
			err := h.Call(t.Context(), "x", func(ctx context.Context) error { <-ctx.Done(); <-t.Context().Done(); return nil })
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != want {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := (&Hooks{}).Call(ctx, "x", func(ctx context.Context) error { <-t.Context().Done(); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
