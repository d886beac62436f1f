// Package policies is the language in which Viaduct is told what to do: HCL files with listeners, upstreams, pools, chains
// and policies. Load reads and checks them all at once, and compiles each policy to a Program: a connmodel.Decider that
// decides by indexes, without HCL, without I/O and without a clock. README.md is the manual of the language.
//
// It opens no socket, dials nothing and knows nothing of the journey of a connection: package router asks a Program what to
// do, and package upstream is given the routes as plain specifications. Its own parts are policies/match (the indexes) and
// policies/expr (conditions).
//
// There is one file per block (gateway.go, listener.go, upstream.go, pool.go, chain.go, list.go, policy.go, rule.go,
// matchblock.go with matchread.go, testblock.go). Around them:
//
//   - source.go finds and parses files, scope.go evaluates variables and locals, attr.go reads attributes, refs.go reads
//     references.
//   - routes.go and reach.go look at the whole: cycles, loops, what nobody uses and what nothing reaches.
//   - compile.go makes a Program, decide.go and verify.go run it, explain.go and words.go say why, runtests.go runs it on
//     test blocks.
//   - diagnostics.go prints what is wrong; format.go and defaults.go serve the commands.
package policies
