package peers

import (
	"context"
	"fmt"
	"strings"
)

// CntlmOptions configures cntlm.
type CntlmOptions struct {
	// Parent is the "host:port" of the proxy that wants NTLM.
	Parent string
	// Domain, User and Password are the account, shown as NTLMv2. cntlm's
	// configuration allows no line breaks in them.
	Domain, User, Password string
}

// Cntlm starts cntlm, which logs in to a proxy for those that cannot. It goes
// to that proxy for everything.
func Cntlm(ctx context.Context, dir string, o CntlmOptions) (*Proc, error) {
	path, err := mustLook("cntlm")
	if err != nil {
		return nil, err
	}
	for _, s := range []string{o.Domain, o.User, o.Password} {
		if s == "" || strings.ContainsAny(s, "\r\n\x00") {
			return nil, fmt.Errorf("peers: cntlm needs a domain, a user and a password, each on one line")
		}
	}
	if err := plain(o.Parent); err != nil {
		return nil, err
	}
	own, err := place(dir, "cntlm")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("Username %s\nDomain %s\nPassword %s\nAuth NTLMv2\nWorkstation BENCH\nProxy %s\nListen %s\n", o.User, o.Domain, o.Password, o.Parent, hold[0].Addr())
	conf, err := write(own, "cntlm.conf", text, 0o600)
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	return begin(ctx, "cntlm", spec{path: path, args: []string{"-f", "-c", conf}, dir: own, addr: hold[0].Addr()}, hold...)
}
