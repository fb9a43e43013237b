// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"errors"
	"fmt"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Reason is why something failed, where it was not a call of Oxide that did.
type Reason int

// The reasons of an *Error.
const (
	// ReasonNotOwned: the address or the name belongs to somebody else.
	ReasonNotOwned Reason = iota
	// ReasonNotFound: no load balancer has this key.
	ReasonNotFound
	// ReasonPoolNotFound: the pool is not there, or none is the default.
	ReasonPoolNotFound
	// ReasonPoolExhausted: the pool has no free address.
	ReasonPoolExhausted
	// ReasonRefused: Oxide refused in the present state.
	ReasonRefused
	// ReasonNotOperable: the instance is on its way between states, has failed or is being created.
	ReasonNotOperable
	// ReasonInvalid: what is desired cannot be had as it stands.
	ReasonInvalid
	// ReasonResourceNotFound: another resource that is named is not there.
	ReasonResourceNotFound
	// ReasonPortConflict: the port is taken or reserved on every candidate.
	ReasonPortConflict
	// ReasonLimit: every candidate carries as many addresses as it can.
	ReasonLimit
	// ReasonInUse: a load balancer uses the address, or it is attached where the caller does not expect it.
	ReasonInUse
	// ReasonSessionRequired: it takes an acting session of the scope that is in sync.
	ReasonSessionRequired
	// ReasonSuperseded: a newer session of the scope began.
	ReasonSuperseded
	// ReasonStopping: the backend is about to stop.
	ReasonStopping
	// ReasonReadOnly: the backend was started with --read-only.
	ReasonReadOnly
	// ReasonUnreadable: Oxide could not be read.
	ReasonUnreadable
	// ReasonTooMany: there are too many sessions already.
	ReasonTooMany
	// ReasonRuleInUse: a load balancer desires the firewall rule.
	ReasonRuleInUse
	// ReasonUnrepresentable: a firewall has what cannot be written back as it is.
	ReasonUnrepresentable
	// ReasonDiffers: something else was asked for under the same name.
	ReasonDiffers
)

// Error is the typed error of this package; calls of Oxide that fail for Oxide's own reasons end
// with an *oxide.Error instead.
type Error struct {
	Reason Reason
	// Message is one line for people.
	Message string
	// Err is the error of Oxide that this one explains, if there is one.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the error of Oxide.
func (e *Error) Unwrap() error { return e.Err }

// IsReason reports whether err is an *Error for this reason.
func IsReason(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

func failf(reason Reason, cause error, format string, args ...any) error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...), Err: cause}
}

// planReasons says what a problem of a plan becomes.
var planReasons = map[plan.Reason]Reason{
	plan.ReasonNotOwned:         ReasonNotOwned,
	plan.ReasonPoolNotFound:     ReasonPoolNotFound,
	plan.ReasonPoolExhausted:    ReasonPoolExhausted,
	plan.ReasonInvalid:          ReasonInvalid,
	plan.ReasonResourceNotFound: ReasonResourceNotFound,
	plan.ReasonPortConflict:     ReasonPortConflict,
	plan.ReasonLimit:            ReasonLimit,
	plan.ReasonPoolUnreadable:   ReasonUnreadable,
}

// fromPlan returns the error of a plan's problem; nil stays nil.
func fromPlan(p *plan.Problem) error {
	if p == nil {
		return nil
	}
	return &Error{Reason: planReasons[p.Reason], Message: p.Message}
}

// asOxide returns the error of Oxide in a chain.
func asOxide(err error) (*oxide.Error, bool) {
	var e *oxide.Error
	ok := errors.As(err, &e)
	return e, ok
}
