package policies

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"viaduct/policies/expr"
)

// secretMark is on every value that came from a credential, and goes over to what is made of it.
const secretMark = "secret"

// maxSecret bounds a password or credential file.
const maxSecret = 64 << 10

// functions are those of load time for files in dir: the ones conditions know too, and those that read secrets.
func (l *loader) functions(dir string) map[string]function.Function {
	all := expr.Functions(expr.FunctionOptions{
		Environ: l.o.Environ,
		Dir:     dir,
		ReadFile: func(path string) ([]byte, error) {
			full := pathOf(hcl.Range{Filename: dir + "/x"}, path)
			l.watches(full)
			b, err := l.readData(full, 1<<20)
			if err != nil {
				return nil, fmt.Errorf("%s", reasonOf(err, full))
			}
			return b, nil
		},
	})
	all[reachPlain] = textFunction("address", "Known in conditions alone.", func(string) (string, error) {
		return "", errors.New("network.reachable is known only in the `when` of a rule: what it gives changes while the gateway runs, and this is read once, at load")
	})
	all["env"] = l.forgiving(all["env"], absentHere["env"])
	all["file"] = l.forgiving(all["file"], absentHere["file"])
	all["credential"] = l.secret("name", "A secret from the credentials directory, read once at load.", l.credential)
	all["netrc"] = l.netrcFunction(dir, "The password of a machine in a netrc file.", true, func(e netrcEntry) string { return e.password })
	all["netrc_login"] = l.netrcFunction(dir, "The user name of a machine in a netrc file.", false, func(e netrcEntry) string { return e.login })
	all["command"] = l.commandFunction()
	all["proxy_username"] = l.forgiving(textFunction("variable", "The user name in the URL that a proxy variable of the environment holds.", func(name string) (string, error) {
		u, err := l.proxyUser(name)
		return u.Username(), err
	}), "Proxy variable")
	all["proxy_password"] = l.secret("variable", "The password in the URL that a proxy variable of the environment holds.", func(name string) (string, error) {
		u, err := l.proxyUser(name)
		p, _ := u.Password()
		return p, err
	})
	return all
}

// absentHere are the summaries for functions that found nothing on this machine.
var absentHere = map[string]string{"env": "Environment variable not set", "file": "Cannot read file"}

// textFunction makes a function of one text.
func textFunction(param, description string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: param, Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}

// secret makes a function whose result is marked. What keeps it from having one is told here: HCL would say it less well.
func (l *loader) secret(param, description string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: param, Type: cty.String, AllowMarked: true}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].IsMarked() {
				return cty.NilVal, function.NewArgErrorf(0, "the name of a secret cannot be a secret itself")
			}
			s, err := f(args[0].AsString())
			if err != nil {
				l.missing(l.at, "Cannot read credential", upperFirst(err.Error()))
				return cty.UnknownVal(cty.String).Mark(secretMark), nil
			}
			return cty.StringVal(s).Mark(secretMark), nil
		},
	})
}

// forgiving makes the errors of a function warnings when the load is lenient; its value is then unknown.
func (l *loader) forgiving(f function.Function, summary string) function.Function {
	if !l.o.Lenient {
		return f
	}
	return function.New(&function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, err := f.Call(args)
			if err != nil {
				detail := upperFirst(err.Error())
				if l.ofSecret {
					detail = ofSecretDetail
				}
				l.warnAt(l.at, summary, detail)
				if l.condition {
					return cty.StringVal(""), nil // conditions know no unknown values
				}
				return cty.UnknownVal(cty.String), nil
			}
			return v, nil
		},
	})
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.TrimSuffix(strings.ToUpper(s[:1])+s[1:], ".") + "."
}

// credential reads a file of the credentials directory, as systemd makes it with LoadCredential=. A line break at the end
// does not belong to the secret.
func (l *loader) credential(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\\\x00") || name == "." || name == ".." {
		return "", fmt.Errorf("%q cannot be the name of a credential: it names a file in the credentials directory", name)
	}
	if l.o.Credentials == "" {
		return "", fmt.Errorf("there is no credentials directory: start the service with LoadCredential=%s:PATH, or set CREDENTIALS_DIRECTORY", name)
	}
	path := l.o.Credentials + "/" + name
	l.watches(path)
	b, err := l.readData(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("credential %q: %s", name, reasonOf(err, path))
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("credential %q is empty (%s)", name, path)
	}
	return s, nil
}

// proxyUser finds the user and password of a proxy variable. The URL itself never gets into an error.
func (l *loader) proxyUser(name string) (*url.Userinfo, error) {
	if !isProxyVariable(name) {
		return nil, fmt.Errorf("%q is none of the proxy variables %s", name, strings.Join(proxyVariables, ", "))
	}
	text, _ := l.o.Environ(name)
	u, err := parseProxyURL(text)
	if err != nil || text == "" {
		return nil, fmt.Errorf("the environment variable %s holds no proxy URL", name)
	}
	if u.User == nil {
		return nil, fmt.Errorf("the URL in %s has no user name", name)
	}
	return u.User, nil
}
