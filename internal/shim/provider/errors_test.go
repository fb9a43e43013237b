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
	"k8s.io/cloud-provider/api"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func retryInfo(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

// Every reason of the API is here: a new one is to be decided about.
func TestEveryReasonBecomesItsError(t *testing.T) {
	const grows = 0 // The framework's own delays, which grow.
	table := map[string]struct {
		code  codes.Code
		retry time.Duration
	}{
		"UNSPECIFIED":                   {codes.Unknown, grows},
		"INVALID_REQUEST":               {codes.InvalidArgument, grows},
		"INSTANCE_NOT_FOUND":            {codes.NotFound, grows},
		"ABSENCE_NOT_PROVEN":            {codes.FailedPrecondition, grows},
		"INSTANCE_AMBIGUOUS":            {codes.FailedPrecondition, grows},
		"PROJECT_NOT_FOUND":             {codes.FailedPrecondition, grows},
		"POOL_NOT_FOUND":                {codes.FailedPrecondition, grows},
		"RESOURCE_NOT_FOUND":            {codes.FailedPrecondition, grows},
		"LOAD_BALANCER_NOT_FOUND":       {codes.NotFound, grows},
		"OXIDE_CREDENTIALS_REJECTED":    {codes.FailedPrecondition, grows},
		"OXIDE_FORBIDDEN":               {codes.PermissionDenied, grows},
		"OXIDE_API_VERSION_UNSUPPORTED": {codes.FailedPrecondition, grows},
		"OXIDE_REFUSED":                 {codes.FailedPrecondition, grows},
		"INSTANCE_NOT_OPERABLE":         {codes.FailedPrecondition, 10 * time.Second},
		"ADDRESS_NOT_OWNED":             {codes.FailedPrecondition, grows},
		"PORT_CONFLICT":                 {codes.FailedPrecondition, grows},
		"FULL_SET_REQUIRED":             {codes.FailedPrecondition, 10 * time.Second},
		"POOL_EXHAUSTED":                {codes.ResourceExhausted, 10 * time.Second},
		"INSTANCE_LIMIT_REACHED":        {codes.ResourceExhausted, 10 * time.Second},
		"OXIDE_UNAVAILABLE":             {codes.Unavailable, 10 * time.Second},
		"BUSY":                          {codes.Unavailable, 10 * time.Second},
		"OXIDE_BAD_RESPONSE":            {codes.Internal, grows},
		"UNIMPLEMENTED":                 {codes.Unimplemented, grows},
		"CALL_ENDED":                    {codes.DeadlineExceeded, 10 * time.Second},
		"INTERNAL":                      {codes.Internal, grows},
	}
	for number, name := range backendv1.ErrorReason_name {
		reason := backendv1.ErrorReason(number)
		want, ok := table[strings.TrimPrefix(name, "ERROR_REASON_")]
		if !ok {
			t.Errorf("%s is not in the table", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			err := AsBackendError(fail(want.code, reason, "why it failed"))
			var be *BackendError
			if !errors.As(err, &be) {
				t.Fatalf("the error is a %T", err)
			}
			if be.Code != want.code || be.Reason != reason || be.RequestID != "req-1" ||
				be.Error() != "why it failed" {
				t.Errorf("rebuilt as %+v", *be)
			}
			checkRetry(t, loadBalancerError(err), want.retry)
			checkRetry(t, loadBalancerError(fmt.Errorf("more: %w", err)), want.retry)

			// Where the backend names a delay, that holds whatever the reason.
			err = AsBackendError(fail(want.code, reason, "why", retryInfo(3*time.Second)))
			checkRetry(t, loadBalancerError(err), 3*time.Second)
		})
	}
}

// checkRetry checks how the service controller would retry after an error; 0: with its own delays.
func checkRetry(t *testing.T, err error, want time.Duration) {
	t.Helper()
	var retry *api.RetryError
	switch found := errors.As(err, &retry); {
	case found && want == 0:
		t.Errorf("retried after %s, want the framework's own delays", retry.RetryAfter())
	case !found && want > 0:
		t.Errorf("retried with the framework's own delays, want after %s", want)
	case found && retry.RetryAfter() != want:
		t.Errorf("retried after %s, want after %s", retry.RetryAfter(), want)
	}
}

func TestRetryDelaysAreBounded(t *testing.T) {
	for _, tt := range []struct{ named, want time.Duration }{
		{time.Millisecond, time.Second},
		{7 * time.Second, 7 * time.Second},
		{24 * time.Hour, 5 * time.Minute},
		{-time.Second, 10 * time.Second},
		{0, 10 * time.Second},
	} {
		t.Run(tt.named.String(), func(t *testing.T) {
			checkRetry(t, loadBalancerError(AsBackendError(fail(codes.Unavailable,
				backendv1.ErrorReason_ERROR_REASON_BUSY, "busy", retryInfo(tt.named)))), tt.want)
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
