package forward

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// send writes the head and the body. A body that is not here yet is sent by a goroutine of its own, because the response may come
// before its end. final says that a final response is in x.resp already: the server refused an expected body.
func (x *exchange) send() (final bool, err *connmodel.ConnError) {
	head, e := x.requestHead()
	var no *connmodel.ConnError
	switch {
	case errors.As(e, &no): // who we are cannot be shown
		return false, no
	case e != nil:
		return false, internal("the request cannot be written: " + e.Error())
	}
	p, req := x.p, x.p.Req
	x.body = p.In.Body(req.Body)
	if !req.Body.HasBody() || here(p.In, req.Body) {
		if x.srv.Login != nil && req.Body.HasBody() {
			x.replay = slices.Clone(p.In.Buffered()[:req.Body.Length])
		}
		x.line.wait(p.Timeouts.Response, int64(len(p.In.Buffered())) > max(req.Body.Length, 0))
		return false, x.sendNow(head)
	}
	if req.Expect100 && len(p.In.Buffered()) == 0 {
		x.line.wait(p.Timeouts.Response, false)
		if _, e := x.srv.Conn.Write(head); e != nil {
			x.sendErr = &http1.WriteError{Err: e}
			return false, nil
		}
		head = nil
		if final, err = x.expect(); final || err != nil {
			return final, err
		}
	}
	x.startUpload(head)
	return false, nil
}

// sendNow sends what is all here. That it fails is not the end: the server may have answered before it closed.
func (x *exchange) sendNow(head []byte) *connmodel.ConnError {
	var err error
	if x.p.Req.Body.HasBody() {
		x.up, err = http1.Copy((*uploader)(x), head, x.body, x.p.Req.Body)
	} else {
		_, err = x.srv.Conn.Write(head)
		if err != nil {
			err = &http1.WriteError{Err: err}
		}
	}
	switch {
	case err == nil:
		x.sent = true
		x.p.Rec.RequestSent()
	case timedOut(err):
		return x.sendFault(err)
	default:
		x.sendErr = err
	}
	return nil
}

// expectTime is how long a client that asked "Expect: 100-continue" waits for the server's word before we tell it to go on
// (RFC 9110, section 10.1.1).
const expectTime = time.Second

// expect waits for the server's word on whether it wants the body.
func (x *exchange) expect() (final bool, err *connmodel.ConnError) {
	x.line.serverReadBy(time.Now().Add(expectTime))
	defer x.line.serverReadBy(time.Time{})
	for {
		e := x.readHead()
		switch {
		case e != nil && timedOut(e) && x.line.why() == cutNot:
			return false, x.sendContinue()
		case e != nil:
			return false, x.readFault(e)
		case x.final():
			return true, nil // the body will never be asked for
		}
		if x.resp.Status == 100 {
			return false, x.sendContinue()
		}
		if e := x.informational(); e != nil {
			return false, x.clientFault(e)
		}
	}
}

var continueHead = []byte("HTTP/1.1 100 Continue\r\n\r\n")

func (x *exchange) sendContinue() *connmodel.ConnError {
	x.told100 = true
	if _, err := x.p.Client.Write(continueHead); err != nil {
		return x.clientFault(err)
	}
	return nil
}

// startUpload sends what is left of the request beside the waiting for the response.
func (x *exchange) startUpload(head []byte) {
	x.told100 = true // a client that did not wait is not told to go on
	x.line.upload(x.p.Timeouts.Idle)
	x.upload = make(chan error, 1)
	go x.runUpload(head)
}

// runUpload is the upload's goroutine. Of x it writes up and lastWrite, and line and Rec, which have locks.
func (x *exchange) runUpload(head []byte) {
	var err error
	done := x.upload
	defer func() {
		if v := recover(); v != nil {
			err = &uploadPanic{v}
		}
		x.uploadEnded(err)
		done <- err
	}()
	x.up, err = x.stream((*uploader)(x), x.p.Client, x.srv.Conn, x.p.In, head, x.body, x.p.Req.Body, &x.lastWrite)
}

// uploadEnded wakes the one who waits for the response, or gives it the time that it has for that.
func (x *exchange) uploadEnded(err error) {
	var we *http1.WriteError
	switch {
	case err == nil:
		x.p.Rec.RequestSent()
		x.line.uploaded(x.p.Timeouts.Response, len(x.p.In.Buffered()) > 0)
	case errors.As(err, &we):
		x.line.uploaded(x.p.Timeouts.Response, true) // the server does not want more of it, and may say why
	default:
		x.line.cut(cutUpload)
	}
}

// uploadPanic brings a panic of the upload to the goroutine of the session, which knows what to do with it.
type uploadPanic struct{ value any }

func (p *uploadPanic) Error() string { return fmt.Sprint("panic: ", p.value) }

// joined takes the upload's result in.
func (x *exchange) joined(err error) {
	x.upload = nil
	x.sent, x.sendErr = err == nil, err
	if p, ok := err.(*uploadPanic); ok {
		panic(p.value)
	}
}

// uploadGrace is how long a client may go on sending a body after its response is complete.
const uploadGrace = time.Second

// awaitUpload gives the upload some time to end.
func (x *exchange) awaitUpload(most time.Duration) {
	if x.upload == nil {
		return
	}
	select {
	case err := <-x.upload:
		x.joined(err)
		return
	default:
	}
	if most <= 0 {
		return
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case err := <-x.upload:
		x.joined(err)
	case <-t.C:
	}
}

// cutUpload ends the upload at once.
func (x *exchange) cutUpload() {
	if x.awaitUpload(0); x.upload != nil {
		x.line.stopUpload()
		x.joined(<-x.upload)
	}
}

// uploader is what the upload writes to.
type uploader exchange

// Write writes to the server.
func (u *uploader) Write(b []byte) (int, error) {
	if u.body.Done() {
		u.lastWrite.Store(true)
	}
	n, err := u.srv.Conn.Write(b)
	u.line.moved.Add(int64(n))
	return n, err
}
