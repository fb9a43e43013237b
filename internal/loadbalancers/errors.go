// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
)

// Reason is why an operation failed, where it was not a call of Oxide that did.
type Reason int

// The reasons of an *Error.
const (
	// ReasonNotOwned: the address or the name belongs to somebody else.
	ReasonNotOwned Reason = iota
	// ReasonNotFound: no load balancer has this key.
	ReasonNotFound
	// ReasonPoolNotFound: the wanted pool is not there, or none is the default.
	ReasonPoolNotFound
	// ReasonRefused: Oxide refused in the present state.
	ReasonRefused
	// ReasonNotOperable: the instance has failed or is being created.
	ReasonNotOperable
	// ReasonBusy: another change of the same load balancer or instance is in flight.
	ReasonBusy
	// ReasonInvalid: the request cannot be fulfilled as it stands.
	ReasonInvalid
	// ReasonResourceNotFound: another resource that the request names is not there.
	ReasonResourceNotFound
	// ReasonPortConflict: the port is taken or reserved on every candidate.
	ReasonPortConflict
	// ReasonLimit: every candidate carries as many addresses as it can.
	ReasonLimit
	// ReasonFullSetRequired: the full set of load balancers is not known.
	ReasonFullSetRequired
	// ReasonInUse: a load balancer uses the address.
	ReasonInUse
	// ReasonPoolExhausted: the pool has no free address.
	ReasonPoolExhausted
)

// errFullSetRequired refuses what takes to know every load balancer.
var errFullSetRequired = fail(ReasonFullSetRequired, nil, "the full set of load balancers is not "+
	"known since the start of this backend, so conflicts cannot be told: call ReconcileLoadBalancers "+
	"with it first")

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

func fail(reason Reason, cause error, format string, args ...any) error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...), Err: cause}
}
