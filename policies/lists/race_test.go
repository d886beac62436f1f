//go:build race

package lists

const underRace = true
