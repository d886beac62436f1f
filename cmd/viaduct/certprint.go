package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// print writes what was seen for people. What the server says is quoted where it is more than plain text.
func (s *sighting) print(w io.Writer) error {
	p := palette(colourful(w))
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	what := s.Target
	if s.Server != "" {
		what = s.Server + " in place of " + s.Target
	}
	way := s.Route
	if s.Way != "" && s.Way != s.Route && "upstream."+s.Way != s.Route {
		way += " (" + s.Way + ")"
	}
	fmt.Fprintf(w, "%s through %s, %s\n", p.bold(what), way, s.By)
	if s.Note != "" {
		line("note", "%s", p.bad(s.Note))
	}
	if t := s.TLS; t != nil && t.Version != "" {
		alpn := "no ALPN"
		if t.ALPN != nil && *t.ALPN != "" {
			alpn = "ALPN " + shown(*t.ALPN)
		}
		name := "no name sent"
		if t.SNI != "" {
			name = "name sent " + t.SNI
		}
		line("tls", "%s, %s, %s, %s", t.Version, t.Cipher, alpn, name)
	}
	if s.TLS != nil {
		now := time.Now()
		for i := range s.TLS.Certificates {
			fmt.Fprintln(w)
			total := 0
			if i < len(s.chain) { // the facts are bounded
				x := s.chain[i]
				total = len(x.DNSNames) + len(x.IPAddresses) + len(x.URIs)
			}
			printCertificate(w, p, i+1, &s.TLS.Certificates[i], total, now)
		}
	}
	fmt.Fprintln(w)
	s.printVerdict(line, p)
	for _, x := range s.Problems {
		line("problem", "%s", x)
	}
	for _, x := range s.Warnings {
		line("warning", "%s", x)
	}
	_, err := io.WriteString(w, "")
	return err
}

func (s *sighting) printVerdict(line func(label, format string, args ...any), p palette) {
	against := s.Trust
	switch {
	case s.Error != "":
		line("verdict", "%s", p.bad("no certificate was accepted: the handshake could not be made"))
		return
	case s.Unverified && s.Accepted && len(s.Problems) > 0:
		line("verdict", "%s; %s", p.bad("accepted because verify = false: any certificate is"), against)
	case s.Unverified && s.Accepted:
		line("verdict", "%s; %s", p.good("accepted, and would be with verify = true"), against)
	case s.Accepted:
		line("verdict", "%s, up to %s; %s", p.good("accepted for "+s.ServerName), shown(s.Authority), against)
	default:
		line("verdict", "%s; %s", p.bad("NOT accepted for "+s.ServerName), against)
	}
	if s.Pinned {
		line("", "one of the pins of the policy is there")
	}
}

// printCertificate writes what is known of certificate number n, which has total names if that is known.
func printCertificate(w io.Writer, p palette, n int, c *connmodel.Certificate, total int, now time.Time) {
	line := func(label, text string) { fmt.Fprintf(w, "%-3s%-10s %s\n", "", label, text) }
	kind := ""
	if c.IsCA {
		kind = " (an authority)"
	}
	fmt.Fprintf(w, "%-3s%s%s\n", strconv.Itoa(n)+".", p.bold(shown(c.Subject)), kind)
	line("issuer", shown(c.Issuer))
	if names := append(append(append([]string(nil), c.SANs.DNS...), c.SANs.IP...), c.SANs.URI...); len(names) > 0 {
		line("names", someNames(names, max(total, len(names))))
	} else if !c.IsCA {
		line("names", p.bad("none (no subject alternative name)"))
	}
	valid := c.NotBefore.UTC().Format("2006-01-02 15:04") + " to " + c.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	switch c.VerdictAt(now) {
	case connmodel.CertExpired:
		valid += ", " + p.bad("expired "+days(now.Sub(c.NotAfter))+" ago")
	case connmodel.CertNotYetValid:
		valid += ", " + p.bad("not valid before "+days(c.NotBefore.Sub(now)))
	default:
		valid += ", " + days(c.NotAfter.Sub(now)) + " left"
	}
	line("valid", valid)
	line("key", c.KeyType+", signed with "+c.Signature)
	line("sha256", c.SHA256)
	line("pin", c.Pin)
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " days"
}

// maxShownNames bounds the names that are printed; JSON has more.
const maxShownNames = 8

func someNames(names []string, total int) string {
	more := ""
	if n := total - maxShownNames; n > 0 && len(names) > maxShownNames {
		names, more = names[:maxShownNames], " and "+strconv.Itoa(n)+" more"
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = shown(n)
	}
	return strings.Join(out, ", ") + more
}

// shown returns a text of the server's as it may be printed: in quotes where it could mean something to a terminal.
func shown(s string) string {
	if printable(s) != s {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// writePEM writes the chain as it was sent.
func (s *sighting) writePEM(w io.Writer) error {
	for _, c := range s.chain {
		if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	return nil
}
