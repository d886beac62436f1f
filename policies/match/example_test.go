package match_test

import (
	"fmt"
	"net/netip"

	"viaduct/policies/match"
)

// A policy of three clauses: 0 tests host and port, 1 the address, 2 the host.
func ExampleBits() {
	var hosts match.HostBuilder
	var nets match.NetworkBuilder
	var ports match.PortBuilder
	hosts.Add("*.corp.example", 0)
	ports.Add(match.PortRange{From: 443, To: 443}, 0)
	nets.Add(netip.MustParsePrefix("10.0.0.0/8"), 1)
	hosts.Add(".example", 2)
	hostIndex, netIndex, portIndex := hosts.Build(), nets.Build(), ports.Build()

	// The clauses that do not test an attribute hold whatever its value is.
	noHost, noNet, noPort := match.NewBits(3), match.NewBits(3), match.NewBits(3)
	noHost.Add(1)
	noNet.Add(0, 2)
	noPort.Add(1, 2)

	candidates, scratch := match.NewBits(3), match.NewBits(3) // kept for the next connection
	decide := func(host string, addr string, port uint16) {
		candidates.Set(noHost)
		hostIndex.Mark(candidates, host)

		scratch.Set(noNet)
		netIndex.Mark(scratch, netip.MustParseAddr(addr))
		candidates.And(scratch)

		scratch.Set(noPort)
		portIndex.Mark(scratch, port)
		candidates.And(scratch)

		fmt.Print(host, ":", port)
		for id, ok := candidates.Next(0); ok; id, ok = candidates.Next(id + 1) {
			fmt.Print(" ", id)
		}
		fmt.Println()
	}
	decide("git.corp.example", "10.1.2.3", 443)
	decide("git.corp.example", "192.0.2.1", 22)
	decide("corp.example", "192.0.2.1", 443)
	decide("www.example.com", "192.0.2.1", 443)
	// Output:
	// git.corp.example:443 0 1 2
	// git.corp.example:22 2
	// corp.example:443 2
	// www.example.com:443
}
