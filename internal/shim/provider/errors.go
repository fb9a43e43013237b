// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// BackendError is an error of a call of oxide-backend.
type BackendError = client.Error

// AsBackendError returns the *BackendError of a call; nil stays nil.
func AsBackendError(err error) error {
	if err == nil {
		return nil
	}
	if known, ok := client.FromError(err); ok {
		return known
	}
	return &BackendError{Code: codes.Unknown, Message: OneLine(err.Error())}
}

// HasReason reports whether an error is one of the backend's with the given reason.
func HasReason(err error, reason backendv1.ErrorReason) bool {
	return client.HasReason(err, reason)
}

// OneLine makes a text fit for an event: no control characters, no more than a few sentences.
func OneLine(s string) string { return client.OneLine(s) }
