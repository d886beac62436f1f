package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// KDCRealm is the realm of a KDC.
const KDCRealm = "VIADUCT.TEST"

// KDCNeeds are the programs that a KDC, and Squid's helper for it, want.
var KDCNeeds = []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit", "negotiate_kerberos_auth"}

// KDC is an MIT key distribution centre on loopback, with a database of its own.
type KDC struct {
	*Proc
	// Conf is the krb5.conf that leads to it.
	Conf string
	env  []string
}

// NewKDC starts a KDC. Users are added with Add and Keytab.
func NewKDC(ctx context.Context, dir string) (*KDC, error) {
	path, err := mustLook("krb5kdc")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "kdc")
	if err != nil {
		return nil, err
	}
	hold, err := ports(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(hold[0].Addr())
	k := &KDC{Conf: filepath.Join(own, "krb5.conf")}
	k.env = []string{"KRB5_CONFIG=" + k.Conf, "KRB5_KDC_PROFILE=" + filepath.Join(own, "kdc.conf"), "KRB5RCACHETYPE=none"}
	err = errors.Join(
		writeTo(k.Conf, fmt.Sprintf("[libdefaults]\n default_realm = %s\n dns_lookup_kdc = false\n dns_lookup_realm = false\n dns_canonicalize_hostname = false\n rdns = false\n"+
			"[realms]\n %[1]s = {\n  kdc = 127.0.0.1:%s\n }\n[domain_realm]\n localhost = %[1]s\n .test = %[1]s\n", KDCRealm, port)),
		writeTo(filepath.Join(own, "kdc.conf"), fmt.Sprintf("[kdcdefaults]\n kdc_listen = 127.0.0.1:%s\n kdc_tcp_listen = 127.0.0.1:%[1]s\n"+
			"[realms]\n %s = {\n  database_name = %s/principal\n  key_stash_file = %[3]s/stash\n  max_renewable_life = 7d\n  default_principal_flags = +preauth\n }\n"+
			"[logging]\n kdc = FILE:%[3]s/kdc.log\n", port, KDCRealm, own)),
	)
	if err == nil {
		err = k.admin(ctx, own, "kdb5_util", "create", "-s", "-r", KDCRealm, "-P", "master")
	}
	if err != nil {
		hold[0].Release()
		return nil, err
	}
	k.Proc, err = begin(ctx, "krb5kdc", spec{path: path, args: []string{"-n"}, dir: own, addr: hold[0].Addr(), env: k.env, logs: []string{filepath.Join(own, "kdc.log")}}, hold...)
	return k, err
}

func writeTo(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

func (k *KDC) admin(ctx context.Context, dir, name string, args ...string) error {
	path, err := mustLook(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append(k.env, "LC_ALL=C")...)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "kadmin.local: ") {
		return fmt.Errorf("peers: %s %v: %v: %s", name, args, err, out)
	}
	return nil
}

// Add makes a user with a password.
func (k *KDC) Add(ctx context.Context, user, password string) error {
	return k.admin(ctx, k.Dir(), "kadmin.local", "-r", KDCRealm, "addprinc", "-pw", password, user)
}

// Service makes a service, such as HTTP/localhost, which needs no preauthentication.
func (k *KDC) Service(ctx context.Context, name string) error {
	return k.admin(ctx, k.Dir(), "kadmin.local", "-r", KDCRealm, "addprinc", "-randkey", name)
}

// Keytab writes the keys of a user or service to a file that anybody can read.
// The password of a user stays what it is.
func (k *KDC) Keytab(ctx context.Context, name, file string) error {
	if err := k.admin(ctx, k.Dir(), "kadmin.local", "-r", KDCRealm, "ktadd", "-norandkey", "-k", file, name); err != nil {
		return err
	}
	return os.Chmod(file, 0o644)
}

// SetPassword changes the password of a user, and so the key: keytabs from before hold another one.
func (k *KDC) SetPassword(ctx context.Context, user, password string) error {
	return k.admin(ctx, k.Dir(), "kadmin.local", "-r", KDCRealm, "cpw", "-pw", password, user)
}

// Kinit logs in with a keytab and leaves the tickets in a file.
func (k *KDC) Kinit(ctx context.Context, user, keytab, file string, args ...string) error {
	return k.admin(ctx, k.Dir(), "kinit", append(args, "-k", "-t", keytab, "-c", "FILE:"+file, user)...)
}

// Rejections is how many logins the KDC refused for a wrong password.
func (k *KDC) Rejections() int {
	return strings.Count(k.Log(), "PREAUTH_FAILED")
}
