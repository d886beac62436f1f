// Package geotest writes databases in the MaxMind DB format for tests, which alone import it.
package geotest

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Countries writes a database as GeoLite2-Country is: networks to countries by two letters.
func Countries(built time.Time, networks map[string]string) []byte {
	records := map[string]mmdbtype.DataType{}
	for n, c := range networks {
		records[n] = mmdbtype.Map{
			"continent":          mmdbtype.Map{"code": mmdbtype.String("XX"), "names": mmdbtype.Map{"en": mmdbtype.String("Somewhere")}},
			"country":            mmdbtype.Map{"geoname_id": mmdbtype.Uint32(1), "iso_code": mmdbtype.String(c), "names": mmdbtype.Map{"de": mmdbtype.String("Land"), "en": mmdbtype.String("Country")}},
			"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("ZW")},
		}
	}
	return Write("GeoLite2-Country", built, records)
}

// Write writes a database of any records. It panics when it cannot: that is a mistake of the test.
func Write(kind string, built time.Time, records map[string]mmdbtype.DataType) []byte {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, BuildEpoch: built.Unix(), IncludeReservedNetworks: true, Description: map[string]string{"en": "made for a test"}})
	if err != nil {
		panic(err)
	}
	var prefixes []netip.Prefix
	for n := range records {
		prefixes = append(prefixes, netip.MustParsePrefix(n))
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() }) // the narrow ones over the wide ones
	for _, n := range prefixes {
		_, network, err := net.ParseCIDR(n.String())
		if err != nil {
			panic(err)
		}
		if err := tree.Insert(network, records[n.String()]); err != nil {
			panic(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}
