package forward

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

func internal(message string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseRequest, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal, Message: message, Blame: connmodel.BlameLocal,
	}
}

var errCanceled = &connmodel.ConnError{
	Phase: connmodel.PhaseRequest, Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled,
	Message: "the gateway ended the connection before the response was complete",
}

var errLeft = &connmodel.ConnError{
	Phase: connmodel.PhaseRequest, Side: connmodel.SideClient, Kind: connmodel.KindCanceled,
	Message: "the client left before the server had answered",
}

var errTooMany1xx = &http1.Error{Status: 502, Reason: "too many informational responses", Section: "RFC 9110 15.2"}

// serverError is a failure of whoever x.srv leads to: the proxy when it is one, else the server.
func (x *exchange) serverError(kind connmodel.Kind, message string) *connmodel.ConnError {
	e := &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideServer, Kind: kind, Message: message, Blame: connmodel.BlameTarget}
	if x.srv.Absolute {
		e.Side, e.Hop, e.HopName, e.Blame = connmodel.SideHop, x.srv.Hop, x.srv.HopName, connmodel.BlameProxy
	}
	return e
}

// clientFault is a failure of the client's connection.
func (x *exchange) clientFault(err error) *connmodel.ConnError {
	return x.clientFaultIn(connmodel.PhaseRequest, err)
}

func (x *exchange) clientFaultIn(phase connmodel.Phase, err error) *connmodel.ConnError {
	if e := x.ended(); e != nil {
		return e
	}
	e := &connmodel.ConnError{Phase: phase, Side: connmodel.SideClient, Blame: connmodel.BlameClient, Cause: err}
	var bad *http1.Error
	switch {
	case errors.As(err, &bad):
		e.Kind, e.Code, e.CodeOf, e.Message = connmodel.KindProtocol, bad.Status, "http", "bad request body: "+bad.Error()
	case timedOut(err):
		e.Kind, e.Code, e.CodeOf, e.Message = connmodel.KindTimeout, 408, "http", "the client neither sent nor took a byte for the idle timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Code, e.CodeOf, e.Message = connmodel.KindEOF, 400, "http", "the client closed the connection in the middle of its request"
	default:
		e.Kind, e.Message = connmodel.KindReset, "the client closed the connection before its response was complete"
	}
	return e
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// sendFault is a failure of sending the request: the server's when it did not take it, else the client's.
func (x *exchange) sendFault(err error) *connmodel.ConnError {
	if e := x.ended(); e != nil {
		return e
	}
	var we *http1.WriteError
	if !errors.As(err, &we) {
		return x.clientFault(err)
	}
	kind, what := connmodel.KindReset, "closed the connection before it had taken the request"
	if timedOut(we.Err) {
		kind, what = connmodel.KindTimeout, "did not take the request in time"
	}
	e := x.serverError(kind, what)
	e.Cause = err
	return e
}

// cutFault is what an exchange that was ended says, if that is why it failed; nil if it is not. The upload, which ends with it, knows
// more: whoever did not move is at fault.
func (x *exchange) cutFault() *connmodel.ConnError {
	switch x.line.why() {
	case cutUpload, cutIdle:
		if x.upload != nil {
			x.joined(<-x.upload)
			if x.sendErr != nil {
				return x.sendFault(x.sendErr)
			}
		}
	}
	return x.ended()
}

// ended is what an exchange says that was ended for a reason which makes all else that it met a consequence; else nil.
func (x *exchange) ended() *connmodel.ConnError {
	switch x.line.why() {
	case cutCanceled:
		return errCanceled
	case cutLeft:
		return errLeft
	}
	return nil
}

// readFault is a failure of waiting for the response head.
func (x *exchange) readFault(err error) *connmodel.ConnError {
	if e := x.cutFault(); e != nil {
		return e
	}
	if a, ok := connmodel.PeerAlert(err); ok {
		return x.alertFault(a, err)
	}
	var bad *http1.Error
	kind, what := connmodel.KindReset, "broke the connection without an answer"
	switch {
	case errors.As(err, &bad):
		kind, what = connmodel.KindProtocol, "sent a response that breaks the rules: "+bad.Error()
	case timedOut(err):
		kind, what = connmodel.KindTimeout, "did not answer the request in time"
	case len(x.srv.In.Buffered()) > 0:
		kind, what = connmodel.KindEOF, "closed the connection in the middle of its answer"
	case x.sendErr != nil:
		return x.sendFault(x.sendErr)
	case errors.Is(err, io.EOF):
		kind, what = connmodel.KindEOF, "closed the connection without an answer"
	case errors.Is(err, syscall.ECONNRESET):
		what = "reset the connection without an answer"
	}
	e := x.serverError(kind, what)
	e.Cause = err
	return e
}

// alertFault is an alert of whoever is at the other end of TLS.
func (x *exchange) alertFault(a tls.AlertError, err error) *connmodel.ConnError {
	e := x.serverError(connmodel.KindTLS, AlertText(a, x.srv.Absolute))
	e.Code, e.CodeOf, e.Cause = int(a), "tls", err
	return e
}

// AlertText says what a server, or a proxy, did that ended an established TLS connection with an alert, and what can be done about it.
func AlertText(a tls.AlertError, proxy bool) string {
	text := "ended the TLS connection: " + a.Error()
	whose := "the rule's"
	if proxy {
		whose = "the upstream's"
	}
	switch a {
	case 116: // certificate_required (RFC 8446, section 6.2)
		text += "; it wants a client certificate: " + whose + " tls block can name a certificate and key"
	case 42, 43, 44, 45, 46, 48: // bad_certificate to unknown_ca
		text += "; it does not accept our client certificate, or wants one: " + whose + " tls block can name a certificate and key"
	}
	return text
}

// bodyFault is a failure in the middle of a response's body.
func (x *exchange) bodyFault(err error) *connmodel.ConnError {
	var we *http1.WriteError
	if errors.As(err, &we) {
		return x.clientFaultIn(connmodel.PhaseRelay, we.Err)
	}
	if e := x.cutFault(); e != nil {
		return e
	}
	if a, ok := connmodel.PeerAlert(err); ok {
		e := x.alertFault(a, err)
		e.Phase = connmodel.PhaseRelay
		return e
	}
	var bad *http1.Error
	kind, what := connmodel.KindReset, "reset the connection in the middle of the body"
	switch {
	case errors.As(err, &bad):
		kind, what = connmodel.KindProtocol, "sent a body that breaks the rules: "+bad.Error()
	case timedOut(err):
		kind, what = connmodel.KindTimeout, "sent no byte of the body for the idle timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		kind, what = connmodel.KindEOF, "closed the connection in the middle of the body"
	}
	e := x.serverError(kind, what)
	e.Phase, e.Cause = connmodel.PhaseRelay, err
	return e
}
