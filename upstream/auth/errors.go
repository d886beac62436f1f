package auth

// Kind says why a proxy could not be shown who we are.
type Kind uint8

// The kinds.
const (
	Rejected   Kind = iota // the proxy, or the KDC, looked at the credential and said no
	Closed                 // it was rejected before: nothing was sent
	Waiting                // it is not proven, and another connection was still finding out, or the pause after an attempt without an answer lasts
	NotStored              // the attempt could not be written down, so it was not made
	NoOffer                // the proxy offers no scheme that we may use
	Impossible             // each scheme that it offers failed before the credential was shown
	Malformed              // its challenges cannot be read
	Loop                   // it goes on asking
)

// Error is why a proxy could not be shown who we are. Its text holds no secret, and nothing of the proxy's but names of schemes.
type Error struct {
	Kind   Kind
	Scheme string // "" = none in particular
	Text   string
	Err    error // may be nil
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns what is behind it.
func (e *Error) Unwrap() error { return e.Err }
