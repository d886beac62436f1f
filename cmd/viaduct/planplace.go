package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/policies"
)

// place is where the journal is.
func (q *planQuestion) place(_ *cobra.Command, cfg *policies.Config) (string, error) {
	if q.journal != "" {
		return q.journal, nil
	}
	state, err := stateDir(cfg.Gateway.State)
	if err != nil {
		return "", planTrouble("%w", err)
	}
	return filepath.Join(state, "journal"), nil
}

func planSince(text string, zone *time.Location, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	q := question{at: text}
	t, err := q.time(zone)
	if err != nil {
		return t, fmt.Errorf("%s: write a length of time such as 90s, 1h, 7d, or a time such as 2026-11-23T20:15:00Z or '2026-11-23 20:15'", text)
	}
	return t, nil
}
