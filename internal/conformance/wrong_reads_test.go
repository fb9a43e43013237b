// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// requests is a backend that takes requests of one type for others.
func requests[M proto.Message](change func(*call, M)) wrong {
	return wrong{request: func(c *call, m proto.Message) proto.Message {
		if typed, is := m.(M); is {
			change(c, typed)
		}
		return m
	}}
}

// responses is a backend that changes its answers of one type.
func responses[M proto.Message](change func(*call, M)) wrong {
	return wrong{response: func(c *call, m proto.Message) []proto.Message {
		if typed, is := m.(M); is {
			change(c, typed)
		}
		return []proto.Message{m}
	}}
}

func wrongReads() []wrongBackend {
	type (
		listRequest  = backendv1.ListInstancesRequest
		listResponse = backendv1.ListInstancesResponse
	)
	return []wrongBackend{
		{name: "forgets its project", cases: []string{"backend/info"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) { m.Project.Id = "" })},
		{name: "has ids in capitals", cases: []string{"backend/info"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) {
				m.Silo.Id = strings.ToUpper("A" + m.GetSilo().GetId()[1:])
			})},
		{name: "has no revision", cases: []string{"backend/info"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) { m.ApiRevision = 0 })},
		{name: "hides its sessions", cases: []string{"backend/acting-scopes"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) { m.ActingScopes = nil })},
		{name: "lists its sessions in any order", cases: []string{"backend/acting-scopes"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) { slices.Reverse(m.ActingScopes) })},
		{name: "offers what it does not list", cases: []string{"backend/features-not-listed"},
			wrong: responses(func(_ *call, m *backendv1.GetInfoResponse) {
				m.Features = slices.DeleteFunc(m.GetFeatures(), func(f backendv1.Feature) bool {
					return f == backendv1.Feature_FEATURE_POOLS
				})
			})},
		{name: "ignores the page size", cases: []string{"instances/list"},
			wrong: requests(func(_ *call, m *listRequest) { m.PageSize = 1000 })},
		{name: "ignores the page size of addresses", cases: []string{"addresses/list"},
			wrong: requests(func(_ *call, m *backendv1.ListAddressesRequest) { m.PageSize = 1000 })},
		{name: "ignores the page size of load balancers", cases: []string{"load-balancers/list"},
			wrong: requests(func(_ *call, m *backendv1.ListLoadBalancersRequest) { m.PageSize = 1000 })},
		{name: "ignores the page size of pools", cases: []string{"pools/list"},
			wrong: requests(func(_ *call, m *backendv1.ListPoolsRequest) { m.PageSize = 1000 })},
		{name: "begins each page anew", cases: []string{"instances/list"},
			wrong: requests(func(_ *call, m *listRequest) { m.PageToken = "" })},
		{name: "ends lists after a page", cases: []string{"instances/list"},
			wrong: responses(func(_ *call, m *listResponse) { m.NextPageToken = "" })},
		{name: "has a page after the last one", cases: []string{"instances/list"},
			wrong: responses(func(c *call, m *listResponse) { m.NextPageToken = "more" })},
		{name: "lists in any order", cases: []string{"instances/list"},
			wrong: responses(func(_ *call, m *listResponse) { slices.Reverse(m.Instances) })},
		{name: "lists load balancers in any order", cases: []string{"load-balancers/list"},
			wrong: responses(func(_ *call, m *backendv1.ListLoadBalancersResponse) {
				slices.Reverse(m.LoadBalancers)
			})},
		{name: "ignores filters by id", cases: []string{"instances/list-filters"},
			wrong: requests(func(_ *call, m *listRequest) { m.Ids = nil })},
		{name: "ignores filters by name", cases: []string{"instances/list-filters"},
			wrong: requests(func(_ *call, m *listRequest) { m.Names = nil })},
		{name: "ignores whether an address is attached", cases: []string{"addresses/list"},
			wrong: requests(func(_ *call, m *backendv1.ListAddressesRequest) { m.Attached = nil })},
		{name: "has one view", cases: []string{"instances/get"},
			wrong: requests(func(_ *call, m *backendv1.GetInstanceRequest) {
				m.View = backendv1.InstanceView_INSTANCE_VIEW_FULL
			})},
		{name: "does not compare silos", cases: []string{"instances/absence-proof"},
			wrong: requests(func(_ *call, m *backendv1.GetInstanceRequest) { m.AbsenceProof = nil })},
		{name: "answers a batch in any order", cases: []string{"instances/batch"},
			wrong: responses(func(_ *call, m *backendv1.BatchGetInstancesResponse) { slices.Reverse(m.Results) })},
		{name: "leaves out of a batch what fails", cases: []string{"instances/batch"},
			wrong: responses(func(_ *call, m *backendv1.BatchGetInstancesResponse) {
				m.Results = slices.DeleteFunc(m.GetResults(), func(r *backendv1.InstanceResult) bool {
					return r.GetProblem() != nil
				})
			})},
		{name: "fails a batch for one of it", cases: []string{"instances/batch"},
			wrong: wrong{end: func(c *call, err error) error {
				if c.is(backendv1.InstanceService_BatchGetInstances_FullMethodName) && err == nil {
					return instead(codes.NotFound, "INSTANCE_NOT_FOUND")
				}
				return err
			}}},
		{name: "believes each machine", cases: []string{"machines/conflict"},
			wrong: requests(func(_ *call, m *backendv1.GetInstanceRequest) {
				if machine := m.GetMachine(); machine != nil {
					machine.Addresses, machine.Claims = nil, nil
				}
			})},
		{name: "ignores the firmware of a machine", cases: []string{"machines/replaced", "machines/identified"},
			wrong: requests(func(_ *call, m *backendv1.GetInstanceRequest) {
				if machine := m.GetMachine(); machine != nil {
					machine.SystemUuid = ""
				}
			})},
		{name: "lists an instance twice in a snapshot", cases: []string{"watch/snapshot"},
			wrong: wrong{response: func(_ *call, m proto.Message) []proto.Message {
				if event, is := m.(*backendv1.WatchInstancesResponse); is && event.GetInstance() != nil {
					return []proto.Message{m, m}
				}
				return []proto.Message{m}
			}}},
		{name: "lists nothing in a snapshot", cases: []string{"watch/snapshot"},
			wrong: wrong{response: func(_ *call, m proto.Message) []proto.Message {
				if event, is := m.(*backendv1.WatchInstancesResponse); is && event.GetInstance() != nil {
					return nil
				}
				return []proto.Message{m}
			}}},
		{name: "ends no snapshot", cases: []string{"watch/snapshot"},
			wrong: wrong{response: func(_ *call, m proto.Message) []proto.Message {
				if event, is := m.(*backendv1.WatchInstancesResponse); is && event.GetSnapshotComplete() != nil {
					return nil
				}
				return []proto.Message{m}
			}}},
		{name: "lists pools of no kind", cases: []string{"pools/list"},
			wrong: responses(func(_ *call, m *backendv1.ListPoolsResponse) {
				for _, pool := range m.GetPools() {
					pool.Source = 0
				}
			})},
		{name: "does what it plans", cases: []string{"plan/set"},
			wrong: responses(func(_ *call, m *backendv1.PlanLoadBalancersResponse) {
				for _, lb := range m.GetLoadBalancers() {
					for _, address := range lb.GetLoadBalancer().GetAddresses() {
						address.Attachment = address.GetPlannedAttachment()
					}
				}
			})},
		{name: "plans in any order", cases: []string{"plan/set"},
			wrong: responses(func(_ *call, m *backendv1.PlanLoadBalancersResponse) {
				slices.Reverse(m.LoadBalancers)
			})},
		{name: "plans with what is to be gone", cases: []string{"plan/session"},
			wrong: requests(func(_ *call, m *backendv1.PlanLoadBalancersRequest) { m.WithoutInstanceIds = nil })},
	}
}
