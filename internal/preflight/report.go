// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"cmp"
	"errors"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Result is how a check ended.
type Result string

// The results, from good to bad.
const (
	// OK: it is in place.
	OK Result = "ok"
	// Note: something to know; it keeps nothing from working.
	Note Result = "note"
	// Skipped: it could not be checked, because another check failed.
	Skipped Result = "skipped"
	// Warning: something will not work, or will stop working.
	Warning Result = "warning"
	// Failed: nothing will work, or not what was asked about.
	Failed Result = "failed"
)

// Check is one thing that was looked at.
type Check struct {
	// Name says what was looked at.
	Name string `json:"check"`
	// Result is how it ended.
	Result Result `json:"result"`
	// Detail is what was seen: one line.
	Detail string `json:"detail"`
	// Remedy is what to do about it: one line, empty where nothing is to be done.
	Remedy string `json:"remedy,omitempty"`
}

// Report is all that was looked at, in its order.
type Report struct {
	Checks []Check
}

// Result is the worst result of the checks that were made.
func (r Report) Result() Result {
	worst := OK
	for _, check := range r.Checks {
		switch check.Result {
		case Failed:
			return Failed
		case Warning:
			worst = Warning
		case OK, Note, Skipped:
		}
	}
	return worst
}

// failed makes the check that an error ends. The remedy is for errors that have none of their own and
// that are not passing.
func failed(name string, err error, remedy string) Check {
	check := Check{Name: name, Result: Failed, Detail: err.Error(), Remedy: remedy}
	var e *oxide.Error
	if errors.As(err, &e) {
		check.Detail = e.Cause()
		if e.Passing() {
			remedy = ""
		}
		check.Remedy = cmp.Or(e.Remedy(), remedy)
	}
	check.Remedy = cmp.Or(check.Remedy, "check again in a minute; if it stays, ask the rack's operator")
	return check
}

// skip makes the checks that another one's failure makes impossible.
func skip(because string, names ...string) []Check {
	checks := make([]Check, 0, len(names))
	for _, name := range names {
		checks = append(checks, Check{
			Name: name, Result: Skipped, Detail: "not checked, since the check \"" + because + "\" failed",
		})
	}
	return checks
}
