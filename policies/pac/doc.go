// Package pac runs proxy auto-configuration scripts: it is given the URL and the host of a flow and gives back the entries that the
// script wants tried, in order. Scripts are strangers' code. They run in engines of their own, bounded in time, memory and depth, see
// no network but a few bounded look-ups of names, and whatever they do, the outcome is entries or an error: DIRECT is in the
// entries only when the script said so.
//
// It decides nothing and dials nothing: what the entries lead to is the caller's.
package pac
