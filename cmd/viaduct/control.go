package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/policies"
	"viaduct/router/admin"
)

// control finds the control door of a running gateway.
type control struct {
	source
	address string
	token   string // file
	ca      string // file with the authorities of a door that speaks TLS
	cert    string // file with the certificate that it is shown
	key     string // of that
	// guess says that a policy which cannot be read is no reason to give up: the default place is asked, and notes is told so. It is for
	// commands that change nothing.
	guess bool
	notes io.Writer
}

const controlHelp = `The gateway is found by --admin, VIADUCT_ADMIN, the policy given with --config or VIADUCT_CONFIG, or
where its socket is by default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/viaduct, /run/viaduct,
/tmp/viaduct-UID. Over TCP it asks for a token, which is read from --token-file, $CREDENTIALS_DIRECTORY
or the directory of state. A door that speaks TLS is https://HOST:PORT; --admin-ca, --admin-cert and
--admin-key are for that.`

func (k *control) flags(c *cobra.Command) {
	k.source.flags(c)
	c.Flags().StringVar(&k.address, "admin", "", "address of the control door: unix:/path, host:port or https://host:port")
	c.Flags().StringVar(&k.token, "token-file", "", "file with the token, for a door over TCP")
	c.Flags().StringVar(&k.ca, "admin-ca", "", "file with the authorities that the certificate of the door is checked against")
	c.Flags().StringVar(&k.cert, "admin-cert", "", "file with a certificate to show to the door")
	c.Flags().StringVar(&k.key, "admin-key", "", "file with its key")
	for _, name := range []string{"token-file", "admin-ca", "admin-cert", "admin-key"} {
		_ = c.MarkFlagFilename(name) // fails only where the flag does not exist
	}
}

// foundDoor is where a door is, and what it wants to be shown.
type foundDoor struct {
	address string      // "unix:/path" or host:port
	token   string      // over TCP; "" = none
	tls     *tls.Config // nil = it speaks none
}

// find returns the door with what it asks for.
func (k *control) find() (d foundDoor, err error) {
	var g policies.Gateway
	d.address = k.address
	if d.address == "" {
		d.address = os.Getenv("VIADUCT_ADMIN")
	}
	if d.address == "" && len(k.paths(nil)) > 0 {
		g, err = k.gateway()
		switch {
		case err != nil && k.guess && codeIsProblem(err):
			fmt.Fprintf(k.notes, "viaduct: %v\nviaduct: asking at the default place, %s\n", err, k.usualPlace())
		case err != nil:
			return d, err
		}
		d.address = g.Admin
	}
	if d.address == "" {
		d.address = k.usualPlace()
	}
	if strings.HasPrefix(d.address, "unix:") {
		return d, nil
	}
	if err := k.secure(&d, &g); err != nil {
		return d, err
	}
	switch {
	case k.token == "" && !g.Door.Token.IsZero():
		d.token = g.Door.Token.Reveal()
		return d, nil
	case k.token == "" && k.cert != "":
		return d, nil // the certificate will do
	}
	path := k.token
	if path == "" {
		if path, _, err = tokenPath(g.State); err != nil {
			return d, err
		}
	}
	d.token, err = admin.LoadToken(path, false)
	if err != nil {
		return d, fmt.Errorf("the door at %s asks for a token: %w", d.address, err)
	}
	return d, nil
}

// secure finds out whether the door speaks TLS, and how it is known. A policy says both; without one it is an address that begins with https://.
func (k *control) secure(d *foundDoor, g *policies.Gateway) error {
	address, https := strings.CutPrefix(d.address, "https://")
	d.address = strings.TrimSuffix(address, "/")
	t := g.Door.TLS
	if !https && t == nil {
		if d.address = strings.TrimPrefix(d.address, "http://"); k.ca != "" || k.cert != "" {
			return usageError("--admin-ca and --admin-cert are for a door that speaks TLS: write --admin https://%s", d.address)
		}
		return nil
	}
	d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case k.ca != "":
		pem, err := os.ReadFile(k.ca)
		if err != nil {
			return err
		}
		if d.tls.RootCAs = x509.NewCertPool(); !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM form", k.ca)
		}
	case t != nil && t.Pair.Certificate.Leaf != nil: // whoever reads the policy knows the very certificate
		leaf := t.Pair.Certificate.Leaf
		d.tls.RootCAs = x509.NewCertPool()
		d.tls.RootCAs.AddCert(leaf)
		if len(leaf.DNSNames) > 0 && !strings.HasPrefix(leaf.DNSNames[0], "*") {
			d.tls.ServerName = leaf.DNSNames[0]
		}
	}
	if (k.cert == "") != (k.key == "") {
		return usageError("a certificate of a client is two files: --admin-cert and --admin-key")
	}
	if k.cert != "" {
		pair, err := tls.LoadX509KeyPair(k.cert, k.key)
		if err != nil {
			return fmt.Errorf("the certificate for the door at %s: %w", d.address, err)
		}
		d.tls.Certificates = []tls.Certificate{pair}
	} else if t != nil && t.ClientCAs != nil && !t.Optional {
		return usageError("the door at %s asks for a certificate: --admin-cert and --admin-key say which", d.address)
	}
	return nil
}

// codeIsProblem reports whether an error is of what was found, not of how the command was written.
func codeIsProblem(err error) bool {
	code, _ := codeOf(err, true)
	return code != exitUsage
}

// gateway reads the gateway block of a policy, which need not be good otherwise than in form.
func (k *control) gateway() (policies.Gateway, error) {
	cfg, diags, err := k.load(nil)
	if err != nil {
		return policies.Gateway{}, err
	}
	if cfg == nil {
		return policies.Gateway{}, fmt.Errorf("the policy does not say where the gateway is: it has errors (use --admin): %w", diags.Err())
	}
	return cfg.Gateway, nil
}

// usualPlace is the first of the default sockets that is there, or the first of them.
func (k *control) usualPlace() string {
	here := filepath.Join(runtimeDir(), socketName)
	if _, err := os.Stat(here); err == nil {
		return "unix:" + here
	}
	if other := "/run/viaduct/" + socketName; os.Getenv("RUNTIME_DIRECTORY") == "" {
		if _, err := os.Stat(other); err == nil {
			return "unix:" + other
		}
	}
	return "unix:" + here
}

// ask sends one request and decodes the answer into v. refused is true when the gateway said no with an answer of that form.
func (k *control) ask(ctx context.Context, method, path string, v any) (refused bool, err error) {
	d, err := k.open()
	if err != nil {
		return false, err
	}
	defer d.close()
	return d.ask(ctx, method, path, nil, v)
}

// status asks how the gateway is. A policy that cannot be read does not keep anybody from that.
func (k *control) status(c *cobra.Command) (*admin.Status, error) {
	k.guess, k.notes = true, c.ErrOrStderr()
	s := new(admin.Status)
	_, err := k.ask(c.Context(), http.MethodGet, "/v1/status", s)
	return s, err
}
