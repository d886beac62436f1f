//go:build !unix

package http1

// fillRaw reads in the ordinary way, with a buffer held during the wait.
func (r *Reader) fillRaw(large bool) error {
	r.raw = nil
	return r.fill(large)
}
