// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// sessionVerdicts says what an error about load balancers becomes, by its reason.
var sessionVerdicts = map[session.Reason]verdict{
	session.ReasonNotOwned: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED, 0,
	},
	session.ReasonNotFound: {
		codes.NotFound, backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND, 0,
	},
	session.ReasonPoolNotFound: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND, 0,
	},
	session.ReasonPoolExhausted: {
		codes.ResourceExhausted, backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED, retryExhausted,
	},
	session.ReasonRefused: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, 0,
	},
	session.ReasonNotOperable: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE,
		retryNotOperable,
	},
	session.ReasonInvalid: {
		codes.InvalidArgument, backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, 0,
	},
	session.ReasonResourceNotFound: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND, 0,
	},
	session.ReasonPortConflict: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT, 0,
	},
	session.ReasonLimit: {
		codes.ResourceExhausted, backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED,
		retryExhausted,
	},
	session.ReasonInUse: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE, 0,
	},
	session.ReasonSessionRequired: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED, 0,
	},
	session.ReasonSuperseded: {
		codes.Aborted, backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED, 0,
	},
	session.ReasonDiffers: {
		codes.AlreadyExists, backendv1.ErrorReason_ERROR_REASON_RESERVATION_DIFFERS, 0,
	},
	session.ReasonStopping: stopping,
	session.ReasonReadOnly: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_READ_ONLY, 0,
	},
	session.ReasonTooMany: {
		codes.ResourceExhausted, backendv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, retryExhausted,
	},
	session.ReasonRuleInUse: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_FIREWALL_RULE_IN_USE, 0,
	},
	session.ReasonUnrepresentable: {
		codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_FIREWALL_NOT_REPRESENTABLE, 0,
	},
	session.ReasonUnreadable: {
		codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, retryUnavailable,
	},
}

// judgeSession says what an error of a session becomes. Why Oxide could not be read is said by the
// error of Oxide, if there is one.
func judgeSession(err *session.Error) (v verdict, found bool) {
	var oxideErr *oxide.Error
	if err.Reason == session.ReasonUnreadable && errors.As(err.Err, &oxideErr) {
		if v, found = oxideVerdicts[oxideErr.Kind]; found {
			return v, true
		}
	}
	v, found = sessionVerdicts[err.Reason]
	return v, found
}
