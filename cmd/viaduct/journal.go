package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel/journal"
)

const journalLong = `The journal: the records of connections that "viaduct connections" and "viaduct plan" ask about.
"viaduct status" says how that of a running gateway does.`

func newJournal() *cobra.Command {
	c := &cobra.Command{
		Use:     "journal",
		Short:   "Check the files of the journal",
		Long:    journalLong,
		Example: "  viaduct journal check\n  viaduct journal check /var/lib/viaduct/journal --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("what of the journal? check")
		},
	}
	c.AddCommand(newJournalCheck())
	return c
}

const journalCheckLong = `Reads every octet of the journal and says of each file how many records it has and whether it is sound. The gateway
may run meanwhile; nothing is written. Files that were set aside as damaged are listed and not looked into.

Without DIR it is the journal of the policy, and without a policy that of the default place.

Exit codes: 0 all files are sound, 1 one is damaged or the journal cannot be read, 2 usage.`

// checkedFile is a file of the journal in JSON.
type checkedFile struct {
	File     string     `json:"file"`
	Bytes    int64      `json:"bytes"`
	Records  int64      `json:"records"`
	First    *time.Time `json:"first,omitempty"` // end of the first flow
	Last     *time.Time `json:"last,omitempty"`
	Aside    bool       `json:"set_aside,omitempty"`
	Sound    bool       `json:"sound"`
	Problems []string   `json:"problems,omitempty"`
}

func newJournalCheck() *cobra.Command {
	var src source
	var asJSON bool
	c := &cobra.Command{
		Use:     "check [DIR]",
		Short:   "Say whether the files of the journal are sound",
		Long:    journalCheckLong,
		Example: "  viaduct journal check\n  viaduct journal check /var/lib/viaduct/journal --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			} else {
				var err error
				if dir, err = journalOf(&src); err != nil {
					return err
				}
			}
			return checkJournal(c.Context(), c.OutOrStdout(), dir, asJSON)
		},
	}
	src.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// journalOf is where the journal of a policy is.
func journalOf(src *source) (string, error) {
	cfg, diags, err := src.load(nil)
	if err != nil {
		return "", err
	}
	if err := diags.Err(); err != nil {
		return "", err
	}
	p, err := journalAt(&cfg.Gateway)
	if err == nil && p.dir == "" {
		err = errors.New("the policy keeps no journal: gateway { journal { enabled = false } }; name the directory of the one that is meant")
	}
	return p.dir, err
}

func checkJournal(ctx context.Context, w io.Writer, dir string, asJSON bool) error {
	list := []checkedFile{}
	damaged := 0
	err := journal.Check(ctx, dir, func(s journal.FileState) error {
		f := checkedFile{File: s.Name, Bytes: s.Bytes, Records: s.Records, First: maybe(s.First), Last: maybe(s.Last), Aside: s.Aside, Problems: s.Problems, Sound: !s.Aside && len(s.Problems) == 0}
		if len(s.Problems) > 0 {
			damaged++
		}
		list = append(list, f)
		return nil
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = writeJSON(w, list)
	} else {
		err = printChecked(w, list)
	}
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%s: %s of %d damaged; what can be read of them is still found, and the gateway sets one aside when it meets the damage while writing", printable(dir), count(damaged, "file"), len(list))
	}
	return err
}

func printChecked(w io.Writer, list []checkedFile) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "the journal is empty")
		return err
	}
	p := palette(colourful(w))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "FILE\tSIZE\tRECORDS\tFROM\tTO\t\n")
	at := func(x *time.Time) string {
		if x == nil {
			return "-"
		}
		return x.Local().Format("2006-01-02 15:04:05")
	}
	for i := range list {
		f := &list[i]
		state := "sound"
		switch {
		case f.Aside:
			state = "was set aside as damaged"
		case !f.Sound:
			state = p.bad(count(len(f.Problems), "problem"))
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", printable(f.File), bytesText(f.Bytes), f.Records, at(f.First), at(f.Last), state)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range list {
		for _, text := range list[i].Problems {
			if _, err := fmt.Fprintf(w, "%s: %s\n", printable(list[i].File), printable(text)); err != nil {
				return err
			}
		}
	}
	return nil
}
