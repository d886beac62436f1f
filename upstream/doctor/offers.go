package doctor

import (
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"viaduct/upstream/auth"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
)

// connect asks for a tunnel to the target without credentials, on a connection of its own, which the caller closes.
func (x *exam) connect(authorization string) (net.Conn, httpconnect.Result, *httpconnect.StatusError, error) {
	c, err := x.talk()
	if err != nil {
		return nil, httpconnect.Result{}, nil, err
	}
	req := httpconnect.Request{Host: x.Target.Host, Port: x.Target.Port, Authorization: authorization}
	if authorization != "" {
		req.Header = http1.Header{{Name: "Proxy-Connection", Value: "keep-alive"}}
	}
	res, err := httpconnect.Connect(c, req)
	var no *httpconnect.StatusError
	if errors.As(err, &no) {
		err = nil
	}
	return c, res, no, err
}

// ask finds out what an HTTP proxy wants to be shown.
func (x *exam) ask(s *Step) {
	c, res, no, err := x.connect("")
	if c != nil {
		defer c.Close()
	}
	var wrong *httpconnect.ProtocolError
	switch {
	case errors.As(err, &wrong):
		what := wrong.Saw
		if what == "" {
			what = "malformed HTTP"
		}
		s.fail("offers_not_http", "a CONNECT without credentials is answered with %s", clean(what))
		return
	case err != nil:
		s.fail(netCode("offers", err), "a CONNECT without credentials: %s", plain(err))
		return
	}
	x.proto = true
	header := res.Header
	if no != nil {
		header = no.Header
	}
	x.date(header)
	for _, name := range []string{"Via", "Server", "Proxy-Agent"} { // Squid, for one, names itself so
		if v := header.Get(name); v != "" {
			s.fact(strings.ToLower(name), clean(v))
			s.detail("%s: %s", name, clean(v))
		}
	}
	switch {
	case no == nil:
		x.open = true
		s.fact("status", res.Status)
		s.ok("it lets us in without credentials (HTTP %d to CONNECT %s)", res.Status, x.Target)
		if x.Spec.Auth != nil {
			s.detail("the credential of the policy is not asked for, at least not for this target")
		}
	case no.Status == 407:
		s.fact("status", 407)
		x.raw407 = no.ProxyAuthenticate
		x.choose(s)
	default:
		s.fact("status", no.Status)
		s.ok("it answers HTTP %d%s before it asks who we are", no.Status, reason(no))
	}
}

// reason is the proxy's own word for a status.
func reason(no *httpconnect.StatusError) string {
	if no.Reason == "" {
		return ""
	}
	return " (" + clean(no.Reason) + ")"
}

// choose says which of the offers is taken, and why others are not.
func (x *exam) choose(s *Step) {
	offers, err := auth.Parse(x.raw407)
	x.offers = offers
	type offer struct {
		Scheme string `json:"scheme"`
		Realm  string `json:"realm,omitempty"`
	}
	var told []offer
	var names []string
	for i := range offers {
		realm, _ := offers[i].Get("realm")
		told = append(told, offer{clean(offers[i].Scheme), clean(realm)})
		text := clean(offers[i].Scheme)
		if realm != "" {
			text += " (realm " + quoted(realm) + ")"
		}
		names = append(names, text)
	}
	s.fact("offers", told)
	says := "it asks who we are (407) and offers " + short(names)
	if len(names) == 0 {
		says = "it asks who we are (407) and offers nothing"
	}
	may := x.schemes()
	taken := ""
	for _, scheme := range may {
		if taken == "" && x.offered(scheme) {
			taken = scheme
		}
	}
	for _, scheme := range may {
		switch {
		case scheme == taken:
		case !x.offered(scheme):
			s.detail("%s, of the policy, is not offered", scheme)
		default:
			s.detail("%s, of the policy, is offered and comes after %s", scheme, taken)
		}
	}
	for i := range offers {
		if sc := offers[i].Scheme; !slices.Contains(may, sc) {
			s.detail("%s is offered, and not among the schemes of the policy", clean(sc))
		}
	}
	s.fact("chosen", taken)
	x.taken = taken
	switch {
	case err != nil && taken == "":
		s.fail("offers_malformed", "%s, and what it offers cannot be read: %s", says, err)
	case len(names) == 0:
		s.fail("offers_nothing", "%s", says)
	case x.Spec.Auth == nil:
		s.fail("offers_no_auth", "%s; the policy has no credential for it", says)
	case len(may) == 1 && may[0] == auth.Header:
		s.ok("%s; it is shown the field %s", says, clean(x.Spec.Auth.Header))
	case taken == "":
		s.about["offered"], s.about["allowed"] = short(names), strings.Join(may, ", ")
		s.fail("offers_none_usable", "%s; the policy allows %s", says, strings.Join(may, ", "))
	case taken == auth.Basic && x.Spec.Scheme == "http" && !loopback(x.Spec.Address.Host):
		s.warn("offers_basic_clear", "%s; %s is taken, and the password goes there in the clear", says, taken)
	default:
		s.ok("%s; %s is taken", says, taken)
	}
	if err != nil && taken != "" {
		s.detail("a part of the offers cannot be read: %s", err)
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// skewLimit is how far clocks may be apart before it matters to anybody, and kerberosSkew what KDCs allow by default.
const (
	skewLimit    = time.Minute
	kerberosSkew = 5 * time.Minute
)

// date reads the proxy's clock.
func (x *exam) date(h http1.Header) {
	v := h.Get("Date")
	if v == "" {
		return
	}
	t, err := time.Parse(time.RFC1123, v)
	if err != nil {
		return
	}
	d := time.Until(t).Round(time.Second)
	x.dateSkew = &d
}

// clock compares clocks.
func (x *exam) clock() {
	x.step("clock", func(s *Step) {
		if x.dateSkew == nil {
			s.skip("the proxy does not tell its time (no Date)")
			return
		}
		x.compare(s, *x.dateSkew, "proxy")
	})
}

// compare judges a difference: positive means that the other clock is ahead.
func (x *exam) compare(s *Step, d time.Duration, whose string) {
	s.fact("skew_s", d.Seconds())
	s.about["whose"], s.about["skew"] = whose, d.Abs().String()
	switch limit := kerberosSkew; {
	case d.Abs() <= skewLimit:
		s.ok("the clocks of this machine and of the %s agree (%s)", whose, difference(d))
	case d.Abs() >= limit && x.uses(auth.Negotiate) && whose == "KDC":
		s.fail("clock_kdc", "the clock of the %s is %s this one", whose, difference(d))
	default:
		s.warn("clock_skew", "the clock of the %s is %s this one", whose, difference(d))
	}
}

func difference(d time.Duration) string {
	switch {
	case d.Abs() < 2*time.Second:
		return "within 2 s"
	case d < 0:
		return (-d).String() + " behind"
	}
	return d.String() + " ahead of"
}

// ntlm asks for the challenge of NTLM, which takes nothing of ours.
func (x *exam) ntlm(s *Step) {
	c, _, no, err := x.connect(auth.NTLMHello())
	if c != nil {
		defer c.Close()
	}
	switch {
	case err != nil:
		s.fail(netCode("offers", err), "the first message of the handshake: %s", plain(err))
		return
	case no == nil:
		s.ok("it lets us in at the first message of the handshake")
		return
	case no.Status != 407:
		s.fail("ntlm_refused", "the first message of the handshake is answered with HTTP %d%s", no.Status, reason(no))
		return
	}
	f, err := auth.ReadNTLM(no.ProxyAuthenticate)
	if err != nil {
		s.fail("ntlm_challenge", "%s", err)
		return
	}
	var says []string
	for _, p := range []struct{ key, label, value string }{{"domain", "domain", f.Domain}, {"dns_domain", "of DNS", f.DNSDomain}, {"computer", "computer", f.Computer}, {"dns_computer", "of DNS", f.DNSComputer}} {
		if p.value != "" {
			s.fact(p.key, clean(p.value))
			says = append(says, p.label+" "+quoted(p.value))
		}
	}
	s.ok("its challenge is of %s", strings.Join(says, ", "))
	if len(says) == 0 {
		s.ok("its challenge names neither domain nor computer")
	}
	if !no.KeepAlive {
		s.warn("ntlm_closes", "%s, and it ends the connection that the handshake needs", s.Says)
		return
	}
	if f.Time.IsZero() {
		s.detail("it does not tell its time")
		return
	}
	d := time.Until(f.Time).Round(time.Second)
	s.fact("skew_s", d.Seconds())
	s.detail("its clock is %s this one", difference(d))
	if d.Abs() > 30*time.Minute {
		s.about["whose"], s.about["skew"] = "proxy's domain", d.Abs().String()
		s.warn("clock_ntlm", "%s; its clock is %s this one", s.Says, difference(d))
	}
}

// greet finds out how a SOCKS5 proxy wants to be shown who we are, with a greeting that shows nothing (RFC 1928, section 3).
func (x *exam) greet(s *Step) {
	c, err := x.talk()
	if err != nil {
		s.fail(netCode("tcp", err), "%s", plain(err))
		return
	}
	defer c.Close()
	methods := []byte{5, 1, 0}
	if x.Spec.Auth != nil {
		methods = []byte{5, 2, 0, 2}
	}
	var b [2]byte
	if _, err = c.Write(methods); err == nil {
		_, err = readFull(c, b[:])
	}
	switch {
	case err != nil:
		s.fail(netCode("offers", err), "the greeting: %s", plain(err))
		return
	case b[0] != 5:
		s.fail("offers_not_socks5", "the greeting is answered with bytes that begin % x", b)
		return
	}
	x.proto = true
	s.fact("method", int(b[1]))
	switch b[1] {
	case 0:
		x.open = true
		s.ok("it lets us in without credentials")
		if x.Spec.Auth != nil {
			s.detail("the user and password of the policy are not asked for")
		}
	case 2:
		s.ok("it asks for user and password")
	case 0xff:
		if x.Spec.Auth == nil {
			s.fail("socks_wants_auth", "it does not let us in without credentials, and the policy has none")
		} else {
			s.fail("socks_no_method", "it takes neither no credentials nor user and password")
		}
	default:
		s.fail("socks_no_method", "it chose method %d, which was not offered", b[1])
	}
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}
