package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"viaduct/policies/geo/geotest"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// scriptCommands are what scripts can do beyond running programs. Each fails the script when it cannot.
//
//	need PROGRAM...                 skips the script by name, or fails it under VIADUCT_REQUIRE_PEERS=1
//	ports NAME...                   reserves ports; NAME is host:port in the environment and a variable of policies
//	origin NAME [echo]              starts an HTTP (or echo) origin
//	tlsorigin NAME HOST...          starts an HTTPS origin (HTTP/2, too) for these names, which answers with the request; the authority to trust is origin.crt
//	upstream NAME KIND [USER PASS]  starts a proxy: http or socks5
//	tlsends FILE NAME=END...        starts TLS servers of upstreamtest.TLSEnds for 127.0.0.1, and writes their authority's certificate into FILE
//	refuser NAME                    an address that refuses every dial
//	listening ADDRESS...            waits until it can be dialled; unix:/path too. ! waits until it cannot
//	await [!] COMMAND...            runs a program until it succeeds (or fails)
//	awaitstatus KEY=VALUE...        waits until "viaduct status --json" has all these values, as record
//	awaitfile FILE REGEXP           waits until a file holds it
//	signal NAME                     sends SIGNAME to every program in the background
//	tunnel NAME PROXY TARGET        opens a tunnel by CONNECT and keeps it
//	echo NAME TEXT                  sends text through it and waits for its echo
//	hangup NAME                     closes it
//	record FILE KEY=VALUE...        waits until a record in an NDJSON file has all these values (=~ a regexp, > a number)
//	json FILE KEY=VALUE...          asks the same of a JSON file
//	notifysocket                    is systemd: sets NOTIFY_SOCKET
//	notified REGEXP                 waits until a message to it matches
//	door ADDRESS METHOD PATH STATUS [FIELD: VALUE]...  asks the control door directly; doortoken, with the token in the state
//	freeport ADDRESS                skips the script when another program listens there
//	webdir NAME DIR                 starts a web server of the files in a directory, which need not be there yet
//	fill FILE...                    puts values of the environment in the place of ${NAME} in files
//	packets NAME                    starts a server of datagrams that sends each back
//	geoip FILE NETWORK=CODE...      writes a GeoIP database of today
//	datagram PROXY TARGET TEXT      sends a text through a UDP association and waits for it to come back
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"need": scriptNeed, "ports": scriptPorts, "origin": scriptOrigin, "tlsorigin": scriptTLSOrigin, "upstream": scriptUpstream, "tlsends": scriptTLSEnds, "refuser": scriptRefuser,
	"listening": scriptListening, "await": scriptAwait, "awaitfile": scriptAwaitFile, "awaitstatus": scriptAwaitStatus, "signal": scriptSignal,
	"tunnel": scriptTunnel, "echo": scriptEcho, "hangup": scriptHangup, "record": scriptRecord, "journal": scriptJournal, "json": scriptJSON,
	"notifysocket": scriptNotifySocket, "notified": scriptNotified, "door": scriptDoor, "doortoken": scriptDoorToken, "freeport": scriptFreePort, "webdir": scriptWebDir, "fill": scriptFill, "geoip": scriptGeoIP,
}

func scriptGeoIP(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "geoip FILE NETWORK=CODE...")
	networks := map[string]string{}
	for _, a := range args[1:] {
		n, code, _ := strings.Cut(a, "=")
		networks[n] = code
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), geotest.Countries(time.Now(), networks), 0o600))
}

// patience bounds every wait of a script.
const patience = 20 * time.Second

// until asks again and again until ok holds.
func until(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func wantArgs(ts *testscript.TestScript, args []string, least int, usage string) {
	if len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

func scriptNeed(ts *testscript.TestScript, _ bool, args []string) {
	peers.Need(peerTester{ts.Value(testKey{}).(testscript.T)}, args...)
}

// setAddress makes an address known to programs, to policies, and its port to scripts.
func setAddress(ts *testscript.TestScript, name, addr string) {
	ts.Setenv(name, addr)
	ts.Setenv("VIADUCT_VAR_"+name, addr)
	if _, port, err := net.SplitHostPort(addr); err == nil {
		ts.Setenv(name+"_port", port)
	}
}

func scriptPorts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		r, err := upstreamtest.Reserve("127.0.0.1:0")
		ts.Check(err)
		ts.Defer(r.Release)
		setAddress(ts, name, r.Addr())
	}
}

// scriptTB lets servers end with the script.
type scriptTB struct{ ts *testscript.TestScript }

func (s scriptTB) Helper()                           {}
func (s scriptTB) Cleanup(f func())                  { s.ts.Defer(f) }
func (s scriptTB) Fatalf(format string, args ...any) { s.ts.Fatalf(format, args...) }

func scriptOrigin(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "origin NAME [echo]")
	if len(args) > 1 && args[1] == "echo" {
		setAddress(ts, args[0], upstreamtest.NewOrigin(scriptTB{ts}, upstreamtest.Echo, upstreamtest.Options{}).Addr())
		return
	}
	setAddress(ts, args[0], upstreamtest.NewHTTPOrigin(scriptTB{ts}, upstreamtest.Options{}).Addr())
}

func scriptTLSOrigin(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "tlsorigin NAME HOST...")
	ca, err := upstreamtest.NewCA()
	ts.Check(err)
	cert, err := ca.Issue(args[1:], upstreamtest.CertOptions{})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("origin.crt"), ca.PEM(), 0o644))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "hello from the TLS origin: %s %s %s\n", q.Method, q.URL.Path, q.Proto)
		io.Copy(w, q.Body)
	}))
	srv.TLS, srv.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{cert}}, true
	srv.StartTLS()
	ts.Defer(srv.Close)
	setAddress(ts, args[0], srv.Listener.Addr().String())
}

func scriptUpstream(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "upstream NAME http|socks5 [USER PASSWORD]")
	var o upstreamtest.Options
	if len(args) == 4 {
		o.User, o.Password = args[2], args[3]
	}
	start := map[string]func(upstreamtest.TB, upstreamtest.Options) *upstreamtest.Proxy{"http": upstreamtest.NewHTTP, "socks5": upstreamtest.NewSOCKS5}[args[1]]
	if start == nil {
		ts.Fatalf("no upstream of kind %s", args[1])
	}
	setAddress(ts, args[0], start(scriptTB{ts}, o).Addr())
}

func scriptTLSEnds(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "tlsends FILE NAME=END...")
	t := scriptTB{ts}
	ca := upstreamtest.MustCA(t)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), ca.PEM(), 0o644))
	ends := upstreamtest.TLSEnds(t, ca, "127.0.0.1")
	for _, arg := range args[1:] {
		name, what, _ := strings.Cut(arg, "=")
		i := slices.IndexFunc(ends, func(e upstreamtest.TLSEnd) bool { return e.Name == what })
		if i < 0 {
			ts.Fatalf("there is no TLS end %q", what)
		}
		setAddress(ts, name, upstreamtest.ListenTLSEnd(t, &ends[i]))
	}
}

func scriptWebDir(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "webdir NAME DIR")
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(s.Close)
	setAddress(ts, args[0], s.Listener.Addr().String())
}

func scriptFill(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "fill FILE...")
	for _, name := range args {
		b, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(string(b), ts.Getenv)), 0o644))
	}
}

func scriptRefuser(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "refuser NAME")
	setAddress(ts, args[0], upstreamtest.Refused(scriptTB{ts}))
}

func scriptListening(ts *testscript.TestScript, neg bool, args []string) {
	for _, addr := range args {
		network := "tcp"
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, addr = "unix", ts.MkAbs(path)
		}
		until(ts, "a listener at "+addr, func() bool {
			c, err := net.Dial(network, addr)
			if err == nil {
				c.Close()
			}
			return (err == nil) != neg
		})
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, args, 1, "await COMMAND...")
	until(ts, strings.Join(args, " "), func() bool { return (ts.Exec(args[0], args[1:]...) == nil) != neg })
}

func scriptAwaitFile(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "awaitfile FILE REGEXP")
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	until(ts, args[1]+" in "+args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && re.Match(b)
	})
}

func scriptAwaitStatus(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "awaitstatus KEY=VALUE...")
	until(ts, "a status with "+strings.Join(args, " "), func() bool {
		var v any
		return ts.Exec("viaduct", "status", "--json") == nil && json.Unmarshal([]byte(ts.ReadFile("stdout")), &v) == nil && mismatch(v, args) == ""
	})
}

func scriptSignal(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "signal NAME")
	sig, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "USR1": syscall.SIGUSR1}[args[0]]
	if !ok || len(ts.BackgroundCmds()) == 0 {
		ts.Fatalf("signal %s: no such signal, or nobody to send it to", args[0])
	}
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(sig))
	}
}

// tunnels of a script, by name.
type tunnelKey string

type tunnelValue struct {
	c net.Conn
	r *bufio.Reader
}

var openTunnels = newTunnels()

func scriptTunnel(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 3, "tunnel NAME PROXY TARGET")
	c, err := net.Dial("tcp", args[1])
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	_, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", args[2], args[2])
	ts.Check(err)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	ts.Check(err)
	if res.StatusCode != http.StatusOK {
		ts.Fatalf("CONNECT %s: %s", args[2], res.Status)
	}
	openTunnels.put(ts, tunnelKey(args[0]), tunnelValue{c, r})
}

func scriptEcho(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, args, 2, "echo NAME TEXT")
	t := openTunnels.get(ts, tunnelKey(args[0]))
	_, err := io.WriteString(t.c, args[1]+"\n")
	var line string
	if err == nil {
		line, err = t.r.ReadString('\n')
	}
	if ok := err == nil && line == args[1]+"\n"; ok == neg {
		ts.Fatalf("echo of %q through %s: %q, %v", args[1], args[0], line, err)
	}
}

func scriptHangup(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "hangup NAME")
	ts.Check(openTunnels.get(ts, tunnelKey(args[0])).c.Close())
}

func scriptRecord(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, args, 2, "record FILE KEY=VALUE...")
	path := ts.MkAbs(args[0])
	if neg {
		if findRecord(ts, path, args[1:]) {
			ts.Fatalf("a record in %s has %s", args[0], strings.Join(args[1:], " "))
		}
		return
	}
	until(ts, "a record with "+strings.Join(args[1:], " "), func() bool { return findRecord(ts, path, args[1:]) })
}

func findRecord(ts *testscript.TestScript, path string, pairs []string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			return false // still being written
		}
		var v any
		ts.Check(json.Unmarshal(line, &v))
		if why := mismatch(v, pairs); why == "" {
			return true
		}
	}
	return false
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, args, 2, "json FILE KEY=VALUE...")
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	why := mismatch(v, args[1:])
	if (why == "") == neg {
		ts.Fatalf("%s: %s", args[0], why)
	}
}

var pair = regexp.MustCompile(`^([A-Za-z0-9_.-]+)(=~|=|>)(.*)$`)

// mismatch says which of the pairs does not hold in v; "" = all do.
func mismatch(v any, pairs []string) string {
	for _, p := range pairs {
		m := pair.FindStringSubmatch(p)
		if m == nil {
			return "not KEY=VALUE: " + p
		}
		got := textOf(at(v, strings.Split(m[1], ".")))
		ok := false
		switch m[2] {
		case "=":
			ok = got == m[3]
		case "=~":
			re, err := regexp.Compile(m[3])
			ok = err == nil && re.MatchString(got)
		case ">":
			n, err1 := strconv.ParseFloat(got, 64)
			least, err2 := strconv.ParseFloat(m[3], 64)
			ok = err1 == nil && err2 == nil && n > least
		}
		if !ok {
			return fmt.Sprintf("%s is %q, not %s%s", m[1], got, m[2], m[3])
		}
	}
	return ""
}

// at follows keys and indexes; "len" is the length of a list.
func at(v any, path []string) any {
	for _, key := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			if key == "len" {
				return float64(len(x))
			}
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func textOf(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case string:
		return x
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func scriptNotifySocket(ts *testscript.TestScript, _ bool, _ []string) {
	path := filepath.Join(ts.Getenv("WORK"), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	ts.Setenv("NOTIFY_SOCKET", path)
	openTunnels.putNotify(ts, c)
}

func scriptNotified(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "notified REGEXP")
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	c := openTunnels.notify(ts)
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			ts.Fatalf("waited for a message like %s: %v", args[0], err)
		}
		ts.Logf("notified: %q", b[:n])
		if re.Match(b[:n]) {
			return
		}
	}
}

func scriptDoor(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 4, "door ADDRESS METHOD PATH STATUS [FIELD: VALUE]...")
	network, addr := "tcp", args[0]
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", ts.MkAbs(path)
	}
	c, err := net.Dial(network, addr)
	ts.Check(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	head := args[1] + " " + args[2] + " HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n"
	host := "Host: " + addr
	for _, f := range args[4:] {
		if strings.HasPrefix(f, "Host:") {
			host = f
			continue
		}
		head += f + "\r\n"
	}
	if network == "unix" && host == "Host: "+addr {
		host = "Host: localhost"
	}
	_, err = io.WriteString(c, head+host+"\r\n\r\n")
	ts.Check(err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	ts.Check(err)
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), body, 0o600))
	if strconv.Itoa(res.StatusCode) != args[3] {
		ts.Fatalf("%s %s: %s\n%s", args[1], args[2], res.Status, body)
	}
}

// scriptDoorToken is door with the token that the gateway made.
func scriptDoorToken(ts *testscript.TestScript, neg bool, args []string) {
	token := strings.TrimSpace(ts.ReadFile(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "viaduct", tokenName)))
	scriptDoor(ts, neg, append(args, "Authorization: Bearer "+token))
}

func scriptFreePort(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "freeport ADDRESS")
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		ts.Value(testKey{}).(testscript.T).Skip("the port of the default policy is taken: " + err.Error())
	}
	ts.Check(ln.Close())
}
