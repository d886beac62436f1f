package h2

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a peer of ours that sends what it is told to.
type raw struct {
	t    testing.TB
	nc   net.Conn
	fr   *http2.Framer
	hbuf bytes.Buffer
	enc  *hpack.Encoder
	dec  *hpack.Decoder
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	r := &raw{t: t, nc: nc, fr: http2.NewFramer(nc, nc)}
	r.fr.AllowIllegalWrites = true
	r.fr.AllowIllegalReads = true
	r.enc = hpack.NewEncoder(&r.hbuf)
	r.dec = hpack.NewDecoder(4096, nil)
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return r
}

// rawClient has sent preface and SETTINGS, and taken the server's.
func rawClient(t testing.TB, o ServerOptions, handle func(*Stream)) (*raw, *serving) {
	a, b := pair(t)
	s := serve(t, b, o, handle)
	r := newRaw(t, a)
	io.WriteString(a, http2.ClientPreface)
	r.fr.WriteSettings()
	return r, s
}

// block encodes fields: name, value, name, value.
func (r *raw) block(fields ...string) []byte {
	r.hbuf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.hbuf.Bytes())
}

func (r *raw) headers(id uint32, end bool, fields ...string) {
	r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(fields...), EndHeaders: true, EndStream: end})
}

var get = []string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}

func with(fields []string, more ...string) []string {
	return append(append([]string(nil), fields...), more...)
}

// outcome reads until the peer has reset a stream, answered, said GOAWAY or closed.
func (r *raw) outcome() string {
	for {
		f, err := r.fr.ReadFrame()
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("RST %d %s", f.StreamID, f.ErrCode)
		case *http2.HeadersFrame:
			fields, err := r.dec.DecodeFull(f.HeaderBlockFragment())
			if err != nil || len(fields) == 0 {
				return fmt.Sprintf("bad block: %v", err)
			}
			return fmt.Sprintf("%d %s=%s", f.StreamID, fields[0].Name, fields[0].Value)
		case *http2.PingFrame:
			return fmt.Sprintf("PING %v %s", f.IsAck(), bytes.TrimRight(f.Data[:], "\x00"))
		}
		if err != nil {
			return "closed: " + err.Error()
		}
	}
}

// ok answers every request, whatever it is, once it has all of it.
func ok(s *Stream) {
	if head, _, err := readHead(&oneByte{s}); err == nil {
		answer(s, head)
	}
}

func answer(s *Stream, head string) {
	switch {
	case strings.HasPrefix(head, "CONNECT "):
		io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		io.Copy(s, s)
		return
	case strings.Contains(head, "\nContent-Length: "):
		_, v, _ := strings.Cut(head, "\nContent-Length: ")
		v, _, _ = strings.Cut(v, "\n")
		n, _ := strconv.ParseInt(v, 10, 64)
		if _, err := io.CopyN(io.Discard, s, n); err != nil {
			return
		}
	case strings.Contains(head, "\nTransfer-Encoding: chunked\n"):
		in := bufio.NewReader(s)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "0\r\n" {
				break
			}
		}
	}
	io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	io.Copy(io.Discard, s)
}

// isOpen looks at a stream from outside.
func (s *Stream) isOpen() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.open()
}

const (
	proto   = "GOAWAY PROTOCOL_ERROR"
	size    = "GOAWAY FRAME_SIZE_ERROR"
	flow    = "GOAWAY FLOW_CONTROL_ERROR"
	closed  = "GOAWAY STREAM_CLOSED"
	comp    = "GOAWAY COMPRESSION_ERROR"
	calm    = "GOAWAY ENHANCE_YOUR_CALM"
	rst     = "RST 1 PROTOCOL_ERROR"
	rstFlow = "RST 1 FLOW_CONTROL_ERROR"
	rstShut = "RST 1 STREAM_CLOSED"
	fine    = "1 :status=200"
)

var violations = []struct {
	section, name string
	send          func(r *raw)
	want          string
}{
	// What is right, so that what follows means something.
	{"8.3.1", "a request", func(r *raw) { r.headers(1, true, get...) }, fine},
	{"8.3.1", "Host in place of :authority", func(r *raw) {
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "a.example")
	}, fine},
	{"8.3.1", "both the same", func(r *raw) { r.headers(1, true, with(get, "host", "a.example")...) }, fine},
	{"8.1", "content of its length", func(r *raw) {
		r.headers(1, false, with(get, "content-length", "3")...)
		r.fr.WriteData(1, true, []byte("abc"))
	}, fine},
	{"8.1", "trailers", func(r *raw) { r.headers(1, false, get...); r.headers(1, true, "x", "y") }, fine},
	{"8.5", "CONNECT", func(r *raw) { r.headers(1, false, ":method", "CONNECT", ":authority", "a.example:443") }, fine},
	{"6.1", "padded DATA", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteDataPadded(1, true, []byte("x"), make([]byte, 99))
	}, fine},
	{"5.5", "unknown frame type", func(r *raw) { r.fr.WriteRawFrame(0x77, 0xff, 9, []byte("x")); r.headers(1, true, get...) }, fine},
	{"6.5.2", "unknown setting", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: 0xff, Val: 7}); r.headers(1, true, get...) }, fine},
	{"6.3", "PRIORITY of an idle stream", func(r *raw) { r.fr.WritePriority(9, http2.PriorityParam{StreamDep: 3}); r.headers(1, true, get...) }, fine},
	{"6.7", "PING", func(r *raw) { r.fr.WritePing(false, [8]byte{'h', 'i'}) }, "PING true hi"},
	{"4.3", "headers in many frames", func(r *raw) {
		b := r.block(get...)
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:1], EndStream: true})
		r.fr.WriteContinuation(1, false, b[1:3])
		r.fr.WriteContinuation(1, true, b[3:])
	}, fine},
	{"8.2.3", "several cookies", func(r *raw) { r.headers(1, true, with(get, "cookie", "a=b", "cookie", "c=d")...) }, fine},
	{"8.1", "OPTIONS *", func(r *raw) {
		r.headers(1, true, ":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*")
	}, fine},

	// Frames.
	{"4.2", "frame too large", func(r *raw) { r.headers(1, false, get...); r.fr.WriteData(1, false, make([]byte, 16385)) }, size},
	{"4.2", "SETTINGS of 5 bytes", func(r *raw) { r.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }, size},
	{"4.3", "malformed block", func(r *raw) {
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, EndHeaders: true})
	}, comp},
	{"4.3", "block that ends within a field", func(r *raw) {
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40, 5, 'a'}, EndHeaders: true})
	}, comp},
	{"4.3", "table larger than allowed", func(r *raw) {
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0x7f}, EndHeaders: true})
	}, comp},
	{"4.3", "something within a block", func(r *raw) {
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
		r.fr.WritePing(false, [8]byte{})
	}, proto},
	{"6.10", "CONTINUATION of another stream", func(r *raw) {
		r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
		r.fr.WriteContinuation(3, true, nil)
	}, proto},
	{"6.10", "CONTINUATION without HEADERS", func(r *raw) { r.fr.WriteContinuation(1, true, nil) }, proto},
	{"6.10", "CONTINUATION behind the end", func(r *raw) { r.headers(1, false, get...); r.fr.WriteContinuation(1, true, nil) }, proto},
	{"3.4", "the first frame is not SETTINGS", nil, proto},
	{"6.1", "DATA on stream 0", func(r *raw) { r.fr.WriteData(0, true, nil) }, proto},
	{"6.1", "padding longer than the frame", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 1})
	}, proto},
	{"6.2", "HEADERS on stream 0", func(r *raw) { r.headers(0, true, get...) }, proto},
	{"6.2", "padding longer than HEADERS", func(r *raw) {
		r.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{99, 0x82})
	}, proto},
	{"6.2", "HEADERS too short for its priority", func(r *raw) {
		r.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, 1, []byte{1})
	}, size},
	{"6.3", "PRIORITY on stream 0", func(r *raw) { r.fr.WriteRawFrame(http2.FramePriority, 0, 0, make([]byte, 5)) }, proto},
	{"6.3", "PRIORITY of 4 bytes", func(r *raw) { r.fr.WriteRawFrame(http2.FramePriority, 0, 1, make([]byte, 4)) }, size},
	{"6.4", "RST_STREAM on stream 0", func(r *raw) { r.fr.WriteRSTStream(0, 0) }, proto},
	{"6.4", "RST_STREAM of an idle stream", func(r *raw) { r.fr.WriteRSTStream(1, 0) }, proto},
	{"6.4", "RST_STREAM of 3 bytes", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3))
	}, size},
	{"6.5", "SETTINGS on a stream", func(r *raw) { r.fr.WriteRawFrame(http2.FrameSettings, 0, 1, nil) }, proto},
	{"6.5", "an acknowledgement with something in it", func(r *raw) { r.fr.WriteRawFrame(http2.FrameSettings, 1, 0, make([]byte, 6)) }, size},
	{"6.5", "acknowledged twice", func(r *raw) { r.fr.WriteSettingsAck(); r.fr.WriteSettingsAck() }, proto},
	{"6.5.2", "ENABLE_PUSH 2", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) }, proto},
	{"6.5.2", "INITIAL_WINDOW_SIZE 2^31", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, flow},
	{"6.5.2", "MAX_FRAME_SIZE 100", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 100}) }, proto},
	{"6.5.2", "MAX_FRAME_SIZE 2^24", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24}) }, proto},
	{"8441 3", "ENABLE_CONNECT_PROTOCOL 2", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 2}) }, proto},
	{"6.6", "PUSH_PROMISE of a client", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(get...), EndHeaders: true})
	}, proto},
	{"6.7", "PING on a stream", func(r *raw) { r.fr.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) }, proto},
	{"6.7", "PING of 7 bytes", func(r *raw) { r.fr.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }, size},
	{"6.8", "GOAWAY on a stream", func(r *raw) { r.fr.WriteRawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8)) }, proto},
	{"6.9", "WINDOW_UPDATE of 0", func(r *raw) { r.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)) }, proto},
	{"6.9", "WINDOW_UPDATE of 0 for a stream", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 1, make([]byte, 4))
	}, rst},
	{"6.9", "WINDOW_UPDATE of 3 bytes", func(r *raw) { r.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 3)) }, size},
	{"6.9", "WINDOW_UPDATE of an idle stream", func(r *raw) { r.fr.WriteWindowUpdate(1, 1) }, proto},
	{"6.9.1", "window of the connection beyond 2^31-1", func(r *raw) { r.fr.WriteWindowUpdate(0, 1<<31-1) }, flow},
	{"6.9.1", "window of a stream beyond 2^31-1", func(r *raw) { r.headers(1, false, get...); r.fr.WriteWindowUpdate(1, 1<<31-1) }, rstFlow},
	{"6.9.2", "window beyond 2^31-1 by SETTINGS", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteWindowUpdate(1, 1<<31-1-65535)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65536})
	}, flow},
	{"6.9.1", "more DATA than the window of the stream", func(r *raw) {
		r.headers(1, false, ":method", "CONNECT", ":authority", "stuck.example:443")
		r.outcome()
		for range 5 {
			r.fr.WriteData(1, false, make([]byte, 16384))
		}
	}, rstFlow},

	// Streams.
	{"5.1.1", "even stream", func(r *raw) { r.headers(2, true, get...) }, proto},
	{"5.1.1", "stream below the last one", func(r *raw) { r.headers(5, true, get...); r.outcome(); r.headers(3, true, get...) }, closed},
	{"5.1", "DATA on an idle stream", func(r *raw) { r.fr.WriteData(1, true, []byte("x")) }, proto},
	{"5.1", "DATA behind the end", func(r *raw) {
		r.headers(1, true, ":method", "CONNECT", ":authority", "stuck.example:443")
		r.outcome()
		r.fr.WriteData(1, true, []byte("x"))
	}, rstShut},
	{"5.1", "HEADERS behind the end", func(r *raw) {
		r.headers(1, true, ":method", "CONNECT", ":authority", "stuck.example:443")
		r.outcome()
		r.headers(1, true, "x", "y")
	}, rstShut},
	{"5.1", "DATA behind RST_STREAM", func(r *raw) {
		r.headers(1, false, get...)
		r.fr.WriteRSTStream(1, 8)
		r.fr.WriteData(1, true, []byte("x"))
	}, rstShut},
	{"5.1", "HEADERS behind RST_STREAM", func(r *raw) { r.headers(1, false, get...); r.fr.WriteRSTStream(1, 8); r.headers(1, true, "x", "y") }, closed},
	{"5.1", "HEADERS of a stream that is done", func(r *raw) { r.headers(1, true, get...); r.outcome(); r.headers(1, true, get...) }, closed},

	// Messages.
	{"8.2.1", "name in capitals", func(r *raw) { r.headers(1, true, with(get, "X-Y", "z")...) }, rst},
	{"8.2.1", "empty name", func(r *raw) { r.headers(1, true, with(get, "", "z")...) }, rst},
	{"8.2.1", "name with a space", func(r *raw) { r.headers(1, true, with(get, "a b", "z")...) }, rst},
	{"8.2.1", "name with a colon", func(r *raw) { r.headers(1, true, with(get, "a:b", "z")...) }, rst},
	{"8.2.1", "name with CR LF", func(r *raw) { r.headers(1, true, with(get, "a\r\nb", "z")...) }, rst},
	{"8.2.1", "value with LF", func(r *raw) { r.headers(1, true, with(get, "a", "b\nc: d")...) }, rst},
	{"8.2.1", "value with CR", func(r *raw) { r.headers(1, true, with(get, "a", "b\rc")...) }, rst},
	{"8.2.1", "value with NUL", func(r *raw) { r.headers(1, true, with(get, "a", "b\x00")...) }, rst},
	{"8.2.1", "value with a blank in front", func(r *raw) { r.headers(1, true, with(get, "a", " b")...) }, rst},
	{"8.2.1", "value with a blank behind", func(r *raw) { r.headers(1, true, with(get, "a", "b\t")...) }, rst},
	{"8.2.2", "Connection", func(r *raw) { r.headers(1, true, with(get, "connection", "close")...) }, rst},
	{"8.2.2", "Proxy-Connection", func(r *raw) { r.headers(1, true, with(get, "proxy-connection", "close")...) }, rst},
	{"8.2.2", "Keep-Alive", func(r *raw) { r.headers(1, true, with(get, "keep-alive", "1")...) }, rst},
	{"8.2.2", "Transfer-Encoding", func(r *raw) { r.headers(1, false, with(get, "transfer-encoding", "chunked")...) }, rst},
	{"8.2.2", "Upgrade", func(r *raw) { r.headers(1, true, with(get, "upgrade", "websocket")...) }, rst},
	{"8.2.2", "TE other than trailers", func(r *raw) { r.headers(1, true, with(get, "te", "trailers, gzip")...) }, rst},
	{"8.3", "unknown pseudo-field", func(r *raw) { r.headers(1, true, with(get, ":x", "y")...) }, rst},
	{"8.3", "pseudo-field of responses", func(r *raw) { r.headers(1, true, with(get, ":status", "200")...) }, rst},
	{"8.3", "pseudo-field behind others", func(r *raw) {
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", "x", "y", ":authority", "a")
	}, rst},
	{"8.3", "pseudo-field in trailers", func(r *raw) { r.headers(1, false, get...); r.headers(1, true, ":path", "/") }, rst},
	{"8.3.1", ":method twice", func(r *raw) { r.headers(1, true, with(get, ":method", "GET")...) }, rst},
	{"8.3.1", ":path twice", func(r *raw) { r.headers(1, true, with(get, ":path", "/x")...) }, rst},
	{"8.3.1", ":authority twice", func(r *raw) { r.headers(1, true, with(get, ":authority", "a.example")...) }, rst},
	{"8.3.1", "no :method", func(r *raw) { r.headers(1, true, get[2:]...) }, rst},
	{"8.3.1", "no :scheme", func(r *raw) { r.headers(1, true, ":method", "GET", ":authority", "a", ":path", "/") }, rst},
	{"8.3.1", "no :path", func(r *raw) { r.headers(1, true, get[:6]...) }, rst},
	{"8.3.1", "empty :path", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "")...) }, rst},
	{"8.3.1", ":path without a slash", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "x")...) }, rst},
	{"8.3.1", ":path with a fragment", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "/#x")...) }, rst},
	{"8.3.1", ":path with a second request", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "/ HTTP/1.1\r\nX: y")...) }, rst},
	{"8.3.1", ":path that is absolute", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "http://b.example/")...) }, rst},
	{"8.3.1", ":path * with GET", func(r *raw) { r.headers(1, true, with(get[:6], ":path", "*")...) }, rst},
	{"8.3.1", ":method with a space", func(r *raw) { r.headers(1, true, with(get[2:], ":method", "GET /x HTTP/1.1")...) }, rst},
	{"8.3.1", ":scheme other than http", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/") }, rst},
	{"8.3.1", "empty :authority", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "", ":path", "/") }, rst},
	{"8.3.1", "no authority at all", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/") }, rst},
	{"8.3.1", "userinfo", func(r *raw) {
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/")
	}, rst},
	{"8.3.1", ":authority unlike Host", func(r *raw) { r.headers(1, true, with(get, "host", "b.example")...) }, rst},
	{"8.3.1", "two Host fields", func(r *raw) { r.headers(1, true, with(get, "host", "a.example", "host", "a.example")...) }, rst},
	{"8.1.1", "content-length larger than the content", func(r *raw) {
		r.headers(1, false, with(get, "content-length", "9")...)
		r.fr.WriteData(1, true, []byte("abc"))
	}, rst},
	{"8.1.1", "content-length smaller than the content", func(r *raw) {
		r.headers(1, false, with(get, "content-length", "1")...)
		r.fr.WriteData(1, true, []byte("abc"))
	}, rst},
	{"8.1.1", "content-length without content", func(r *raw) { r.headers(1, true, with(get, "content-length", "1")...) }, rst},
	{"8.1.1", "content-length ended by trailers", func(r *raw) { r.headers(1, false, with(get, "content-length", "1")...); r.headers(1, true, "x", "y") }, rst},
	{"8.1.1", "two lengths", func(r *raw) { r.headers(1, false, with(get, "content-length", "1", "content-length", "2")...) }, rst},
	{"8.1.1", "length that is no number", func(r *raw) { r.headers(1, false, with(get, "content-length", "+3")...) }, rst},
	{"8.1", "trailers without the end", func(r *raw) { r.headers(1, false, get...); r.headers(1, false, "x", "y") }, rst},
	{"8.5", "CONNECT with :path", func(r *raw) { r.headers(1, false, ":method", "CONNECT", ":authority", "a:1", ":path", "/") }, rst},
	{"8.5", "CONNECT with :scheme", func(r *raw) { r.headers(1, false, ":method", "CONNECT", ":authority", "a:1", ":scheme", "http") }, rst},
	{"8.5", "CONNECT without :authority", func(r *raw) { r.headers(1, false, ":method", "CONNECT", "host", "a:1") }, rst},
	{"8.5", "CONNECT without a port", func(r *raw) { r.headers(1, false, ":method", "CONNECT", ":authority", "a") }, rst},
	{"8.5", "trailers in a tunnel", func(r *raw) {
		r.headers(1, false, ":method", "CONNECT", ":authority", "a:1")
		r.outcome()
		r.headers(1, true, "x", "y")
	}, rst},
	{"8441 4", ":protocol that was not announced", func(r *raw) {
		r.headers(1, false, with(with(get[2:], ":method", "CONNECT"), ":protocol", "websocket")...)
	}, rst},
	{"10.5.1", "too many fields", func(r *raw) {
		fields := with(get)
		for range 270 {
			fields = append(fields, "a", "b")
		}
		r.headers(1, true, fields...)
	}, "1 :status=431"},
	{"10.5.1", "fields that are small on the wire", func(r *raw) {
		fields := with(get, "a", strings.Repeat("x", 3000))
		for range 30 {
			fields = append(fields, "a", strings.Repeat("x", 3000))
		}
		r.headers(1, true, fields...)
	}, "1 :status=431"},
}

func TestViolations(t *testing.T) {
	if len(violations) < 50 {
		t.Fatal(len(violations))
	}
	for _, tt := range violations {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := rawClient(t, ServerOptions{}, func(s *Stream) {
				head, _, err := readHead(&oneByte{s})
				if err != nil {
					return
				}
				if strings.HasPrefix(head, "CONNECT stuck.") {
					io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
					for s.isOpen() {
						time.Sleep(time.Millisecond)
					}
					return
				}
				answer(s, head)
			})
			if tt.send == nil {
				a, b := pair(t)
				serve(t, b, ServerOptions{}, ok)
				r = newRaw(t, a)
				io.WriteString(a, http2.ClientPreface)
				r.headers(1, true, get...)
			} else {
				tt.send(r)
			}
			if got := r.outcome(); got != tt.want {
				t.Errorf("%s; want %s", got, tt.want)
			}
		})
	}
}
