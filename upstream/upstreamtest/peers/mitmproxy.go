package peers

import (
	"context"
	"path/filepath"
)

// MitmproxyOptions configures mitmdump, the mitmproxy without a screen. The zero value opens every tunnel and verifies servers by the
// system's certificates.
type MitmproxyOptions struct {
	// Roots is a file of the certificates that servers are verified by; "" means the system's.
	Roots string
}

// Mitmproxy starts mitmdump. Its own authority is in Dir, as mitmproxy-ca-cert.pem.
func Mitmproxy(ctx context.Context, dir string, o MitmproxyOptions) (*Proc, error) {
	path, err := mustLook("mitmdump")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "mitmproxy")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--quiet", "--listen-host", "127.0.0.1", "--listen-port", portOf(hold[0]), "--set", "confdir=" + own,
		"--set", "flow_detail=0", "--set", "onboarding=false",
	}
	if o.Roots != "" {
		args = append(args, "--set", "ssl_verify_upstream_trusted_ca="+filepath.Clean(o.Roots))
	}
	return begin(ctx, "mitmproxy", spec{path: path, args: args, dir: own, addr: hold[0].Addr()}, hold...)
}
