// Package browsertest drives the dashboard in a real browser: a gateway of this tree, real flows through real proxies, and Chromium.
package browsertest
