package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/policies"
	"viaduct/router/intercept"
)

const caLong = `The certificate authority signs what clients are shown where a rule opens TLS (tls { mode = "intercept" }).
Programs accept that only when they have been told to trust the authority's certificate; whoever has
its key can be every server for them, so the key never leaves its file.

` + caHelp + `

Exit codes: 0 done, 1 it failed, 2 usage.`

const caHelp = `The authority is in --dir, or where the policy says (gateway { ca { path } } of --config or VIADUCT_CONFIG),
or in the directory "ca" of the gateway's state: $STATE_DIRECTORY, $XDG_STATE_HOME/viaduct,
~/.local/state/viaduct. A gateway that runs as another user needs to be able to read the key.`

func newCA() *cobra.Command {
	c := &cobra.Command{
		Use:     "ca",
		Short:   "Make and show the certificate authority of intercepting rules",
		Long:    caLong,
		Example: "  viaduct ca init --name \"Example Corp gateway\"\n  viaduct ca export /usr/local/share/ca-certificates/viaduct.crt",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError("what of the authority? init, show, export or rotate")
		},
	}
	c.AddCommand(newCAInit(), newCAShow(), newCAExport(), newCARotate())
	return c
}

// authorityPlace finds the files of the authority for a command.
type authorityPlace struct {
	source
	dir string
}

func (a *authorityPlace) flags(c *cobra.Command) {
	a.source.flags(c)
	c.Flags().StringVar(&a.dir, "dir", "", "directory of the authority")
	_ = c.MarkFlagDirname("dir") // fails only where the flag does not exist
}

// files returns the files, and whether they are in a directory that is ours to fill.
func (a *authorityPlace) files() (f intercept.Files, ours bool, err error) {
	if a.dir != "" {
		return intercept.In(a.dir), true, nil
	}
	var g policies.Gateway
	if len(a.paths(nil)) > 0 {
		cfg, diags, err := a.load(nil)
		if err != nil {
			return f, false, err
		}
		if cfg == nil {
			return f, false, fmt.Errorf("the policy does not say where the authority is: it has errors (use --dir): %w", diags.Err())
		}
		g = cfg.Gateway
	}
	f, err = authorityFiles(&g)
	return f, g.CA == nil || g.CA.Path != "", err
}

// authorityFiles is where the authority of a gateway is.
func authorityFiles(g *policies.Gateway) (intercept.Files, error) {
	switch {
	case g.CA == nil:
		dir, err := stateDir(g.State)
		return intercept.In(filepath.Join(dir, "ca")), err
	case g.CA.Path != "":
		return intercept.In(g.CA.Path), nil
	}
	return intercept.Files{Cert: g.CA.Certificate, Key: g.CA.Key}, nil
}

// caOptions are the flags of what makes an authority.
type caOptions struct {
	name   string
	days   int
	permit []string
}

func (o *caOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.name, "name", "", "what people see it called (\"Viaduct CA\" and the name of this machine)")
	c.Flags().IntVar(&o.days, "days", intercept.DefaultDays, "days it is valid for")
	c.Flags().StringArrayVar(&o.permit, "permit", nil, "domain, address or network that it may sign for, and nothing else; may be repeated")
}

func (o *caOptions) create(before *x509.Certificate) intercept.CreateOptions {
	c := intercept.CreateOptions{Name: o.name, Days: o.days, Permit: o.permit}
	if c.Name == "" && before != nil {
		c.Name = nextName(before.Subject.CommonName)
	}
	if c.Permit == nil && before != nil {
		c.Permit = intercept.Permits(before)
	}
	if c.Name == "" {
		c.Name = "Viaduct CA"
		if host, err := os.Hostname(); err == nil && host != "" {
			c.Name = bounded(c.Name+" "+host, 64)
		}
	}
	return c
}

// nextName is the name of the authority that follows one of that name: another one, because programs know authorities by their names.
func nextName(name string) string {
	base, n := name, 1
	if i := strings.LastIndex(name, " G"); i > 0 {
		if k, err := strconv.Atoi(name[i+2:]); err == nil && k > 1 && k < 1000 {
			base, n = name[:i], k
		}
	}
	return bounded(base, 58) + " G" + strconv.Itoa(n+1)
}

func bounded(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

func newCAInit() *cobra.Command {
	var a authorityPlace
	var o caOptions
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the authority: a key and a certificate",
		Long: `Makes the authority's key (ECDSA P-256, in a file for this user alone) and certificate, prints the
fingerprint and how to trust it. It overwrites nothing.

With --permit the authority can sign for these domains and networks only, and clients hold it to that:
an authority for "corp.example" is worth nothing to a thief who wants to be your bank.

` + caHelp + `

Exit codes: 0 made, 1 there is one already or it cannot be written, 2 usage.`,
		Example: "  viaduct ca init\n  viaduct ca init --name \"Example Corp gateway\" --days 1095 --permit corp.example --permit 10.0.0.0/8",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, ours, err := a.files()
			if err != nil {
				return err
			}
			if !ours {
				return fmt.Errorf("the policy names files of an authority that was made elsewhere (%s): nothing is made there", f.Cert)
			}
			ca, err := intercept.Create(o.create(nil))
			if err != nil {
				return usageError("%v", err)
			}
			if err := ca.Write(f); errors.Is(err, fs.ErrExist) {
				return fmt.Errorf(`%w; see "viaduct ca show", and "viaduct ca rotate" for a new one`, err)
			} else if err != nil {
				return err
			}
			return tellCA(c.OutOrStdout(), "made", f, ca.Cert)
		},
	}
	a.flags(c)
	o.flags(c)
	return c
}

func tellCA(w io.Writer, done string, f intercept.Files, cert *x509.Certificate) error {
	p := palette(colourful(w))
	fmt.Fprintf(w, "%s: %s\n\n", p.good(done), cert.Subject.CommonName)
	printAuthority(w, f, cert)
	return printTrust(w, f.Cert)
}

func printAuthority(w io.Writer, f intercept.Files, cert *x509.Certificate) {
	fmt.Fprintf(w, "certificate  %s\n", f.Cert)
	fmt.Fprintf(w, "key          %s (keep it secret; it is in no backup that others can read)\n", f.Key)
	fmt.Fprintf(w, "SHA-256      %s\n", intercept.Fingerprint(cert))
	fmt.Fprintf(w, "valid        %s to %s\n", cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly))
	signs := "every name"
	if list := intercept.Permits(cert); len(list) > 0 {
		signs = strings.Join(list, ", ") + " only"
	}
	fmt.Fprintf(w, "signs for    %s\n", signs)
}

// printTrust says how programs are told to trust the certificate.
func printTrust(w io.Writer, cert string) error {
	cert = quotedPath(cert)
	_, err := fmt.Fprintf(w, `
How to trust it, on the machines of the clients (compare the fingerprint first):

  Debian    sudo cp %[1]s /usr/local/share/ca-certificates/viaduct.crt && sudo update-ca-certificates
  Fedora    sudo cp %[1]s /etc/pki/ca-trust/source/anchors/viaduct.pem && sudo update-ca-trust
  Firefox   Settings, Privacy & Security, View Certificates, Authorities, Import
            (for many: policies.json with {"policies": {"Certificates": {"Install": ["%[2]s"]}}})
  Chromium  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n viaduct -i %[1]s
  Java      keytool -importcert -cacerts -alias viaduct -file %[1]s
  git       it uses the system's (Debian, Fedora above); for one host alone:
            git config --global http.https://HOST/.sslCAInfo %[1]s
  curl      the same; for one call: curl --cacert %[1]s ...
`, cert, strings.Trim(cert, "'"))
	return err
}

// quotedPath is a path as a shell takes it.
func quotedPath(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-+,:@%", c))
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// authorityInfo is what "ca show --json" prints.
type authorityInfo struct {
	Name        string    `json:"name"`
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
	SHA256      string    `json:"sha256"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Permits     []string  `json:"permits"` // empty = everything
	// Problem says why a gateway would not use it; "" = it would.
	Problem string `json:"problem,omitempty"`
}

func newCAShow() *cobra.Command {
	var a authorityPlace
	var asJSON bool
	c := &cobra.Command{
		Use:     "show",
		Short:   "Say which authority there is, and how to trust it",
		Long:    "Prints where the authority is, its fingerprint and validity, whether a gateway could use it, and how to\ntrust it.\n\n" + caHelp + "\n\nExit codes: 0 it can be used, 1 there is none, or it cannot be used, 2 usage.",
		Example: "  viaduct ca show\n  viaduct ca show --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, _, err := a.files()
			if err != nil {
				return err
			}
			certs, err := intercept.LoadCerts(f)
			if err != nil {
				return noAuthority(err)
			}
			problem := usableAuthority(f)
			cert, w := certs[0], c.OutOrStdout()
			if asJSON {
				info := authorityInfo{cert.Subject.CommonName, f.Cert, f.Key, intercept.Fingerprint(cert), cert.NotBefore, cert.NotAfter, append([]string{}, intercept.Permits(cert)...), ""}
				if problem != nil {
					info.Problem = problem.Error()
				}
				err = writeJSON(w, info)
			} else {
				p := palette(colourful(w))
				fmt.Fprintf(w, "%s\n\n", p.bold(cert.Subject.CommonName))
				printAuthority(w, f, cert)
				if problem != nil {
					fmt.Fprintf(w, "%s      %v\n", p.bad("problem"), problem)
				}
				err = printTrust(w, f.Cert)
			}
			if err == nil && problem != nil {
				return quiet(exitProblems)
			}
			return err
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// usableAuthority says why a gateway could not sign with what is in f.
func usableAuthority(f intercept.Files) error {
	ca, err := intercept.Load(f)
	if err == nil {
		err = ca.Usable(time.Now())
	}
	return err
}

// noAuthority adds what to do.
func noAuthority(err error) error {
	if errors.Is(err, intercept.ErrNone) {
		return fmt.Errorf(`%w: "viaduct ca init" makes one`, err)
	}
	return err
}

func newCAExport() *cobra.Command {
	var a authorityPlace
	var asDER, asPEM bool
	c := &cobra.Command{
		Use:     "export [FILE]",
		Short:   "Write the certificate that clients are to trust",
		Long:    "Writes the authority's certificate, and never its key, to FILE or to standard output (-, the default).\n\n" + caHelp + "\n\nExit codes: 0 written, 1 it failed, 2 usage.",
		Example: "  viaduct ca export /usr/local/share/ca-certificates/viaduct.crt\n  viaduct ca export --der viaduct.cer\n  viaduct ca export | ssh laptop 'cat > viaduct.pem'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if asDER && asPEM {
				return usageError("--pem and --der: one of them")
			}
			f, _, err := a.files()
			if err != nil {
				return err
			}
			certs, err := intercept.LoadCerts(f)
			if err != nil {
				return noAuthority(err)
			}
			b := intercept.PEM(certs[0])
			if asDER {
				b = certs[0].Raw
			}
			if len(args) == 1 && args[0] != "-" {
				return os.WriteFile(args[0], b, 0o644)
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asPEM, "pem", false, "in PEM form (the default)")
	c.Flags().BoolVar(&asDER, "der", false, "in DER form, as Windows and Android like it")
	return c
}

func newCARotate() *cobra.Command {
	var a authorityPlace
	var o caOptions
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Put a new authority in the place of the one there is",
		Long: `Makes a new authority, which a gateway uses from its next reload on. The old one signs the new one before
its key is thrown away, so that clients which trust only the old one go on working for as long as that is
valid: there is time to bring them the new certificate. The old certificate is kept beside the new one.

It is called like the old one with a number behind (G2, G3), and has its permitted domains, unless the
flags say otherwise. What the old one
does not permit, clients that trust only the old one do not accept from the new one either. If the old key
has been stolen, tell the clients to trust the old certificate no more.

` + caHelp + `

Exit codes: 0 made, 1 it failed, 2 usage.`,
		Example: "  viaduct ca rotate && viaduct reload",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, ours, err := a.files()
			if err != nil {
				return err
			}
			if !ours {
				return fmt.Errorf("the policy names files of an authority that was made elsewhere (%s): make the next one there, too", f.Cert)
			}
			certs, err := intercept.LoadCerts(f)
			if err != nil {
				return noAuthority(err)
			}
			ca, old, err := intercept.Rotate(f, o.create(certs[0]))
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			if err := tellCA(w, "rotated", f, ca.Cert); err != nil {
				return err
			}
			until := "Clients that trust the old one accept the new one until " + certs[0].NotAfter.UTC().Format(time.DateOnly) + "."
			if len(ca.Chain) == 0 {
				until = "The old one could not sign the new one: clients need the new certificate before the gateway is reloaded."
			}
			_, err = fmt.Fprintf(w, "\nThe old certificate is %s. %s\nNow: bring the new certificate to the clients, and tell the gateway: viaduct reload\n", old, until)
			return err
		},
	}
	a.flags(c)
	o.flags(c)
	return c
}
