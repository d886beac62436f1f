// Package source gets texts from web servers for policies, PAC scripts and lists alike: one look at a server with validators and bounds
// ([Fetcher]), looks again and again in the background ([Loop]), and files that are written whole or not at all ([WriteFile]).
//
// It knows nothing of what the texts mean: policies/pac and policies/lists judge what came, keep the last good copy and say what they use.
package source
