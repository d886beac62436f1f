// Package peers starts real programs on loopback, for the tests and benchmarks
// that ask how Viaduct gets on with them: Squid, Dante, tinyproxy, microsocks,
// stunnel, haproxy and nginx, and origins for git and apt.
//
// Each starter writes a configuration into a directory of its own below the
// one it is given, starts the program in the foreground, waits until it
// accepts connections, and returns a Proc. Nothing is installed, nothing on the
// system is changed, nothing reaches beyond loopback. Every program runs as
// root and as an ordinary user; where root is needed to make a user known
// (Dante), a private mount namespace lends the program a passwd file.
//
// It is not a supervisor: a Proc that dies stays dead until Restart.
//
// Tests say what they need first, so that a machine without it skips by name
// and CI, with VIADUCT_REQUIRE_PEERS=1, fails:
//
//	peers.Need(t, "squid", "danted")
//	squid, err := peers.Squid(t.Context(), t.TempDir(), peers.SquidOptions{User: "u", Password: "p"})
//	if err != nil { t.Fatal(err) }
//	t.Cleanup(func() { squid.Close() })
package peers
