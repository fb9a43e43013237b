// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func wrongPlacements() []wrongBackend {
	return []wrongBackend{
		{name: "says nothing of conflicts", cases: []string{"placement/port-conflict", "placement/pool-not-found"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Problem = nil })},
		{name: "has problems without a code", cases: []string{"placement/port-conflict", "placement/pool-not-found"},
			wrong: states(func(s *backendv1.LoadBalancerState) {
				if s.GetProblem() != nil {
					s.Problem.Code = int32(codes.Internal)
				}
			})},
		{name: "has no conditions", cases: []string{"placement/no-candidate", "placement/several-addresses"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Conditions = nil })},
		{name: "ignores what is excluded", cases: []string{"placement/moves-off"},
			wrong: requests(func(_ *call, m *item) {
				if candidate := m.GetCandidate(); candidate != nil {
					candidate.ExclusionReason = ""
				}
			})},
		{name: "ignores what is eligible", cases: []string{"placement/eligible-instances"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) { lb.EligibleInstances = nil })},
		{name: "gives one address for several", cases: []string{"placement/several-addresses"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) {
				lb.Addresses = lb.GetAddresses()[:min(1, len(lb.GetAddresses()))]
			})},
		{name: "makes dry runs of a rebalance come true", cases: []string{"plan/rebalance"},
			wrong: responses(func(_ *call, m *backendv1.RebalanceLoadBalancersResponse) {
				m.Actions = nil
			})},
		{name: "rebalances as a dry run", cases: []string{"plan/rebalance"},
			wrong: requests(func(_ *call, m *backendv1.RebalanceLoadBalancersRequest) { m.DryRun = true })},
		{name: "opens no firewall", cases: []string{"firewall/rules"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) { lb.OpenFirewall = false })},
		{name: "lets everybody in", cases: []string{"firewall/rules"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) { lb.SourceRanges = nil })},
		{name: "manages what a user owns", cases: []string{"addresses/named-by-a-load-balancer"},
			wrong: states(func(s *backendv1.LoadBalancerState) {
				for _, address := range s.GetAddresses() {
					address.Managed = true
				}
			})},
	}
}

// knowing is a backend that takes what it does not know for something that it knows.
func knowing(fields, values bool) wrong {
	return wrong{request: func(_ *call, m proto.Message) proto.Message {
		know(m.ProtoReflect(), fields, values)
		return m
	}}
}

func know(m protoreflect.Message, fields, values bool) {
	if fields {
		m.SetUnknown(nil)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			for i := range value.List().Len() {
				know(value.List().Get(i).Message(), fields, values)
			}
		case field.IsList():
		case field.Kind() == protoreflect.MessageKind:
			know(value.Message(), fields, values)
		case values && field.Kind() == protoreflect.EnumKind &&
			field.Enum().Values().ByNumber(value.Enum()) == nil:
			m.Set(field, protoreflect.ValueOfEnum(1))
		}
		return true
	})
}

func wrongVersions() []wrongBackend {
	return []wrongBackend{
		{name: "ignores fields that it does not know", wrong: knowing(true, false),
			cases: []string{"skew/unknown-fields", "skew/unknown-fields-inside", "skew/unknown-items"}},
		{name: "ignores values that it does not know", wrong: knowing(false, true),
			cases: []string{"skew/unknown-values", "skew/unknown-items"}},
		{name: "calls what it does not know malformed", cases: []string{"skew/unknown-fields", "skew/unknown-values"},
			wrong: answering("VERSION_SKEW", instead(codes.InvalidArgument, "INVALID_REQUEST"))},
		{name: "refuses questions of newer clients", cases: []string{"skew/readers"},
			wrong: wrong{end: func(c *call, err error) error {
				reads := []string{
					backendv1.BackendService_GetInfo_FullMethodName,
					backendv1.InstanceService_ListInstances_FullMethodName,
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if slices.Contains(reads, c.method) && c.last != nil &&
					len(c.last.ProtoReflect().GetUnknown()) > 0 {
					return instead(codes.Unimplemented, "VERSION_SKEW")
				}
				return err
			}, request: func(_ *call, m proto.Message) proto.Message { return m }}},
	}
}
