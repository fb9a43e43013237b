// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"
)

const (
	// DefaultScope is Options.Scope unless it is set.
	DefaultScope = "oxide-sanity"

	// DefaultTimeout is Options.Timeout unless it is set.
	DefaultTimeout = 5 * time.Minute

	// DefaultSettle is Options.Settle unless it is set: a move of an address takes up to two minutes on
	// a rack with a sled that does not answer.
	DefaultSettle = 2 * time.Minute

	// repetitions is how often each change is made.
	repetitions = 10
)

// Options say which backend is examined, and with what.
type Options struct {
	// Dial makes a connection to the backend. REQUIRED.
	Dial func(context.Context) (net.Conn, error)

	// DialReader makes a connection as a client that may only read. Nil: cases that need one are skipped.
	DialReader func(context.Context) (net.Conn, error)

	// Scope begins the scope of every load balancer and the name of every address that the suite makes: 1
	// to 24 characters, a lower-case letter first, then lower-case letters, digits and "-". Empty:
	// DefaultScope. Two runs at a time in one project need different ones, of which neither begins with
	// the other.
	Scope string

	// Instances are the names or ids of instances of the project, which run, that addresses may be
	// attached to: two for all cases. Cases that lack one are skipped. A case that attaches goes
	// through the states in which the instance carries an address more, and changes nothing else of
	// it.
	Instances []string

	// FaultURL is the URL of the simulated rack that the backend uses. Empty: it is a real one, and cases
	// that need one which fails are skipped. With it, and without Instances, the suite adds two.
	FaultURL string

	// Restart ends the backend in order and starts it again. Nil: cases that need that are skipped.
	Restart func(context.Context) error

	// Select is which cases are run, by name. Nil: all.
	Select *regexp.Regexp

	// Settle is the longest that the backend may take until something is as desired. 0: DefaultSettle.
	Settle time.Duration

	// Timeout is the longest that a case may take. 0: DefaultTimeout.
	Timeout time.Duration

	// Observe is called after each case. Nil: nobody is.
	Observe func(Result)
}

var scopePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,22}[a-z0-9]$`)

// complete fills what is not set, and returns all that is wrong, joined.
func (o *Options) complete() error {
	var errs []error
	if o.Dial == nil {
		errs = append(errs, errors.New("no way to reach the backend is given"))
	}
	if o.Scope == "" {
		o.Scope = DefaultScope
	}
	if !scopePattern.MatchString(o.Scope) {
		errs = append(errs, fmt.Errorf("scope %q: give 2 to 24 characters, a lower-case letter first, then "+
			"lower-case letters, digits and hyphens, no hyphen at the end", o.Scope))
	}
	for _, limit := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{{"timeout", &o.Timeout, DefaultTimeout}, {"settle", &o.Settle, DefaultSettle}} {
		if *limit.value == 0 {
			*limit.value = limit.usual
		}
		if *limit.value < 0 {
			errs = append(errs, fmt.Errorf("%s %s: it must not be negative", limit.name, *limit.value))
		}
	}
	if o.FaultURL != "" {
		parsed, err := url.Parse(o.FaultURL)
		if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			errs = append(errs, fmt.Errorf("fault URL %q: give the URL of a simulated rack, for example "+
				"http://127.0.0.1:12220", o.FaultURL))
		}
	}
	return errors.Join(errs...)
}
