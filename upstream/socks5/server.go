package socks5

const (
	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	authVersion = 0x01

	cmdConnect   = 0x01
	cmdAssociate = 0x03
)

// MaxMessage is the longest message of a client: user and password.
const MaxMessage = 1 + 1 + 255 + 1 + 255

// Event is what a Server came to.
type Event uint8

const (
	More         Event = iota // more bytes are needed
	Authenticate              // User and Password are there: call Verified
	Request                   // Target is there: connect, or associate, then AppendReply
)

// Server is the server's side of one handshake, up to the request. It does no
// I/O: feed it what came, write what it gives. A request is looked at only when
// the method is settled and, where a password is demanded, Verified was told
// true: bytes that came early stay unread until then.
//
// The zero value demands no authentication.
type Server struct {
	Auth bool // user and password are demanded (RFC 1929), nothing else accepted
	UDP  bool // UDP ASSOCIATE is taken beside CONNECT

	User     string // once Step said Authenticate
	Password string // likewise; a secret
	Target   Addr   // once Step said Request
	// Associate says, once Step said Request, that it is UDP ASSOCIATE: Target is
	// then where the client is going to send datagrams from, all zeros where it
	// does not know.
	Associate bool

	state serverState
}

type serverState uint8

const (
	stGreeting serverState = iota
	stPassword
	stVerify // waiting for Verified
	stRequest
	stDone // the request was given; what follows is the tunnel's
	stFailed
)

// Step looks at the bytes that are there: in are all that came and were not
// taken yet, n is how many of them it took. What has to be written is appended to
// out. After an error, a *ProtocolError or *AuthError, write that and close; the
// refusal of the protocol is in it where it has one.
//
// Call it again with the rest of the bytes after Verified(true), and after More
// with more bytes. Behind Request, in[n:] is the beginning of the tunnel.
func (s *Server) Step(in, out []byte) (n int, _ []byte, ev Event, err error) {
	for {
		var m int
		switch s.state {
		case stGreeting:
			m, out, err = s.greeting(in[n:], out)
		case stPassword:
			if m, out, err = s.password(in[n:], out); m > 0 {
				s.state, ev = stVerify, Authenticate
			}
		case stRequest:
			if m, out, err = s.request(in[n:], out); m > 0 {
				s.state, ev = stDone, Request
			}
		case stVerify:
			return n, out, Authenticate, nil
		case stDone:
			return n, out, Request, nil
		default:
			return n, out, More, errFailed
		}
		n += m
		switch {
		case err == ErrIncomplete:
			return n, out, More, nil
		case err != nil:
			s.state = stFailed
			return n, out, More, err
		case ev != More:
			return n, out, ev, nil
		}
	}
}

// Verified tells whether the credentials are right. It appends the answer (RFC
// 1929 2); after false write it and close.
func (s *Server) Verified(ok bool, out []byte) []byte {
	if s.state != stVerify {
		return out
	}
	if !ok {
		s.state = stFailed
		return append(out, authVersion, 0x01)
	}
	s.state = stRequest
	return append(out, authVersion, 0x00)
}

// AppendReply writes a reply (RFC 1928 6): with Succeeded, bound is the address
// the connection to the target goes out from.
func AppendReply(dst []byte, code Code, bound Addr) []byte {
	return appendAddr(append(dst, version, byte(code), 0x00), bound)
}

// ErrNoUDP is a request for UDP ASSOCIATE where Server.UDP is false.
var ErrNoUDP = &ProtocolError{"UDP ASSOCIATE, which is not taken here", "RFC 1928 4"}

// Faults of clients.
var (
	errFailed      = &ProtocolError{"handshake has failed already", "RFC 1928 6"}
	errVersion     = &ProtocolError{"version is not 5", "RFC 1928 3"}
	errAuthVersion = &ProtocolError{"no authentication although it was chosen", "RFC 1929 2"}
	errUser        = &ProtocolError{"malformed user or password", "RFC 1929 2"}
	errReserved    = &ProtocolError{"reserved byte is not 0", "RFC 1928 4"}
	errCommand     = &ProtocolError{"command other than CONNECT", "RFC 1928 4"}
	errType        = &ProtocolError{"unknown address type", "RFC 1928 5"}
	errTargetName  = &ProtocolError{"malformed host name", "RFC 1928 5"}
	errTargetPort  = &ProtocolError{"port 0", "RFC 1928 4"}
)

// greeting reads VER NMETHODS METHODS and chooses (RFC 1928 3).
func (s *Server) greeting(in, out []byte) (int, []byte, error) {
	switch {
	case len(in) > 0 && in[0] != version:
		return 0, out, errVersion
	case len(in) < 2 || len(in) < 2+int(in[1]):
		return 0, out, ErrIncomplete
	}
	n := 2 + int(in[1])
	method, next := byte(methodNone), stRequest
	if s.Auth {
		method, next = methodPassword, stPassword
	}
	for _, offered := range in[2:n] {
		if offered == method {
			s.state = next
			return n, append(out, version, method), nil
		}
	}
	return n, append(out, version, methodRefused), &AuthError{NoMethod: true}
}

// password reads VER ULEN UNAME PLEN PASSWD (RFC 1929 2). The password is taken
// byte for byte; control characters in the user name are refused, since it is
// going to be logged and compared.
func (s *Server) password(in, out []byte) (int, []byte, error) {
	if len(in) > 0 && in[0] != authVersion {
		return 0, append(out, authVersion, 0x01), errAuthVersion
	}
	if len(in) < 2 || len(in) < 2+int(in[1])+1 {
		return 0, out, ErrIncomplete
	}
	user, rest := in[2:2+int(in[1])], in[2+int(in[1]):]
	if len(rest) < 1+int(rest[0]) {
		return 0, out, ErrIncomplete
	}
	password := rest[1 : 1+int(rest[0])]
	if len(user) == 0 || len(password) == 0 || hasControls(user) {
		return 0, append(out, authVersion, 0x01), errUser
	}
	s.User, s.Password = string(user), string(password)
	return 3 + len(user) + len(password), out, nil
}

func hasControls(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// request reads VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 4).
func (s *Server) request(in, out []byte) (int, []byte, error) {
	refuse := func(c Code, err error) (int, []byte, error) {
		return 0, AppendReply(out, c, Addr{}), err
	}
	switch {
	case len(in) > 0 && in[0] != version:
		return refuse(GeneralFailure, errVersion)
	case len(in) > 1 && in[1] == cmdAssociate && !s.UDP:
		return refuse(CommandNotSupported, ErrNoUDP)
	case len(in) > 1 && in[1] != cmdConnect && in[1] != cmdAssociate:
		return refuse(CommandNotSupported, errCommand)
	case len(in) > 2 && in[2] != 0:
		return refuse(GeneralFailure, errReserved)
	case len(in) < 4:
		return 0, out, ErrIncomplete
	}
	size := addrLen(in[3:])
	switch {
	case size == 0:
		return refuse(AddressTypeNotSupported, errType)
	case len(in) < 3+size:
		return 0, out, ErrIncomplete
	}
	a := parseAddr(in[3 : 3+size])
	switch {
	case !a.IP.IsValid() && !ValidName(a.Name):
		return refuse(GeneralFailure, errTargetName)
	case a.Port == 0 && in[1] == cmdConnect:
		return refuse(GeneralFailure, errTargetPort)
	}
	s.Target, s.Associate = a, in[1] == cmdAssociate
	return 3 + size, out, nil
}
