package upstream

import (
	"context"
	"errors"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/socks5"
)

// A SOCKS5 proxy may ask the directory that an HTTP proxy asks, so its passwords are guarded alike. Whether it wants one is known only when it
// has answered the greeting: the guard is asked then, and not by connections to a proxy that wants none.

// guardSOCKS puts the password of a SOCKS5 proxy under the guard.
func (h *Hop) guardSOCKS(guard *auth.Guard) {
	a := h.spec.Auth
	if a == nil || guard == nil || a.Password.IsZero() || h.spec.Scheme != schemeSOCKS5 && h.spec.Scheme != schemeSOCKS5h {
		return
	}
	h.socksPair = guard.Pair(auth.Identity{Account: auth.Account(a.Username), Realm: a.Realm, Secret: a.Password.Reveal, Credential: h.credential, Upstream: h.spec.Name})
}

// pair is what the guard knows of the credential; nil = nobody guards it.
func (h *Hop) pair() *auth.Pair {
	if h.auth != nil {
		return h.auth.Pair()
	}
	return h.socksPair
}

// closed returns the error of a credential that is not to be used, else nil.
func (h *Hop) closed() *auth.Error {
	if p := h.pair(); p != nil {
		return p.Closed()
	}
	return nil
}

// socksLogin is the guard of one SOCKS5 handshake.
type socksLogin struct {
	a       *attempt // for its deadlines
	n       int      // hop
	attempt *auth.Attempt
	no      *auth.Error // why the password was not shown
}

// guardLogin makes the guard of a handshake; nil = there is nothing to guard.
func (a *attempt) guardLogin(n int) *socksLogin {
	if a.hops[n-1].socksPair == nil {
		return nil
	}
	return &socksLogin{a: a, n: n}
}

// before is called when the password is about to be sent.
func (l *socksLogin) before() error {
	if l == nil {
		return nil
	}
	a, h := l.a, l.a.hops[l.n-1]
	ctx, cancel := context.WithDeadline(a.d.ctx, a.d.deadline)
	defer cancel()
	at, err := h.socksPair.Acquire(ctx)
	if err != nil {
		errors.As(err, &l.no)
		return err
	}
	l.attempt = at
	if err := a.armProof(at.Proving(), h.spec.Timeouts.Handshake); err != nil {
		at.Unused()
		return err
	}
	return nil
}

// after tells the guard how the handshake ended.
func (l *socksLogin) after(s *steps, err error) {
	switch {
	case l == nil:
	case err == nil, s.phase == connmodel.PhaseConnect: // the request is sent when the password was accepted
		l.attempt.Accepted()
	case errors.As(err, new(*socks5.AuthError)):
		l.attempt.Rejected("the proxy of " + l.a.hops[l.n-1].spec.Name + " rejected it (SOCKS5, RFC 1929)")
	default:
		l.attempt.Silent()
	}
}

// armProof bounds the next answer. Where it decides on a credential it is waited for as long as the proxy may take, although the one who wanted
// to go through may leave before: else nobody would know whether a failed logon was counted.
func (a *attempt) armProof(proving bool, wait time.Duration) error {
	if !proving || a.base == nil {
		return a.arm(time.Now(), wait)
	}
	a.unwatch()
	if err := a.d.ctx.Err(); err != nil {
		return err
	}
	a.armed, a.hasty = true, false
	return a.base.SetDeadline(time.Now().Add(wait))
}
