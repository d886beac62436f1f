package main

import (
	"time"

	"viaduct/policies"
)

// sinceHelp is for commands that ask about the past.
const sinceHelp = `A time is how long ago (90s, 1h, 7d), or 2026-11-23T20:15:00Z, '2026-11-23 20:15', 2026-11-23 or 20:15 in the
gateway's time zone.`

// since reads the time that a flag says: see sinceHelp. An empty text is the zero time.
func since(flag, text string, now time.Time, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := policies.ParseMoment(text, now, zone)
	if err != nil {
		return time.Time{}, usageError("--%s: %q %w", flag, text, err)
	}
	return t, nil
}

// period is --since and --until.
type period struct{ since, until string }

// times reads both. A period that ends before it begins is a mistake.
func (p *period) times(now time.Time, zone *time.Location) (from, to time.Time, err error) {
	if from, err = since("since", p.since, now, zone); err != nil {
		return from, to, err
	}
	if to, err = since("until", p.until, now, zone); err != nil {
		return from, to, err
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, usageError("--since is not before --until: %s, %s", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return from, to, nil
}
