package main

import (
	"errors"
	"fmt"
)

// Exit codes. They are the same for all commands, and in the help of those where they matter.
const (
	exitOK       = 0   // done; nothing was found wrong
	exitProblems = 1   // the policy has errors, a test failed, a file is not formatted, the gateway refused or could not start
	exitUsage    = 2   // the command line is wrong
	exitTrouble  = 255 // of commands that compare or look (fmt, upstream check): it could not be found out
)

// exitError ends the program with a code. err may be nil: then everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// quiet ends the program with a code after everything has been said.
func quiet(code int) error { return &exitError{code: code} }

// usageError says that the command line is wrong.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// codeOf says how to end after err, and what is still to be said. Errors from before a command started are about its usage.
func codeOf(err error, started bool) (code int, say error) {
	var e *exitError
	switch {
	case err == nil:
		return exitOK, nil
	case errors.As(err, &e):
		return e.code, e.err
	case !started:
		return exitUsage, err
	}
	return exitProblems, err
}
