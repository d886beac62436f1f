package router

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"viaduct/connmodel"
)

// handshakeFault says what a failed handshake with a client means: who did not like what, and what to do. crypto/tls has no types for most
// of it, so what the ClientHello said is looked at, and what is left is told in the words of crypto/tls.
func handshakeFault(f *firstFlight, d *doorTLS, err error) *connmodel.ConnError {
	e := &connmodel.ConnError{Phase: connmodel.PhaseTLS, Side: connmodel.SideClient, Kind: connmodel.KindTLS, Blame: connmodel.BlameClient, Cause: err}
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, errFlight), strings.HasSuffix(err.Error(), "bytes exceeds maximum of 262144 bytes"): // announced, and not read
		e.Kind, e.Message = connmodel.KindLimit, "the client's part of the TLS handshake is longer than "+strconv.Itoa(maxFlight>>10)+" KiB"
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Kind, e.Message = connmodel.KindTimeout, "the client did not complete its TLS handshake in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Message = connmodel.KindEOF, "the client closed the connection within the TLS handshake"
		switch {
		case f.hello && d.conf.ClientCAs != nil:
			e.Message += "; it may not trust the certificate of this listener, or ask its user for one and come again"
		case f.hello:
			e.Message += "; it may not trust the certificate of this listener"
		}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Kind, e.Message = connmodel.KindReset, "the client reset the connection within the TLS handshake"
	case f.alerted(e, err):
	case f.rejected(e, err):
	case errors.As(err, &header), !f.hello:
		e.Kind, e.Message = connmodel.KindProtocol, "what the client sent is no TLS handshake: "+inWords(err)
	case !slices.ContainsFunc(f.versions, func(v uint16) bool { return v >= d.config.MinVersion && v <= tls.VersionTLS13 }):
		e.Message = "the client speaks " + versionNames(f.versions) + ", and this listener asks for " + tls.VersionName(d.config.MinVersion) + " or later (min_version)"
	default:
		e.Message = "the TLS handshake with the client failed: " + inWords(err)
	}
	return e
}

// alerted tells of a handshake that the client ended with an alert: mostly it does not like our certificate.
func (f *firstFlight) alerted(e *connmodel.ConnError, err error) bool {
	a, ok := connmodel.PeerAlert(err)
	if !ok && strings.HasSuffix(err.Error(), "bad record MAC") {
		a, ok = f.plainAlert()
	}
	if !ok {
		return false
	}
	e.Code, e.CodeOf = int(a), "tls"
	why := ""
	switch a {
	case 42, 43, 46:
		why = "it does not accept the certificate of this listener"
		if f.sni != "" {
			why += " for the name " + strconv.QuoteToASCII(short(f.sni))
		}
	case 44:
		why = "it holds the certificate of this listener for revoked"
	case 45:
		why = "it holds the certificate of this listener for expired"
	case 48:
		why = "it does not know the authority that signed the certificate of this listener"
	case 40, 70, 71:
		why = "nothing that this listener can do is good enough for it"
	case 90:
		why = "its user has ended it"
	default:
		e.Message = "the client ended the TLS handshake: " + a.Error()
		return true
	}
	e.Message = "the client ended the TLS handshake: " + why + " (" + a.Error() + ")"
	return true
}

// rejected tells of a client certificate that is missing or was not accepted.
func (f *firstFlight) rejected(e *connmodel.ConnError, err error) bool {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		e.Message = "the client's certificate is signed by an authority that client_ca does not hold"
		if c := unknown.Cert; c != nil {
			e.Message += ": " + strconv.QuoteToASCII(short(c.Issuer.String()))
		}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		e.Message = "the client's certificate is not valid now: it is so from " + invalid.Cert.NotBefore.UTC().Format("2006-01-02 15:04 MST") +
			" to " + invalid.Cert.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		e.Message = "the client's certificate is not one for clients (extended key usage)"
	case errors.As(err, &verify):
		e.Message = "the client's certificate was not accepted: " + inWords(verify.Err)
	case strings.HasSuffix(err.Error(), "client didn't provide a certificate"):
		e.Kind, e.Message = connmodel.KindAuth, "the client has no certificate, and this listener asks for one"
	case errors.As(err, new(*userError)):
		e.Kind, e.Message = connmodel.KindAuth, err.Error()
	default:
		return false
	}
	e.Phase = connmodel.PhaseTLS
	return true
}

// inWords is the text of an error of crypto/tls, which may hold bytes of the client.
func inWords(err error) string {
	return strconv.QuoteToASCII(short(strings.TrimPrefix(err.Error(), "tls: ")))
}

func short(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}

func versionNames(list []uint16) string {
	var names []string
	for _, v := range list {
		if v>>8 == 3 && v <= tls.VersionTLS13 && !slices.Contains(names, tls.VersionName(v)) { // and neither GREASE nor what is not known yet
			names = append(names, tls.VersionName(v))
		}
	}
	if len(names) == 0 {
		return "no version of TLS that is known here"
	}
	return strings.Join(names, ", ")
}
