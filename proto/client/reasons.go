// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"strings"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Reason is a reason for which a call fails, as an error that errors.Is finds in the errors of this
// package.
type Reason backendv1.ErrorReason

// Error returns the name of the reason as it is on the wire, for example "INSTANCE_NOT_FOUND".
func (r Reason) Error() string {
	return strings.TrimPrefix(backendv1.ErrorReason(r).String(), "ERROR_REASON_")
}

// The reasons, which error_reason.proto documents.
const (
	ErrInvalidRequest             = Reason(backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	ErrInstanceNotFound           = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND)
	ErrAbsenceNotProven           = Reason(backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN)
	ErrInstanceAmbiguous          = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_AMBIGUOUS)
	ErrProjectNotFound            = Reason(backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND)
	ErrPoolNotFound               = Reason(backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND)
	ErrResourceNotFound           = Reason(backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
	ErrLoadBalancerNotFound       = Reason(backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND)
	ErrOxideCredentialsRejected   = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED)
	ErrOxideForbidden             = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN)
	ErrOxideAPIVersionUnsupported = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_API_VERSION_UNSUPPORTED)
	ErrOxideRefused               = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED)
	ErrInstanceNotOperable        = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE)
	ErrAddressNotOwned            = Reason(backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)
	ErrPortConflict               = Reason(backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT)
	ErrPoolExhausted              = Reason(backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED)
	ErrInstanceLimitReached       = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED)
	ErrOxideUnavailable           = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE)
	ErrOxideBadResponse           = Reason(backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE)
	ErrUnimplemented              = Reason(backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED)
	ErrCallEnded                  = Reason(backendv1.ErrorReason_ERROR_REASON_CALL_ENDED)
	ErrInternal                   = Reason(backendv1.ErrorReason_ERROR_REASON_INTERNAL)
	ErrAddressInUse               = Reason(backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE)
	ErrReadOnly                   = Reason(backendv1.ErrorReason_ERROR_REASON_READ_ONLY)
	ErrSessionRequired            = Reason(backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED)
	ErrSessionSuperseded          = Reason(backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED)
	ErrBackendStopping            = Reason(backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING)
	ErrVersionSkew                = Reason(backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW)
	ErrTooManySessions            = Reason(backendv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS)
	ErrInstanceNotIdentified      = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED)
	ErrInstanceIdentityConflict   = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_IDENTITY_CONFLICT)
	ErrInstanceReplaced           = Reason(backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED)
	ErrFirewallRuleInUse          = Reason(backendv1.ErrorReason_ERROR_REASON_FIREWALL_RULE_IN_USE)
	ErrFirewallNotRepresentable   = Reason(backendv1.ErrorReason_ERROR_REASON_FIREWALL_NOT_REPRESENTABLE)
	ErrReservationDiffers         = Reason(backendv1.ErrorReason_ERROR_REASON_RESERVATION_DIFFERS)
	ErrClientDenied               = Reason(backendv1.ErrorReason_ERROR_REASON_CLIENT_DENIED)
)
