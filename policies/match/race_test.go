//go:build race

package match_test

// raceFactor is how much slower things may be under the race detector.
const raceFactor = 10
