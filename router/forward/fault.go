package forward

import (
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
	e := &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideClient, Blame: connmodel.BlameClient, Cause: err}
	var bad *http1.Error
	switch {
	case errors.As(err, &bad):
		e.Kind, e.Code, e.CodeOf, e.Message = connmodel.KindProtocol, bad.Status, "http", "bad request body: "+bad.Error()
	case timedOut(err):
		e.Kind, e.Message = connmodel.KindTimeout, "the client neither sent nor took a byte for the idle timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Message = connmodel.KindEOF, "the client closed the connection in the middle of its request"
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

// readFault is a failure of waiting for the response head. A fault of the upload comes first: it is usually the reason.
func (x *exchange) readFault(err error) *connmodel.ConnError {
	var we *http1.WriteError
	if errors.As(err, &we) {
		return x.clientFault(err) // an interim response could not be passed on
	}
	if up := x.uploadFault(err); up != nil {
		return x.clientFault(up)
	}
	var bad *http1.Error
	var e *connmodel.ConnError
	switch {
	case errors.As(err, &bad):
		e = x.serverError(connmodel.KindProtocol, "sent a response that breaks the rules: "+bad.Error())
	case timedOut(err):
		e = x.serverError(connmodel.KindTimeout, "did not answer the request in time")
	case errors.Is(err, io.EOF):
		e = x.serverError(connmodel.KindEOF, "closed the connection without an answer")
	case errors.Is(err, io.ErrUnexpectedEOF):
		e = x.serverError(connmodel.KindEOF, "closed the connection in the middle of its answer")
	case errors.Is(err, syscall.ECONNRESET):
		e = x.serverError(connmodel.KindReset, "reset the connection without an answer")
	default:
		e = x.serverError(connmodel.KindReset, "broke the connection without an answer")
	}
	e.Cause = err
	return e
}

// bodyFault is a failure in the middle of a response's body.
func (x *exchange) bodyFault(err error) *connmodel.ConnError {
	var we *http1.WriteError
	if errors.As(err, &we) {
		return x.clientFault(we.Err)
	}
	var e *connmodel.ConnError
	var bad *http1.Error
	switch {
	case errors.As(err, &bad):
		e = x.serverError(connmodel.KindProtocol, "sent a body that breaks the rules: "+bad.Error())
	case timedOut(err):
		e = x.serverError(connmodel.KindTimeout, "sent no byte of the body for the idle timeout")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e = x.serverError(connmodel.KindEOF, "closed the connection in the middle of the body")
	default:
		e = x.serverError(connmodel.KindReset, "reset the connection in the middle of the body")
	}
	e.Phase, e.Cause = connmodel.PhaseRelay, err
	return e
}

// uploadFault returns what ended the upload, if that was the client's doing. The upload closes the connection to the server
// before it tells, so when that is what ended the wait the word of the upload is certain to come.
func (x *exchange) uploadFault(err error) error {
	if x.upload == nil {
		return nil
	}
	var up error
	if errors.Is(err, net.ErrClosed) {
		up = <-x.upload
	} else {
		select {
		case up = <-x.upload:
		default:
			return nil
		}
	}
	x.joined(up)
	var we *http1.WriteError
	if up == nil || errors.As(up, &we) {
		return nil
	}
	return up
}
