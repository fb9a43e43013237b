// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEveryReasonIsRebuilt(t *testing.T) {
	for number, name := range backendv1.ErrorReason_name {
		reason := backendv1.ErrorReason(number)
		t.Run(name, func(t *testing.T) {
			err := AsBackendError(backendtest.Fail(codes.FailedPrecondition, reason, "why it failed",
				&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}))
			var be *BackendError
			if !errors.As(err, &be) {
				t.Fatalf("the error is a %T", err)
			}
			want := BackendError{
				Code: codes.FailedPrecondition, Reason: reason, RequestID: "req-1",
				RetryDelay: 3 * time.Second, Message: "why it failed",
			}
			if *be != want {
				t.Errorf("rebuilt as %+v, want %+v", *be, want)
			}
			if !HasReason(fmt.Errorf("more: %w", err), reason) {
				t.Errorf("it is not found to have the reason %s", reason)
			}
		})
	}
}

func TestErrorsThatTheBackendDidNotMake(t *testing.T) {
	foreign, err := status.New(codes.NotFound, "not found").WithDetails(&errdetails.ErrorInfo{
		Domain: "example.com", Reason: "INSTANCE_NOT_FOUND",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nobody there", status.Error(codes.Unavailable, "connection error: desc = \"…\""),
			"oxide-backend is not there"},
		{"no answer", status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
			"did not answer in time"},
		{"cancelled", status.Error(codes.Canceled, "context canceled"), "was cancelled"},
		{"an older backend", status.Error(codes.Unimplemented, "unknown method X"), "older"},
		{"no status at all", errors.New("some error"), "some error"},
		{"an empty message", status.Error(codes.Internal, ""), "Internal without saying why"},
		{"the reason of another domain", foreign.Err(), "not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := AsBackendError(tt.err)
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "desc =") {
				t.Errorf("the text is %q, want %q in it", err, tt.want)
			}
			for _, reason := range []backendv1.ErrorReason{
				backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND,
				backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND,
			} {
				if HasReason(err, reason) {
					t.Errorf("taken for %s", reason)
				}
			}
		})
	}
	if AsBackendError(nil) != nil {
		t.Error("no error became one")
	}
}

func TestErrorTextsAreOneLine(t *testing.T) {
	text := OneLine("first\n\tsecond\r\n\x1b[31mthird\x00 " + strings.Repeat("é", 2000))
	if strings.ContainsAny(text, "\n\r\t\x1b\x00") {
		t.Errorf("control characters are left: %q", text)
	}
	if !strings.HasPrefix(text, "first second [31mthird ééé") {
		t.Errorf("the text became %q", text[:40])
	}
	if n := len([]rune(text)); n != maxMessage {
		t.Errorf("the text has %d characters, want %d", n, maxMessage)
	}
}
