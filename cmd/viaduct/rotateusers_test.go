package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const withUsers = `
variable "listen" { type = string }
variable "records" { type = string }
variable "users" { type = string }

gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
  authenticate { htpasswd = var.users }
}
policy "default" {
  rule "here" {
    match { address = "127.0.0.0/8" }
    via = direct
  }
  otherwise { via = direct }
}
`

// TestUsersAreTakenUp: what an htpasswd file says of a user holds from the moment that it is written, without a reload.
func TestUsersAreTakenUp(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(site.Close)
	path := filepath.Join(t.TempDir(), "users")
	put := func(password string) {
		t.Helper()
		b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		must(t, err)
		write(t, path+".new", "anna:"+string(b)+"\n")
		must(t, os.Rename(path+".new", path))
	}
	put("one")
	g := startGateway(t, withUsers, "users", path)
	generation := g.generation()
	as := func(password string) int {
		t.Helper()
		proxy := &url.URL{Scheme: "http", Host: g.addr, User: url.UserPassword("anna", password)}
		c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}
		r, err := c.Get(site.URL)
		must(t, err)
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body)
		return r.StatusCode
	}
	if a, b := as("one"), as("two"); a != 200 || b != 407 {
		t.Fatalf("%d and %d", a, b)
	}
	put("two")
	g.await("the new password", func() bool { return as("two") == 200 })
	if a := as("one"); a != 407 {
		t.Errorf("the password before: %d", a)
	}
	write(t, path, "anna:plain\n")
	g.await("the log to say that it is wrong", func() bool { return strings.Contains(g.logged(), "not bcrypt") })
	if a := as("two"); a != 200 {
		t.Errorf("%d after a file that is wrong", a)
	}
	put("three")
	g.await("the third password", func() bool { return as("three") == 200 })
	g.await("the log to say that it is well", func() bool { return strings.Contains(g.logged(), "can be read again") })
	if n := strings.Count(g.logged(), "not bcrypt"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if now := g.generation(); now != generation {
		t.Errorf("it was a reload: generation %d, then %d", generation, now)
	}
}
