// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"slices"
	"strings"
)

// Case is one promise of the contract, and how it is examined.
type Case struct {
	// Name is "area/what".
	Name string

	// Contract is what it holds: sentences of the comments in the .proto files, word for word.
	Contract []string

	needs needs
	run   func(context.Context, *checker)
}

// needs are what a case cannot do without. It is skipped where one is missing.
type needs struct {
	// instances is how many of them it attaches addresses to.
	instances int

	// changes: the backend changes something; readOnly: it does not.
	changes, readOnly bool

	// reader: there is a client that may only read.
	reader bool

	// faults: the rack is simulated; restart: the backend can be restarted.
	faults, restart bool

	features []feature
}

// Cases returns all cases in the order in which they are run.
func Cases() []Case {
	return slices.Concat(
		backendCases(), accessCases(), transportCases(), instanceCases(), machineCases(),
		watchCases(), poolCases(),
		reserveCases(), attachCases(), ownerCases(), skewCases(), readOnlyCases(),
		sessionCases(), endingCases(), streamCases(), placementCases(), planCases(), orphanCases(),
		firewallCases(),
		faultCases(), reasonCases(), restartCases(),
	)
}

// Selected returns the cases that the options select.
func (o *Options) Selected() []Case {
	cases := Cases()
	if o.Select == nil {
		return cases
	}
	return slices.DeleteFunc(cases, func(c Case) bool { return !o.Select.MatchString(c.Name) })
}

// area is the part of a name that stands before the slash.
func (c *Case) area() string {
	area, _, _ := strings.Cut(c.Name, "/")
	return area
}
