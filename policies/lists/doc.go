// Package lists holds large sets of hosts or networks that come from outside the policy: it reads them in the forms in which they are published
// ([Parse]), and keeps those of web servers fresh ([Source]): got in the background, with bounds, judged before they are used, the last good copy kept
// on disk.
//
// A [Set] never changes. A policy holds a [Ref], which gives the set of now; a new one takes its place between two decisions, without a reload.
package lists
