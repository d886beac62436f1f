package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"

	"viaduct/policies"
	"viaduct/upstream"
)

// This file takes secrets up anew while the gateway runs, when the files they come from change, or what commands print, and the users of listeners. Nothing else of the policy
// is read again: that is what a reload is for.

const (
	// rotateQuiet is how long nothing may have happened in the directories before files are looked at: who writes one may not be done.
	rotateQuiet = 300 * time.Millisecond
	// rotateMost is how long a directory in which something happens all the time can put that off.
	rotateMost = 5 * time.Second
	// rotatePoll is how often files are looked at when nothing is heard: directories may be made later, or be where no notice comes from.
	rotatePoll = time.Minute
	// rotateAlone is the same where no directory can be watched at all.
	rotateAlone = 10 * time.Second
	// maxSecretFile bounds what is looked at of a file: as much as one of users may have.
	maxSecretFile = 16 << 20
	// maxLinks bounds how many symbolic links are followed from a file.
	maxLinks = 10
)

// rotation watches the sources of a configuration's secrets.
type rotation struct {
	log   *logrus.Logger
	renew func(printed commands, force bool) error // takes the secrets up; printed is what commands have printed now

	mu       sync.Mutex
	files    []string
	commands []policies.SecretCommand
	running  bool
	stopped  bool

	wake chan struct{} // there is another configuration
	stop context.CancelFunc
	done chan struct{}
}

func newRotation(log *logrus.Logger, renew func(commands, bool) error) *rotation {
	return &rotation{log: log, renew: renew, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// follow makes it watch what cfg is made of. Without anything to watch nothing runs.
func (r *rotation) follow(cfg *policies.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.files, r.commands = secretFiles(cfg), refreshed(cfg.SecretCommands)
	switch {
	case r.running:
		select {
		case r.wake <- struct{}{}:
		default:
		}
	case len(r.files)+len(r.commands) > 0:
		ctx, stop := context.WithCancel(context.Background())
		r.running, r.stop = true, stop
		go r.run(ctx)
	}
}

// secretFiles are the files that secrets of cfg come from, those of users included.
func secretFiles(cfg *policies.Config) []string {
	files := slices.Clone(cfg.SecretFiles)
	for i := range cfg.Listeners {
		if u := cfg.Listeners[i].Users; u != nil && u.File() != "" {
			files = append(files, u.File())
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// close ends it, and what it runs.
func (r *rotation) close() {
	r.mu.Lock()
	running := r.running
	r.stopped = true
	r.mu.Unlock()
	if running {
		r.stop()
		<-r.done
	}
}

// watching is the state of run.
type watching struct {
	r     *rotation
	files []string
	list  []policies.SecretCommand
	due   map[string]time.Time // when a command is run again

	notify  *fsnotify.Watcher // nil = there is none
	dirs    map[string]bool
	seen    map[string][sha256.Size]byte // what files held
	key     [32]byte
	problem map[string]string // what was said last of a source that cannot be taken up, by the command; "" is files
	deaf    bool              // that no notice comes was said
}

func (r *rotation) run(ctx context.Context) {
	defer close(r.done)
	w := &watching{r: r, dirs: map[string]bool{}, problem: map[string]string{}}
	rand.Read(w.key[:]) // never fails
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		w.cannotWatch(err)
	} else {
		defer w.notify.Close()
	}
	w.begin()
	w.take(true)
	poll := time.NewTimer(0)
	defer poll.Stop()
	var first, quiet time.Time // of what happened in the directories; zero = nothing did
	for {
		poll.Reset(max(time.Until(w.next(quiet)), 0))
		var events <-chan fsnotify.Event
		var faults <-chan error
		if w.notify != nil {
			events, faults = w.notify.Events, w.notify.Errors
		}
		heard := false
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			w.begin()
			w.take(true) // the file may have changed between the reading of the policy and now
			continue
		case <-events:
			heard = true
		case <-faults: // such as too many events at a time
			heard = true
		case <-poll.C:
		}
		now := time.Now()
		if heard {
			if quiet.IsZero() {
				first = now
			}
			quiet = now.Add(rotateQuiet)
			if most := first.Add(rotateMost); quiet.After(most) {
				quiet = most
			}
			continue
		}
		if !quiet.IsZero() && now.Before(quiet) {
			continue
		}
		quiet = time.Time{}
		w.watch() // first, so that nothing is missed between the look and the next notice
		w.take(false)
		w.refresh(ctx)
	}
}

// next is when something is to be done, if nothing happens.
func (w *watching) next(quiet time.Time) time.Time {
	if !quiet.IsZero() {
		return quiet
	}
	at := time.Now().Add(rotatePoll)
	if w.notify == nil {
		at = time.Now().Add(rotateAlone)
	}
	for _, due := range w.due {
		if due.Before(at) {
			at = due
		}
	}
	return at
}

// begin takes over what the configuration in force is made of.
func (w *watching) begin() {
	w.r.mu.Lock()
	w.files, w.list = w.r.files, w.r.commands
	w.r.mu.Unlock()
	before := w.due
	w.due = map[string]time.Time{}
	for _, c := range w.list {
		k := commandKey(c)
		if at, ok := before[k]; ok && time.Until(at) < c.Refresh {
			w.due[k] = at
		} else {
			w.due[k] = time.Now().Add(around(c.Refresh))
		}
	}
	w.seen = w.look()
	w.watch()
}

// around is d, give or take a twentieth, so that gateways do not all ask at the same moment.
func around(d time.Duration) time.Duration {
	return d - d/20 + time.Duration(mathrand.Int64N(int64(d)/10+1))
}

// watch watches the directories that the files are in, and those on the way of symbolic links: who swaps a link touches its directory.
func (w *watching) watch() {
	if w.notify == nil {
		return
	}
	want := map[string]bool{}
	for _, f := range w.files {
		for _, d := range dirsOf(f) {
			want[d] = true
		}
	}
	for d := range w.dirs {
		if !want[d] {
			w.notify.Remove(d)
			delete(w.dirs, d)
		}
	}
	have := w.notify.WatchList()
	for d := range want {
		if slices.Contains(have, d) {
			continue
		}
		err := w.notify.Add(d)
		switch {
		case err == nil:
			w.dirs[d] = true
		case !errors.Is(err, os.ErrNotExist): // one that is not there may come; the next look will find it
			w.cannotWatch(err)
		}
	}
}

func (w *watching) cannotWatch(err error) {
	if !w.deaf {
		w.deaf = true
		w.r.log.WithError(err).Warn("changes of secrets are found later than at once: no notice of them can be had")
	}
}

// dirsOf returns the directory of a file, and of each link on the way to it.
func dirsOf(path string) (dirs []string) {
	for range maxLinks {
		d := filepath.Dir(path)
		if up, err := filepath.EvalSymlinks(d); err == nil && up != d { // it is reached by a link itself: who swaps that touches the directory above
			dirs = append(dirs, filepath.Dir(d), up)
		} else {
			dirs = append(dirs, d)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return dirs
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(d, to)
		}
		path = to
	}
	return dirs
}

// look returns what the files hold, as a digest that means nothing outside of the process.
func (w *watching) look() map[string][sha256.Size]byte {
	all := make(map[string][sha256.Size]byte, len(w.files))
	for _, path := range w.files {
		h := sha256.New()
		h.Write(w.key[:])
		f, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(h, io.LimitReader(f, maxSecretFile))
			f.Close()
		}
		if err != nil {
			fmt.Fprintf(h, "\x00%v", err)
		}
		all[path] = [sha256.Size]byte(h.Sum(nil))
	}
	return all
}

// take takes the secrets up if a file holds something else than before, or anyway.
func (w *watching) take(anyway bool) {
	now := w.look()
	changed := w.problem[""] != "" // what could not be taken up may be now
	for path, sum := range now {
		changed = changed || w.seen[path] != sum
	}
	if w.seen = now; changed || anyway {
		w.report("", w.r.renew(nil, changed))
	}
}

// report says once that a secret cannot be taken up, and once that it can be again.
func (w *watching) report(of string, err error) {
	switch {
	case err == nil && w.problem[of] != "":
		delete(w.problem, of)
		w.r.log.Info("the secrets can be read again")
	case err != nil && err.Error() != w.problem[of]:
		w.problem[of] = err.Error()
		w.r.log.WithError(err).Error("a secret has changed and cannot be taken up: the one before stays in use")
	}
}

// refresh runs the commands whose time has come.
func (w *watching) refresh(ctx context.Context) {
	for _, c := range w.list {
		k := commandKey(c)
		if time.Now().Before(w.due[k]) {
			continue
		}
		out, err := runSecretCommand(ctx, c)
		w.due[k] = time.Now().Add(around(c.Refresh))
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = w.r.renew(commands{k: out}, false)
		} else {
			err = fmt.Errorf("%s: %w", c.Argv[0], err)
		}
		w.report(k, err)
	}
}

// renewSecrets reads the secrets of the policy in force again, and goes on with those that have changed as a reload would. force says that a file
// has changed: it may be one whose content is read only when it is used, such as a keytab. When it fails, nothing has changed.
func (s *service) renewSecrets(printed commands, force bool) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	cur := s.now.Load()
	if cur == nil || s.stopped {
		return nil
	}
	var users error
	if printed == nil {
		users = s.renewUsers(cur.cfg)
	}
	if len(cur.cfg.SecretFiles)+len(cur.cfg.SecretCommands) == 0 {
		return users
	}
	return errors.Join(s.renewCredentials(cur, printed, force), users)
}

// renewUsers reads the files of the listeners' users again. One that cannot be read leaves its users as they are.
func (s *service) renewUsers(cfg *policies.Config) (err error) {
	said := map[string]bool{}
	for i := range cfg.Listeners {
		u := cfg.Listeners[i].Users
		if u == nil || u.File() == "" {
			continue
		}
		changed, fault := u.Renew()
		if said[u.File()] {
			continue
		}
		said[u.File()] = changed || fault != nil
		err = errors.Join(err, fault)
		if changed {
			s.log.WithFields(logrus.Fields{"file": u.File(), "users": u.Len()}).Info("the file of users has changed, and is used from now on")
		}
	}
	return err
}

// renewCredentials is renewSecrets for what upstreams are shown.
func (s *service) renewCredentials(cur *applied, printed commands, force bool) error {
	o, _, err := s.src.options(nil)
	if err != nil {
		return err
	}
	next := maps.Clone(s.printed)
	maps.Copy(next, printed)
	if len(printed) > 0 && maps.Equal(next, s.printed) {
		return nil
	}
	o.Command = next.known
	auths, diags := cur.cfg.Credentials(o)
	if err := diags.Err(); err != nil {
		return err
	}
	cfg := *cur.cfg
	cfg.Upstreams.Upstreams = slices.Clone(cfg.Upstreams.Upstreams)
	var names []string
	for i := range cfg.Upstreams.Upstreams {
		u := &cfg.Upstreams.Upstreams[i]
		a := auths[u.Name]
		if a == nil || u.Auth == nil || a.Equal(u.Auth) && !(force && u.Auth.Keytab != "") {
			continue
		}
		names = append(names, u.Name)
		u.Auth = a
	}
	if len(names) == 0 {
		s.printed = next
		return nil
	}
	before := cur.routes.Secrets()
	if err := s.apply(&cfg, cur.generation, policies.Diagnostics{}); err != nil {
		return fmt.Errorf("secrets of %s: %w", strings.Join(names, ", "), err)
	}
	s.printed = next
	for name, at := range s.now.Load().routes.Secrets() {
		if at != before[name] {
			s.log.WithFields(logrus.Fields{"upstream": name, "credential": credentialOf(&cfg.Upstreams, name)}).Info("credential: its secret has changed, and the new one is used from now on")
		}
	}
	return nil
}

func credentialOf(c *upstream.Config, name string) string {
	for i := range c.Upstreams {
		if u := &c.Upstreams[i]; u.Name == name && u.Auth != nil && u.Auth.Credential != "" {
			return u.Auth.Credential
		}
	}
	return name
}

// known gives what commands have printed, and runs none.
func (m commands) known(c policies.SecretCommand) (string, error) {
	if out, ok := m[commandKey(c)]; ok {
		return out, nil
	}
	return "", errors.New("it was not run")
}
