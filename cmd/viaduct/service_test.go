package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/upstream"
)

// TestResolversOfAPolicyThatIsNotTaken: they may have been asked before a later step fails, and keep no connection then.
func TestResolversOfAPolicyThatIsNotTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked, over := make(chan bool, 16), make(chan bool, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				defer func() { over <- true }()
				for {
					head := make([]byte, 2)
					if _, err := io.ReadFull(c, head); err != nil {
						return
					}
					q := make([]byte, int(head[0])<<8|int(head[1]))
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					q[2], q[3] = q[2]|0x80, q[3]&0xf0|3 // an answer: there is no such name
					if _, err := c.Write(append(head, q...)); err != nil {
						return
					}
					asked <- true
				}
			}()
		}
	}()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "viaduct.hcl")
	text := `gateway {
  state    = "` + dir + `"
  resolver = resolver.r
  records { path = "` + dir + `/file/records" }
}
resolver "r" {
  servers = ["tcp://` + ln.Addr().String() + `"]
}
listener "desk" {
  address = "127.0.0.1:3128"
}
policy "default" {
  rule "corp" {
    when = network.reachable("proxy.corp.example:8080")
    via  = direct
  }
  otherwise {
    deny {}
  }
}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s := newService(&source{}, []string{path}, log)
	if _, err := s.load(); err == nil || !strings.Contains(err.Error(), "records") && !strings.Contains(err.Error(), "not a directory") {
		t.Fatalf("it was taken: %v", err)
	}
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("the resolver was not asked: the test shows nothing")
	}
	begun := time.Now()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection to the name server is still there")
	}
	if took := time.Since(begun); took > 5*time.Second { // by itself it would end after ten
		t.Errorf("it ended after %v", took)
	}
}

// TestChecksOfAPolicyThatIsNotTaken: what is known of the members of a pool, and the checks that found it out, are those of the policy in force.
func TestChecksOfAPolicyThatIsNotTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := ln.Addr().String()
	ln.Close()
	dir := t.TempDir()
	for _, f := range []string{"file", "token"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "viaduct.hcl")
	write := func(gateway, pool string) {
		t.Helper()
		text := `gateway {
  state = "` + dir + `/state"
  admin { address = "unix:` + dir + `/admin.sock" }
  ` + gateway + `
}
listener "desk" {
  address = "unix:` + dir + `/desk.sock"
}
upstream "gone" { url = "http://` + gone + `" }
upstream "other" { url = "http://` + gone + `/" }
pool "p" {
  members = [upstream.gone, upstream.other]
  ` + pool + `
}
policy "default" {
  otherwise { via = pool.p }
}
`
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("", `health {
    every     = "1s"
    unhealthy = 1
  }`)
	log := logrus.New()
	log.SetOutput(io.Discard)
	s := newService(&source{}, []string{path}, log)
	if _, err := s.load(); err != nil {
		t.Fatal(err)
	}
	defer s.stop(t.Context())
	await := func(what string, f func(m []upstream.MemberStatus) bool) (m []upstream.MemberStatus) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if m = s.now.Load().routes.Pools()[0].Members; f(m) {
				return m
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, m)
			}
		}
	}
	before := await("down", func(m []upstream.MemberStatus) bool { return m[0].State == upstream.StateDown })
	write(`records { path = "`+dir+`/file/records" }`, "")
	if _, err := s.load(); err == nil {
		t.Fatal("it was taken")
	}
	await("still down, and checked", func(m []upstream.MemberStatus) bool {
		return m[0].State == upstream.StateDown && m[0].Check != nil && m[0].Check.Made > before[0].Check.Made
	})
	write("", "")
	if _, err := s.load(); err != nil {
		t.Fatal(err)
	}
	await("taken", func(m []upstream.MemberStatus) bool { return m[0].State == upstream.StateHealthy && m[0].Check == nil })
}
