package h2

import "time"

// ServerOptions bound what one connection of a client may cost. A zero field means its default.
type ServerOptions struct {
	// Early are bytes of the connection that were read already: the beginning of the preface.
	Early []byte
	// Absolute gives plain requests in absolute-form, as a proxy is asked (GET http://host/path); else in origin-form.
	Absolute bool
	// ExtendedConnect announces RFC 8441, and takes it: WebSocket as an Upgrade.
	ExtendedConnect bool
	// Admit is asked before each request; false refuses it in a way that lets the client send it again (REFUSED_STREAM). For each true, handle is
	// called once. It must not block, nor call the Server or a Stream. nil admits all.
	Admit func() bool

	MaxStreams       int           // open at the same time; default 250
	HeaderBytes      int           // of a header list, counted as RFC 9113 6.5.2 does; default 64 KiB
	Window           int           // bytes of a stream that are buffered until it proves fast; default 64 KiB
	MaxWindow        int           // ... and then at most; default 1 MiB
	MaxBuffered      int           // bytes by which all windows together may grow; default 8 MiB
	HandshakeTimeout time.Duration // for the preface and the first SETTINGS, and for each header block; default 10 s
	IdleTimeout      time.Duration // without a stream; default 3 min
	PingInterval     time.Duration // after which a silent peer is asked whether it is there; default 30 s
	PingTimeout      time.Duration // for its answer; default 15 s
	WriteTimeout     time.Duration // for a write to the connection to succeed; default 30 s
}

// ClientOptions bound what one connection to a server may cost. A zero field means its default.
type ClientOptions struct {
	Scheme string // of requests in origin-form; default "https"

	MaxStreams       int // at the same time, if the peer takes so many; default 1000
	HeaderBytes      int // as in ServerOptions, like those that follow
	Window           int
	MaxWindow        int
	MaxBuffered      int
	HandshakeTimeout time.Duration
	IdleTimeout      time.Duration // default: none, Close ends it
	PingInterval     time.Duration
	PingTimeout      time.Duration
	WriteTimeout     time.Duration
}

// options are those of either side.
type options struct {
	ServerOptions
	scheme string
}

const (
	defaultStreams       = 250
	defaultClientStreams = 1000
	defaultHeaderBytes   = 64 << 10
	defaultWindow        = 64 << 10
	defaultMaxWindow     = 1 << 20
	defaultMaxBuffered   = 8 << 20
	connWindow           = 4 << 20 // of the connection as a whole: it is given back when data is buffered, so it costs nothing
	frameSize            = 16 << 10
	minFrameSize         = 16 << 10 // RFC 9113 6.5.2: everybody takes so much
	maxFields            = 256      // field lines of one header list, as in http1
)

func (o *options) defaults(client bool) {
	num := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	if client {
		num(&o.MaxStreams, defaultClientStreams)
	} else {
		num(&o.MaxStreams, defaultStreams)
		dur(&o.IdleTimeout, 3*time.Minute)
	}
	num(&o.HeaderBytes, defaultHeaderBytes)
	num(&o.Window, defaultWindow)
	num(&o.MaxWindow, defaultMaxWindow)
	num(&o.MaxBuffered, defaultMaxBuffered)
	o.Window = min(max(o.Window, 1<<10), 1<<30)
	o.MaxWindow = min(max(o.MaxWindow, o.Window), 1<<30)
	dur(&o.HandshakeTimeout, 10*time.Second)
	dur(&o.PingInterval, 30*time.Second)
	dur(&o.PingTimeout, 15*time.Second)
	dur(&o.WriteTimeout, 30*time.Second)
	if o.scheme == "" {
		o.scheme = "https"
	}
}
