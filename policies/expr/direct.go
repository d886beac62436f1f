package expr

import (
	"strings"

	"viaduct/connmodel"
)

// The comparisons that most rules make look at the fact directly: a closure that calls a closure costs twice as much.
// Each of these gives nil for names that have no such form.

func directEqual(name, text string) func(*connmodel.Facts) bool {
	switch name {
	case "client.user":
		return func(f *connmodel.Facts) bool { return f.User == text }
	case "listener":
		return func(f *connmodel.Facts) bool { return f.Listener == text }
	case "target.host":
		return func(f *connmodel.Facts) bool { return f.Target.Host == text }
	}
	return nil
}

func directPort(name string, port float64) func(*connmodel.Facts) bool {
	if name != "target.port" || port < 0 || port > 65535 || port != float64(uint16(port)) {
		return nil
	}
	want := uint16(port)
	return func(f *connmodel.Facts) bool { return f.Target.Port == want }
}

func directText(function, name, part string) func(*connmodel.Facts) bool {
	if name != "target.host" {
		return nil
	}
	switch function {
	case "startswith":
		return func(f *connmodel.Facts) bool { return strings.HasPrefix(f.Target.Host, part) }
	case "endswith":
		return func(f *connmodel.Facts) bool { return strings.HasSuffix(f.Target.Host, part) }
	}
	return nil
}
