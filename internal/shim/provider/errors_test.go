// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEveryErrorOfACallIsABackendError(t *testing.T) {
	const reason = backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED
	refused := backendtest.Fail(codes.FailedPrecondition, reason, "refused")
	for _, tt := range []struct {
		name string
		err  error
		want BackendError
	}{
		{"the backend's own", refused, BackendError{
			Code: codes.FailedPrecondition, Reason: reason, Message: "refused", RequestID: "req-1",
		}},
		{"one that is known already", fmt.Errorf("more: %w", AsBackendError(refused)), BackendError{
			Code: codes.FailedPrecondition, Reason: reason, Message: "refused", RequestID: "req-1",
		}},
		{"no status at all", errors.New("some\nerror"), BackendError{
			Code: codes.Unknown, Message: "some error",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got *BackendError
			if err := AsBackendError(tt.err); !errors.As(err, &got) || *got != tt.want {
				t.Errorf("became %+v, want %+v", err, tt.want)
			}
			if !HasReason(AsBackendError(tt.err), tt.want.Reason) {
				t.Errorf("it is not found to have the reason %s", tt.want.Reason)
			}
		})
	}
	if AsBackendError(nil) != nil {
		t.Error("no error became one")
	}
}
