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
