// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// fail makes an error as the backend does.
func fail(
	code codes.Code, reason backendv1.ErrorReason, message string, more ...protoadapt.MessageV1,
) error {
	s, err := status.New(code, message).WithDetails(append([]protoadapt.MessageV1{
		&errdetails.ErrorInfo{
			Domain: "oxide.computer", Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"),
			Metadata: map[string]string{"request_id": "req-1"},
		},
	}, more...)...)
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func TestEveryReasonIsRebuilt(t *testing.T) {
	for number, name := range backendv1.ErrorReason_name {
		reason := backendv1.ErrorReason(number)
		t.Run(name, func(t *testing.T) {
			err := fail(codes.FailedPrecondition, reason, "why it failed",
				&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
			want := &Error{
				Code: codes.FailedPrecondition, Reason: reason, RequestID: "req-1",
				RetryDelay: 3 * time.Second, Message: "why it failed",
			}
			got, ok := FromError(err)
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Errorf("rebuilt (-want +got), %v:\n%s", ok, diff)
			}
			for _, err := range []error{err, got, fmt.Errorf("more: %w", got)} {
				if !HasReason(err, reason) {
					t.Errorf("%v is not found to have the reason %s", err, reason)
				}
			}
		})
	}
}

// constants returns the names of the constants in reasons.go.
func constants(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			names[spec.Names[0].Name] = true
		}
		return true
	})
	return names
}

func TestEveryReasonIsAnErrorThatErrorsIsFinds(t *testing.T) {
	names := constants(t)
	for number, name := range backendv1.ErrorReason_name {
		if number == 0 {
			continue
		}
		reason := Reason(number)
		if got := "ERROR_REASON_" + reason.Error(); got != name {
			t.Errorf("%s reads %s", name, got)
		}
		found := false
		for constant := range names {
			found = found || strings.EqualFold(constant, "Err"+strings.ReplaceAll(reason.Error(), "_", ""))
		}
		if !found {
			t.Errorf("reasons.go has no constant for %s", name)
		}
		err := fmt.Errorf("more: %w", AsError(fail(codes.Aborted, backendv1.ErrorReason(number), "why")))
		if !errors.Is(err, reason) || errors.Is(err, Reason(number+1)) {
			t.Errorf("errors.Is does not find %s", name)
		}
	}
	if errors.Is(new(Error), Reason(0)) {
		t.Error("an error without reason has one")
	}
}

func TestAnErrorCanBePassedOnAsAStatus(t *testing.T) {
	want := &Error{
		Code: codes.Unavailable, Reason: backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE,
		Message: "Oxide does not answer", RetryDelay: time.Second, RequestID: "req-1",
	}
	if code := status.Code(fmt.Errorf("more: %w", want)); code != want.Code {
		t.Errorf("status.Code says %s", code)
	}
	got, _ := FromError(want.GRPCStatus().Err())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
}

func TestCallsAndStreamsFailWithAnError(t *testing.T) {
	s := newServer(t, func(context.Context, int) error {
		return fail(codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, "refused")
	})
	s.start(t)
	service := backendv1.NewInstanceServiceClient(s.dial(t))
	_, err := service.ListInstances(t.Context(), new(backendv1.ListInstancesRequest))
	if !errors.Is(err, ErrOxideRefused) {
		t.Errorf("a call fails with %v", err)
	}
	stream, err := service.WatchInstances(t.Context(), new(backendv1.WatchInstancesRequest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, ErrOxideRefused) {
		t.Errorf("a stream fails with %v", err)
	}
	s.onCall = nil
	if stream, err = service.WatchInstances(t.Context(), new(backendv1.WatchInstancesRequest)); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF { //nolint:errorlint // callers compare it like that
		t.Errorf("a stream ends with %v, want io.EOF itself", err)
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
		{"an empty message", status.Error(codes.Internal, ""), "Internal without saying why"},
		{"the reason of another domain", foreign.Err(), "not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := FromError(tt.err)
			if !ok || !strings.Contains(got.Error(), tt.want) || strings.Contains(got.Error(), "desc =") {
				t.Errorf("the text is %q, want %q in it", got, tt.want)
			}
			if got.Reason != backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
				t.Errorf("taken for %s", got.Reason)
			}
		})
	}
}

func TestErrorsThatAreNotThoseOfACall(t *testing.T) {
	for _, err := range []error{nil, io.EOF, errors.New("some error")} {
		if got, ok := FromError(err); ok || got != nil {
			t.Errorf("%v was rebuilt as %v", err, got)
		}
		if HasReason(err, backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED) {
			t.Errorf("%v has a reason", err)
		}
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

func TestTextsOfFieldsHaveAtMostSoManyBytesOfWholeCharacters(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"as it\nis", 10, "as it is"},
		{"exactly ten", 11, "exactly ten"},
		{"one too many", 11, "one too …"},
		{"éééé", 6, "é…"},
		{strings.Repeat("x", 2000), 400, strings.Repeat("x", 397) + "…"},
	} {
		if got := Text(tt.text, tt.most); got != tt.want || len(got) > tt.most {
			t.Errorf("Text(%.20q, %d) = %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
}
