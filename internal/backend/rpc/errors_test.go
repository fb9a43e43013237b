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

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEveryErrorHasItsStatus(t *testing.T) {
	ofOxide := func(kind oxide.Kind) error { return &oxide.Error{Operation: "x", Kind: kind} }
	ofBalancer := func(reason loadbalancers.Reason) error {
		return &loadbalancers.Error{Reason: reason, Message: "x"}
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
		{"cancelled", context.Canceled, codes.Canceled, "CALL_ENDED", false},
		{"not owned", ofBalancer(loadbalancers.ReasonNotOwned), codes.FailedPrecondition, "ADDRESS_NOT_OWNED", false},
		{"no balancer", ofBalancer(loadbalancers.ReasonNotFound), codes.NotFound, "LOAD_BALANCER_NOT_FOUND", false},
		{"no pool", ofBalancer(loadbalancers.ReasonPoolNotFound), codes.FailedPrecondition, "POOL_NOT_FOUND", false},
		{"exhausted", ofBalancer(loadbalancers.ReasonPoolExhausted), codes.ResourceExhausted, "POOL_EXHAUSTED", true},
		{"refused", ofBalancer(loadbalancers.ReasonRefused), codes.FailedPrecondition, "OXIDE_REFUSED", false},
		{"failed instance", ofBalancer(loadbalancers.ReasonNotOperable), codes.FailedPrecondition, "INSTANCE_NOT_OPERABLE", true},
		{"busy", ofBalancer(loadbalancers.ReasonBusy), codes.Unavailable, "BUSY", true},
		{"invalid", ofBalancer(loadbalancers.ReasonInvalid), codes.InvalidArgument, "INVALID_REQUEST", false},
		{"no resource", ofBalancer(loadbalancers.ReasonResourceNotFound), codes.FailedPrecondition, "RESOURCE_NOT_FOUND", false},
		{"port conflict", ofBalancer(loadbalancers.ReasonPortConflict), codes.FailedPrecondition, "PORT_CONFLICT", false},
		{"nodes are full", ofBalancer(loadbalancers.ReasonLimit), codes.ResourceExhausted, "INSTANCE_LIMIT_REACHED", true},
		{"set not known", ofBalancer(loadbalancers.ReasonFullSetRequired), codes.FailedPrecondition, "FULL_SET_REQUIRED", false},
		{"in use", ofBalancer(loadbalancers.ReasonInUse), codes.FailedPrecondition, "ADDRESS_IN_USE", false},
		{
			"a balancer's error that explains one of Oxide",
			&loadbalancers.Error{
				Reason: loadbalancers.ReasonPoolNotFound, Err: ofOxide(oxide.KindNotFound),
			},
			codes.FailedPrecondition, "POOL_NOT_FOUND", false,
		},
		{"gone", fmt.Errorf("x %w", instances.ErrNotFound), codes.NotFound, "INSTANCE_NOT_FOUND", false},
		{"not proven", &instances.NotProvenError{Why: "x"}, codes.FailedPrecondition, "ABSENCE_NOT_PROVEN", false},
		{"ambiguous", &instances.AmbiguousError{}, codes.FailedPrecondition, "INSTANCE_AMBIGUOUS", false},
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
	for reason := range loadbalancers.ReasonInUse + 1 {
		if _, ok := loadBalancerVerdicts[reason]; !ok {
			t.Errorf("reason %d of loadbalancers.Error has no status", reason)
		}
	}
}

func TestTheRequestIDOfOxideIsPassedOn(t *testing.T) {
	err := &loadbalancers.Error{Message: "x", Err: &oxide.Error{RequestID: "req-1"}}
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
