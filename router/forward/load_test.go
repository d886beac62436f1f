package forward

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The load of the benchmarks, client and origin both, is a process of its own: this test binary once more. What the parent spends is
// then the gateway's alone.
const loadEnv = "VIADUCT_FORWARD_LOAD"

// loads are what is asked, and what the origin answers. Both are complete messages.
var loads = map[string]struct{ request, response string }{
	"get": {
		"GET http://origin.test/some/path?q=1 HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Language: en\r\nProxy-Connection: keep-alive\r\nCookie: id=0123456789abcdef\r\n\r\n",
		"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 23:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 500\r\nLast-Modified: Mon, 23 Nov 2026 22:00:00 GMT\r\nETag: \"1234\"\r\n\r\n" + strings.Repeat("x", 500),
	},
	"chunked": {
		"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nAccept: */*\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n" + strings.Repeat("x", 500) + "\r\n0\r\n\r\n",
	},
	"post": {
		"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nAccept: */*\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("y", 100),
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	},
	"1MiB": {
		"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nAccept: */*\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20),
	},
}

// runLoad is the child: it tells the address of its origin, is told the gateway's, and then asks as often as it is told.
func runLoad() {
	load := loads[os.Getenv(loadEnv)]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go loadOrigin(c, load.request, load.response)
		}
	}()
	fmt.Println(ln.Addr())
	in := bufio.NewReader(os.Stdin)
	gateway, _ := in.ReadString('\n')
	c, err := net.Dial("tcp", strings.TrimSpace(gateway))
	if err != nil {
		panic(err)
	}
	buf := make([]byte, 256<<10)
	for {
		var n, size int
		if _, err := fmt.Fscanln(in, &n); err != nil {
			return
		}
		for i := range n {
			io.WriteString(c, load.request)
			m, err := c.Read(buf)
			if err != nil {
				panic(err)
			}
			if size == 0 { // the length of the answer shows at its first time: head, then what the head says or a last chunk
				size = loadSize(string(buf[:m]))
			}
			for got := m; got < size; got += m {
				if m, err = c.Read(buf); err != nil {
					panic(fmt.Sprint(err, " in request ", i))
				}
			}
		}
		fmt.Println("done")
	}
}

func loadSize(s string) int {
	head := strings.Index(s, "\r\n\r\n") + 4
	var length int
	if i := strings.Index(s[:head], "Content-Length: "); i >= 0 {
		fmt.Sscan(s[i+16:], &length)
		return head + length
	}
	return len(s)
}

func loadOrigin(c net.Conn, request, response string) {
	defer c.Close()
	_, body, _ := strings.Cut(request, "\r\n\r\n")
	end := "\r\n\r\n" + body
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += m; strings.HasSuffix(string(buf[max(0, n-len(end)):n]), end) {
			n = 0
			if _, err := io.WriteString(c, response); err != nil {
				return
			}
		}
	}
}

// startLoad starts the child. ask makes n requests through the gateway and waits for their ends.
func startLoad(b *testing.B, name string, gateway net.Addr) (origin string, ask func(n int)) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadEnv+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	out := bufio.NewReader(stdout)
	origin, err := out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintln(stdin, gateway)
	return strings.TrimSpace(origin), func(n int) {
		fmt.Fprintln(stdin, n)
		if s, err := out.ReadString('\n'); s != "done\n" {
			b.Fatal(s, err)
		}
	}
}
