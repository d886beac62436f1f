package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// runtimeDir is where the control door's socket is: $RUNTIME_DIRECTORY (systemd), then $XDG_RUNTIME_DIR/viaduct, then
// /tmp/viaduct-UID. It is not made here.
func runtimeDir() string {
	if d := first(os.Getenv("RUNTIME_DIRECTORY")); d != "" {
		return d
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "viaduct")
	}
	return filepath.Join(os.TempDir(), "viaduct-"+strconv.Itoa(os.Getuid()))
}

// stateDir is where things are kept that outlive the process: what the policy says, then $STATE_DIRECTORY (systemd), then
// $XDG_STATE_HOME/viaduct. It is not made here.
func stateDir(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	if d := first(os.Getenv("STATE_DIRECTORY")); d != "" {
		return d, nil
	}
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "viaduct"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New(`there is no directory for state: set gateway { state = "/path" }, or $STATE_DIRECTORY`)
	}
	return filepath.Join(home, ".local", "state", "viaduct"), nil
}

// first returns the first of the directories that systemd separates by colons.
func first(list string) string {
	d, _, _ := strings.Cut(list, ":")
	if !filepath.IsAbs(d) {
		return ""
	}
	return d
}

// privateDir makes dir for this user alone, or checks that it is so: below /tmp somebody else may have been first.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case ok && int(sys.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to another user", dir)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o)", dir, st.Mode().Perm())
	}
	return nil
}

const (
	socketName = "admin.sock"
	tokenName  = "admin.token"
)

// door says where the control door is, and who may open it.
type doorPlace struct {
	address string      // "unix:/path" or host:port
	mode    fs.FileMode // of the socket
}

// doorFor turns the policy's word into a place, and makes the default directory.
func doorFor(configured string) (doorPlace, error) {
	if configured != "" {
		return doorPlace{configured, 0o660}, nil // the group of the service may ask too
	}
	dir := runtimeDir()
	place := doorPlace{"unix:" + filepath.Join(dir, socketName), 0o600}
	if first(os.Getenv("RUNTIME_DIRECTORY")) == dir {
		place.mode = 0o660
		return place, nil // made by systemd
	}
	if err := privateDir(dir); err != nil {
		return place, fmt.Errorf("directory of the control door: %w", err)
	}
	return place, nil
}

// tokenPath is the file with the token of a door over TCP: a systemd credential, or a file among the state.
func tokenPath(configuredState string) (path string, ours bool, err error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); filepath.IsAbs(dir) {
		p := filepath.Join(dir, tokenName)
		if _, err := os.Stat(p); err == nil {
			return p, false, nil
		}
	}
	dir, err := stateDir(configuredState)
	if err != nil {
		return "", false, err
	}
	return filepath.Join(dir, tokenName), true, nil
}
