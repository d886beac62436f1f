// Package geo says in which country an IP address is, after a database in the MaxMind DB format: GeoLite2 or GeoIP2 Country and City, DB-IP,
// IPinfo. It downloads nothing and knows nothing of rules; a Database is asked by whoever decides, without I/O and without allocation.
package geo
