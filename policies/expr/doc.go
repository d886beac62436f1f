// Package expr compiles conditions, the `when` of a rule, from HCL expressions to typed closures over
// [connmodel.Facts]. It also holds the functions of the language ([Functions]), so that a name means the same in a
// condition and in a local value.
//
// It knows nothing of rules, blocks or files, and it is no general evaluator of HCL: what it does not know it refuses at
// load, with the position and what to write instead. Package policies calls it; package match lends it networks and
// globs.
//
// A condition that compiles has a value for every flow: there are no errors at evaluation, because whatever could fail
// (a division by something that may be zero, an index that may not exist, a text that may not be a number, a number
// that may grow beyond what is exact) is refused at load or has to say what it falls back to. Every name, type and
// literal is checked at load, also in operands that short-circuiting would skip. Evaluation has no side effects, so the
// operands of && and || are tried in order of cost, and facts that have to be gathered are asked for last.
//
//   - compile.go walks the syntax tree; logic.go, compare.go, ordering.go, arithmetic.go, conditional.go, template.go,
//     index.go and call.go compile one kind of node each, names.go and header.go the names of the flow.
//   - scope.go is the table of names that a condition may use, now.go those of the clock; domain.go and span.go know what
//     facts can be, to find comparisons that can never hold.
//   - stringfuncs.go, netfuncs.go, listfuncs.go and numberfuncs.go are the functions that take facts.
//   - functions.go, textfunctions.go and netfunctions.go are the functions of load time; constant.go folds what holds no
//     facts.
//   - tri.go says whether facts that are lacking matter, describe.go what explain shows.
package expr
