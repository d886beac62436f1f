// Package match holds the indexes behind a policy's decisions: it answers, for the host, the address and the port of one
// connection, which of the policy's clauses (numbered by the compiler in the order they must be tried) come into question.
//
// It knows nothing of policies, rules or HCL: patterns and numbers go in, sets of numbers come out. Package policies
// compiles `match` blocks into these indexes and verifies what an index cannot say. Everything is built once, by a
// builder, and is immutable after Build, so any number of goroutines may read it; no lookup allocates.
//
// The pieces:
//
//   - [HostIndex] and [HostSet]: names by exact match and by suffix, one probe per label, whatever their number.
//   - [NetworkIndex] and [NetworkSet]: all prefixes that hold an address, by one longest-prefix lookup.
//   - [PortIndex] and [PortSet]: ports and ranges of ports.
//   - [Glob]: patterns with wildcards, for hosts, paths and a PAC script's shExpMatch.
//   - [Bits] and [Union]: two ways to bring the answers together.
//
// An index answers with shared, read-only, ascending slices of clause numbers, one for each pattern or group of patterns
// that matched. With [Union] a caller walks the candidates of one index in clause order. With [Bits] it intersects
// several attributes first: mark in a scratch set what the index of an attribute found, add the clauses that do not test
// the attribute, and AND. That costs one pass over n/64 words per attribute however the patterns are spread (1,000
// clauses are 16 words, 10,000 are 157), where candidates taken from one index alone degenerate when a thousand
// clauses name one host and differ in the port. Bits is therefore the one to use for whole policies.
package match
