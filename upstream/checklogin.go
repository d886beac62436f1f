package upstream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// login is a credential as checks see it. They show it one at a time, so that one that is not good any more is rejected once, however many
// proxies are shown it; and never first: whether it is good is found out by a flow, which somebody wants.
type login struct {
	turn    chan struct{} // room for one
	worked  atomic.Bool   // a flow has got through where it is shown
	refused atomic.Bool   // a check has seen it rejected where nobody guards it; a flow that gets through ends that
}

// login finds the login of a hop, which hops with the same credential share; nil = it shows none.
func (b *builder) login(h, prev *Hop) *login {
	a := h.spec.Auth
	if a == nil {
		return nil
	}
	var key any
	if p := h.pair(); p != nil {
		key = p
	} else {
		key = sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", a.Domain, a.Username, a.Password.Reveal(), a.Token.Reveal()))
	}
	l := b.logins[key]
	if l == nil {
		if prev != nil && prev.login != nil && prev.state == h.state {
			l = prev.login
		} else {
			l = &login{turn: make(chan struct{}, 1)}
		}
		b.logins[key] = l
	}
	return l
}

// wait takes the turn; done gives it back. l may be nil.
func (l *login) wait(ctx context.Context) (done func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, &turnError{ctx.Err()}
	}
}

// turnError says that a check did not come to show its credential, because others were at it.
type turnError struct{ err error }

func (e *turnError) Error() string {
	return "other checks were showing the same credential all the time"
}
func (e *turnError) Unwrap() error { return e.err }

// proven reports whether the credential of h may be shown by a check.
func (h *Hop) proven() bool {
	if h.fromClient() { // a check has no client
		return false
	}
	if p := h.pair(); p != nil {
		return p.Proven()
	}
	return h.state.worked.Load() && h.login.worked.Load() && !h.login.refused.Load()
}

// passed notes that a flow got through. It writes only what changes.
func (l *login) passed() {
	if !l.worked.Load() {
		l.worked.Store(true)
	}
	if l.refused.Load() {
		l.refused.Store(false)
	}
}

// guardedTurn is for hops that show a credential in their handshake: it waits for the turn of a check. What it returns is called behind the handshake.
func (a *attempt) guardedTurn(n int) (done func(), err *HopError) {
	h := a.hops[n-1]
	ctx, cancel := context.WithDeadline(a.d.ctx, a.d.deadline)
	defer cancel()
	done, werr := h.login.wait(ctx)
	if werr != nil {
		return nil, a.failure(n, connmodel.PhaseAuth, werr)
	}
	return done, nil
}

// unshown asks an HTTP proxy without the credential that it is usually shown. A 407 is as far as a check goes then.
func (a *attempt) unshown(n int, k asker) *HopError {
	h := a.hops[n-1]
	err := a.d.ctx.Err()
	if err == nil {
		err = a.arm(time.Now(), h.spec.Timeouts.Handshake)
	}
	status := 0
	if err == nil {
		status, _, err = k.ask(auth.Field{})
	}
	switch {
	case err != nil:
		return a.failure(n, connmodel.PhaseConnect, err)
	case status == 407:
		return a.failure(n, connmodel.PhaseAuth, errNotShown)
	}
	return nil
}
