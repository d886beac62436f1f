// Package importer makes policies of the configurations of other programs: cntlm, Px, Squid, and the proxy variables of the environment. What it makes can
// be loaded, and allows nothing that the original did not allow: what has no counterpart is left out or denied, and named. It runs nothing and
// dials nothing; passwords do not get into what it makes.
package importer
