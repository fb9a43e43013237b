// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEveryErrorHasItsStatus(t *testing.T) {
	ofOxide := func(kind oxide.Kind) error { return &oxide.Error{Operation: "x", Kind: kind} }
	ofSession := func(reason session.Reason) error {
		return &session.Error{Reason: reason, Message: "x"}
	}
	for _, tc := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
		retry  bool
	}{
		{"oxide unavailable", ofOxide(oxide.KindUnavailable), codes.Unavailable, "OXIDE_UNAVAILABLE", true},
		{"oxide 401", ofOxide(oxide.KindUnauthorized), codes.FailedPrecondition, "OXIDE_CREDENTIALS_REJECTED", false},
		{"oxide 403", ofOxide(oxide.KindForbidden), codes.PermissionDenied, "OXIDE_FORBIDDEN", false},
		{"oxide 404", ofOxide(oxide.KindNotFound), codes.FailedPrecondition, "RESOURCE_NOT_FOUND", false},
		{"oxide 404 project", ofOxide(oxide.KindProjectNotFound), codes.FailedPrecondition, "PROJECT_NOT_FOUND", false},
		{"oxide 404 route", ofOxide(oxide.KindNoSuchRoute), codes.FailedPrecondition, "OXIDE_API_VERSION_UNSUPPORTED", false},
		{"oxide version", ofOxide(oxide.KindVersionUnsupported), codes.FailedPrecondition, "OXIDE_API_VERSION_UNSUPPORTED", false},
		{"oxide refused", ofOxide(oxide.KindRefused), codes.FailedPrecondition, "OXIDE_REFUSED", false},
		{"oxide exists", ofOxide(oxide.KindAlreadyExists), codes.FailedPrecondition, "OXIDE_REFUSED", false},
		{"oxide 507", ofOxide(oxide.KindNoCapacity), codes.ResourceExhausted, "POOL_EXHAUSTED", true},
		{"read-only", ofOxide(oxide.KindReadOnly), codes.FailedPrecondition, "READ_ONLY", false},
		{"oxide 400", ofOxide(oxide.KindMalformed), codes.Internal, "OXIDE_BAD_RESPONSE", false},
		{"oxide 500", ofOxide(oxide.KindInternal), codes.Internal, "OXIDE_BAD_RESPONSE", false},
		{"oxide bad response", ofOxide(oxide.KindBadResponse), codes.Internal, "OXIDE_BAD_RESPONSE", false},
		{
			"oxide cancelled", &oxide.Error{Kind: oxide.KindEnded, Err: context.Canceled},
			codes.Canceled, "CALL_ENDED", false,
		},
		{
			"oxide out of time", &oxide.Error{Kind: oxide.KindEnded, Err: context.DeadlineExceeded},
			codes.DeadlineExceeded, "CALL_ENDED", false,
		},
		{"another user", &access.DeniedError{}, codes.PermissionDenied, "CLIENT_DENIED", false},
		{"cancelled", context.Canceled, codes.Canceled, "CALL_ENDED", false},
		{
			"a balancer's error that explains one of Oxide",
			&session.Error{
				Reason: session.ReasonPoolNotFound, Err: ofOxide(oxide.KindNotFound),
			},
			codes.FailedPrecondition, "POOL_NOT_FOUND", false,
		},
		{"session: not owned", ofSession(session.ReasonNotOwned), codes.FailedPrecondition, "ADDRESS_NOT_OWNED", false},
		{"session: no balancer", ofSession(session.ReasonNotFound), codes.NotFound, "LOAD_BALANCER_NOT_FOUND", false},
		{"session: no pool", ofSession(session.ReasonPoolNotFound), codes.FailedPrecondition, "POOL_NOT_FOUND", false},
		{"session: exhausted", ofSession(session.ReasonPoolExhausted), codes.ResourceExhausted, "POOL_EXHAUSTED", true},
		{"session: refused", ofSession(session.ReasonRefused), codes.FailedPrecondition, "OXIDE_REFUSED", false},
		{"session: failed instance", ofSession(session.ReasonNotOperable), codes.FailedPrecondition, "INSTANCE_NOT_OPERABLE", true},
		{"session: invalid", ofSession(session.ReasonInvalid), codes.InvalidArgument, "INVALID_REQUEST", false},
		{"session: no resource", ofSession(session.ReasonResourceNotFound), codes.FailedPrecondition, "RESOURCE_NOT_FOUND", false},
		{"session: port conflict", ofSession(session.ReasonPortConflict), codes.FailedPrecondition, "PORT_CONFLICT", false},
		{"session: nodes are full", ofSession(session.ReasonLimit), codes.ResourceExhausted, "INSTANCE_LIMIT_REACHED", true},
		{"session: in use", ofSession(session.ReasonInUse), codes.FailedPrecondition, "ADDRESS_IN_USE", false},
		{"session: required", ofSession(session.ReasonSessionRequired), codes.FailedPrecondition, "SESSION_REQUIRED", false},
		{"session: superseded", ofSession(session.ReasonSuperseded), codes.Aborted, "SESSION_SUPERSEDED", false},
		{"session: too many", ofSession(session.ReasonTooMany), codes.ResourceExhausted,
			"TOO_MANY_SESSIONS", true},
		{"session: reserved with something else", ofSession(session.ReasonDiffers), codes.AlreadyExists,
			"RESERVATION_DIFFERS", false},
		{"session: stopping", ofSession(session.ReasonStopping), codes.Unavailable, "BACKEND_STOPPING", true},
		{"session: read-only", ofSession(session.ReasonReadOnly), codes.FailedPrecondition, "READ_ONLY", false},
		{"session: unreadable", ofSession(session.ReasonUnreadable), codes.Unavailable, "OXIDE_UNAVAILABLE", true},
		{
			"session: unreadable with a bad token",
			&session.Error{Reason: session.ReasonUnreadable, Err: ofOxide(oxide.KindUnauthorized)},
			codes.FailedPrecondition, "OXIDE_CREDENTIALS_REJECTED", false,
		},
		{
			"session: refused by Oxide",
			&session.Error{Reason: session.ReasonRefused, Err: ofOxide(oxide.KindRefused)},
			codes.FailedPrecondition, "OXIDE_REFUSED", false,
		},
		{"stopping", ErrStopping, codes.Unavailable, "BACKEND_STOPPING", true},
		{"version skew", &skewError{[]string{"field 9 of X"}}, codes.Unimplemented, "VERSION_SKEW", false},
		{"of the health service", status.Error(codes.NotFound, "unknown service"), codes.NotFound, "RESOURCE_NOT_FOUND", false},
		{"of gRPC: cancelled", status.Error(codes.Canceled, "x"), codes.Canceled, "CALL_ENDED", false},
		{"of gRPC: out of time", status.Error(codes.DeadlineExceeded, "x"), codes.DeadlineExceeded, "CALL_ENDED", false},
		{"of gRPC: unimplemented", status.Error(codes.Unimplemented, "x"), codes.Unimplemented, "UNIMPLEMENTED", false},
		{"of gRPC: something else", status.Error(codes.DataLoss, "x"), codes.DataLoss, "INTERNAL", false},
		{"gone", fmt.Errorf("x %w", instances.ErrNotFound), codes.NotFound, "INSTANCE_NOT_FOUND", false},
		{"not proven", &instances.NotProvenError{Why: "x"}, codes.FailedPrecondition, "ABSENCE_NOT_PROVEN", false},
		{"ambiguous", &instances.AmbiguousError{}, codes.FailedPrecondition, "INSTANCE_AMBIGUOUS", false},
		{"no instance", &instances.IdentityError{Problem: instances.NotIdentified}, codes.FailedPrecondition, "INSTANCE_NOT_IDENTIFIED", false},
		{"identity conflict", &instances.IdentityError{Problem: instances.Conflict}, codes.FailedPrecondition, "INSTANCE_IDENTITY_CONFLICT", false},
		{"replaced", &instances.IdentityError{Problem: instances.Replaced}, codes.FailedPrecondition, "INSTANCE_REPLACED", false},
		{"bad request", invalidf("f", "x"), codes.InvalidArgument, "INVALID_REQUEST", false},
		{"not offered", &unofferedError{"x"}, codes.Unimplemented, "UNIMPLEMENTED", false},
		{"unknown", errors.New("secret dump"), codes.Internal, "INTERNAL", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := toStatus(tc.err)
			info, retry := detailsOf(t, tc.err)
			if st.Code() != tc.code || info.GetReason() != tc.reason || retry != tc.retry {
				t.Errorf("got %s %s, retry %v", st.Code(), info.GetReason(), retry)
			}
			if info.GetDomain() != "oxide.computer" {
				t.Errorf("domain %q", info.GetDomain())
			}
			if _, known := backendv1.ErrorReason_value["ERROR_REASON_"+info.GetReason()]; !known {
				t.Errorf("the reason %s is not documented", info.GetReason())
			}
			if strings.ContainsAny(st.Message(), "\n\r") || strings.Contains(st.Message(), "dump") {
				t.Errorf("message %q", st.Message())
			}
		})
	}
}

// Only a proven absence may be NOT_FOUND with the reason that lets a node be deleted.
func TestInvariant1OnlyProvenAbsenceIsInstanceNotFound(t *testing.T) {
	for kind := range oxide.KindEnded + 1 {
		info, _ := detailsOf(t, &oxide.Error{Kind: kind, Err: context.Canceled})
		if info.GetReason() == "INSTANCE_NOT_FOUND" {
			t.Errorf("an error of Oxide of kind %d becomes INSTANCE_NOT_FOUND", kind)
		}
	}
}

func TestEveryKindAndReasonIsMapped(t *testing.T) {
	for kind := range oxide.KindEnded {
		if _, ok := oxideVerdicts[kind]; !ok {
			t.Errorf("kind %d of oxide.Error has no status", kind)
		}
	}
}

func TestEveryReasonOfASessionIsMapped(t *testing.T) {
	for reason := range session.ReasonDiffers + 1 {
		if _, ok := sessionVerdicts[reason]; !ok {
			t.Errorf("reason %d of session.Error has no status", reason)
		}
	}
	if len(sessionVerdicts) != int(session.ReasonDiffers)+1 {
		t.Errorf("%d verdicts", len(sessionVerdicts))
	}
}

// A problem says what a call about this load balancer alone would end with.
func TestAProblemHasTheCodeAndTheDelayOfItsStatus(t *testing.T) {
	for _, err := range []error{
		&session.Error{Reason: session.ReasonPoolExhausted, Message: "no\naddress left"},
		&session.Error{Reason: session.ReasonPortConflict, Message: strings.Repeat("é", 300)},
		&oxide.Error{Kind: oxide.KindUnavailable, Status: 503},
		errors.New("unforeseen"),
	} {
		st, problem := toStatus(err), toProblem(err)
		if problem.GetCode() != int32(st.Code()) || problem.GetMessage() != st.Message() {
			t.Errorf("%v: %v, %v", st, problem, err)
		}
		_, retry := detailsOf(t, err)
		if retry != (problem.GetRetryDelay().AsDuration() > 0) {
			t.Errorf("%v: retry %v, %v", err, retry, problem.GetRetryDelay())
		}
		if text := problem.GetMessage(); len(text) > 400 || strings.Contains(text, "\n") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
	if toProblem(nil) != nil {
		t.Error("nothing is a problem")
	}
}

// Only a call that was ended anyhow is said to have been ended by the stop.
func TestWhatFailedForAnotherReasonIsNotEndedByTheStop(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{context.Canceled, true},
		{status.Error(codes.Canceled, "Stream has ended."), true},
		{&oxide.Error{Kind: oxide.KindEnded, Err: context.Canceled}, true},
		{&session.Error{Reason: session.ReasonStopping}, false},
		{&session.Error{Reason: session.ReasonSuperseded}, false},
		{status.Error(codes.NotFound, "x"), false},
		{context.DeadlineExceeded, false},
	} {
		if got := errors.Is(EndedByStop(tc.err), ErrStopping); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

// A call that the deadline ended says so in words of its own, unless what it was at says more.
func TestACallThatWasEndedSaysWhatEndedIt(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{context.Canceled, "the call was cancelled"},
		{context.DeadlineExceeded, "the time for the call was up"},
		{fmt.Errorf("waiting for the list: %w", context.DeadlineExceeded),
			"waiting for the list: context deadline exceeded"},
	} {
		if got := toStatus(tc.err).Message(); got != tc.want {
			t.Errorf("%v: %q", tc.err, got)
		}
	}
}

// The backend is not ready where every call would fail, and only there: what one resource or one
// request is refused for takes the pod out of no service.
func TestOnlyWhatFailsEveryCallConcernsAllCalls(t *testing.T) {
	all := map[oxide.Kind]bool{
		oxide.KindUnavailable: true, oxide.KindUnauthorized: true, oxide.KindProjectNotFound: true,
		oxide.KindVersionUnsupported: true,
	}
	for kind := range oxide.KindEnded + 1 {
		err := fmt.Errorf("read it: %w", &oxide.Error{Kind: kind, Err: context.Canceled})
		if got := ConcernsAllCalls(err); got != all[kind] {
			t.Errorf("kind %d: %v", kind, got)
		}
	}
	for _, err := range []error{
		nil, errors.New("x"), ErrStopping, status.Error(codes.Unavailable, "x"), instances.ErrNotFound,
	} {
		if ConcernsAllCalls(err) {
			t.Errorf("%v concerns all calls", err)
		}
	}
}

func TestTheRequestIDOfOxideIsPassedOn(t *testing.T) {
	err := &session.Error{Message: "x", Err: &oxide.Error{RequestID: "req-1"}}
	if info, _ := detailsOf(t, err); info.GetMetadata()["request_id"] != "req-1" {
		t.Errorf("got %v", info)
	}
}

func detailsOf(t *testing.T, err error) (info *errdetails.ErrorInfo, retry bool) {
	t.Helper()
	for _, detail := range toStatus(err).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if info != nil {
				t.Errorf("%v has two ErrorInfos", err)
			}
			info = d
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration() > 0
		}
	}
	if info == nil {
		t.Fatalf("%v has no ErrorInfo", err)
	}
	return info, retry
}
