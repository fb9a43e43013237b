// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// changed returns an error whose status is changed.
func changed(err error, change func(*spb.Status)) error {
	if err == nil {
		return nil
	}
	st := proto.Clone(status.Convert(err).Proto()).(*spb.Status)
	change(st)
	return status.FromProto(st).Err()
}

// without leaves out details of one type.
func without(kind proto.Message) func(*call, error) error {
	return func(_ *call, err error) error {
		return changed(err, func(st *spb.Status) {
			var kept []*anypb.Any
			for _, detail := range st.GetDetails() {
				if !detail.MessageIs(kind) {
					kept = append(kept, detail)
				}
			}
			st.Details = kept
		})
	}
}

func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// answering ends calls that fail for one reason in another way; nil as the error: with OK, and an empty answer.
func answering(reason string, instead error) wrong {
	return wrong{end: func(c *call, err error) error {
		if reasonOf(err) != reason {
			return err
		}
		if instead == nil {
			_, out := typesOf(c.method)
			if out != nil {
				c.toClient <- out.New().Interface()
			}
			return nil
		}
		return instead
	}}
}

// instead is a failure with a reason.
func instead(code codes.Code, reason string) error {
	return failing(code, "the wrong one", &errdetails.ErrorInfo{Domain: "oxide.computer", Reason: reason})
}

func wrongErrors() []wrongBackend {
	return []wrongBackend{
		{name: "drops ErrorInfo", wrong: wrong{end: without(&errdetails.ErrorInfo{})},
			cases: []string{"instances/not-found", "instances/get-invalid", "backend/unknown-method"}},
		{name: "drops RetryInfo", wrong: wrong{end: without(&errdetails.RetryInfo{})},
			cases: []string{"session/too-many", "faults/503", "reasons/pool-exhausted"}},
		{name: "says everything twice", wrong: wrong{end: func(_ *call, err error) error {
			return changed(err, func(st *spb.Status) { st.Details = append(st.Details, st.GetDetails()...) })
		}}, cases: []string{"instances/not-found"}},
		{name: "has another domain", wrong: wrong{end: func(_ *call, err error) error {
			if reasonOf(err) == "" {
				return err
			}
			return failing(status.Code(err), status.Convert(err).Message(),
				&errdetails.ErrorInfo{Domain: "example.com", Reason: reasonOf(err)})
		}}, cases: []string{"instances/not-found"}},
		{name: "sends messages of several lines", wrong: wrong{end: func(_ *call, err error) error {
			return changed(err, func(st *spb.Status) { st.Message = strings.Repeat("line\n", 3) })
		}}, cases: []string{"instances/not-found"}},
		{name: "takes what is not proven for gone",
			wrong: answering("ABSENCE_NOT_PROVEN", instead(codes.NotFound, "INSTANCE_NOT_FOUND")),
			cases: []string{"instances/absence-proof"}},
		{name: "takes an outage for the end of an instance",
			wrong: answering("OXIDE_UNAVAILABLE", instead(codes.NotFound, "INSTANCE_NOT_FOUND")),
			cases: []string{"faults/503", "faults/connections-dropped"}},
		{name: "takes a project that is gone for the end of an instance",
			wrong: answering("PROJECT_NOT_FOUND", instead(codes.NotFound, "INSTANCE_NOT_FOUND")),
			cases: []string{"faults/404"}},
		{name: "calls a full pool a refusal",
			wrong: answering("POOL_EXHAUSTED", instead(codes.FailedPrecondition, "OXIDE_REFUSED")),
			cases: []string{"reasons/pool-exhausted"}},
		{name: "calls a full instance a refusal",
			wrong: answering("INSTANCE_LIMIT_REACHED", instead(codes.FailedPrecondition, "OXIDE_REFUSED")),
			cases: []string{"reasons/instance-limit"}},
		{name: "calls a busy instance an outage",
			wrong: answering("INSTANCE_NOT_OPERABLE", instead(codes.Unavailable, "OXIDE_UNAVAILABLE")),
			cases: []string{"reasons/instance-not-operable"}},
		{name: "calls a rejected token an outage",
			wrong: answering("OXIDE_CREDENTIALS_REJECTED", instead(codes.Unavailable, "OXIDE_UNAVAILABLE")),
			cases: []string{"faults/401"}},
		{name: "calls what is forbidden a fault of its own",
			wrong: answering("OXIDE_FORBIDDEN", instead(codes.Internal, "INTERNAL")),
			cases: []string{"faults/403", "reasons/forbidden-change"}},
		{name: "calls nonsense of Oxide an outage",
			wrong: answering("OXIDE_BAD_RESPONSE", instead(codes.Unavailable, "OXIDE_UNAVAILABLE")),
			cases: []string{"faults/500", "faults/not-json"}},
		{name: "does not notice an older rack",
			wrong: answering("OXIDE_API_VERSION_UNSUPPORTED", instead(codes.Internal, "OXIDE_BAD_RESPONSE")),
			cases: []string{"faults/older-rack"}},
		{name: "knows every method",
			wrong: answering("UNIMPLEMENTED", instead(codes.NotFound, "RESOURCE_NOT_FOUND")),
			cases: []string{"backend/unknown-method"}},
		{name: "ends calls without a reason", cases: []string{"transport/deadline-of-a-call"},
			wrong: wrong{end: func(_ *call, err error) error {
				if status.Code(err) == codes.DeadlineExceeded {
					return failing(codes.DeadlineExceeded, "too late")
				}
				return err
			}}},
		{name: "removes rules that are in use", wrong: answering("FIREWALL_RULE_IN_USE", nil),
			cases: []string{"firewall/rules"}},
		{name: "writes what it does not understand", wrong: answering("FIREWALL_NOT_REPRESENTABLE", nil),
			cases: []string{"reasons/firewall-not-representable"}},
		{name: "is healthy whatever is asked", wrong: answering("RESOURCE_NOT_FOUND", nil),
			cases: []string{"backend/health", "addresses/attach-nothing"}},
		{name: "changes something although it must not", args: []string{"--read-only"},
			wrong: answering("READ_ONLY", nil), cases: []string{"read-only/changes"}},
		{name: "lets everybody do everything", reader: true,
			cases: []string{"access/reader"}},
		{name: "needs no session", wrong: answering("SESSION_REQUIRED", nil),
			cases: []string{"orphans/session-required", "plan/invalid", "addresses/of-a-load-balancer"}},
		{name: "knows load balancers that are not", wrong: answering("LOAD_BALANCER_NOT_FOUND", nil),
			cases: []string{"load-balancers/invalid", "session/life"}},
		{name: "accepts malformed requests", wrong: answering("INVALID_REQUEST", nil),
			cases: []string{
				"instances/get-invalid", "instances/list-invalid", "pools/list-invalid",
				"addresses/reserve-invalid", "addresses/list-invalid", "plan/invalid", "firewall/invalid",
				"load-balancers/invalid", "session/malformed-items", "backend/undecodable-request",
			}},
		{name: "identifies any machine", wrong: answering("INSTANCE_NOT_IDENTIFIED", nil),
			cases: []string{"machines/not-identified"}},
		{name: "chooses among machines", wrong: answering("INSTANCE_AMBIGUOUS", nil),
			cases: []string{"instances/ambiguous-hostname"}},
		{name: "does not offer what it lists", cases: []string{"pools/list"},
			wrong: wrong{end: func(c *call, err error) error {
				if c.is(backendv1.PoolService_ListPools_FullMethodName) {
					return instead(codes.Unimplemented, "UNIMPLEMENTED")
				}
				return err
			}}},
	}
}
