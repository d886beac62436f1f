package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervisor tells systemd how the service is (sd_notify). Without systemd all of it does nothing.
type supervisor struct{}

// send passes states on. An error means that nobody listens, and there is nobody else to tell.
func (supervisor) send(states ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(states, "\n"))
}

func (s supervisor) ready(status string) { s.send(daemon.SdNotifyReady, "STATUS="+status) }

// busy says what takes so long.
func (s supervisor) busy(with string) { s.send("STATUS=" + with) }

// reloading must be followed by ready. Type=notify-reload wants the monotonic time to tell this answer from an older one.
func (s supervisor) reloading() {
	usec := daemon.SdNotifyMonotonicUsec()
	s.send(daemon.SdNotifyReloading, strings.TrimSpace(usec), "STATUS=reading the configuration")
}

// stopping asks for the time that draining takes, so that systemd does not end it early.
func (s supervisor) stopping(drain time.Duration) {
	s.send(daemon.SdNotifyStopping, "STATUS=draining", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (drain+10*time.Second).Microseconds()))
}

// watch reports life until ctx is done, if the unit wants to hear of it. alive is asked each time: a process whose locks hang
// stays silent, and is restarted.
func (s supervisor) watch(ctx context.Context, alive func()) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	go func() {
		tick := time.NewTicker(every / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				alive()
				s.send(daemon.SdNotifyWatchdog)
			}
		}
	}()
}

// underJournal reports whether what goes to stderr gets a time from the journal.
func underJournal() bool { return os.Getenv("JOURNAL_STREAM") != "" }
