// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// newer adds a field of a newer API to a message.
func newer(m proto.Message, number protowire.Number) {
	wire := protowire.AppendTag(nil, number, protowire.BytesType)
	wire = protowire.AppendString(wire, "news")
	m.ProtoReflect().SetUnknown(append(m.ProtoReflect().GetUnknown(), wire...))
}

func TestWhatIsOnlyHalfUnderstoodIsRefused(t *testing.T) {
	type request = backendv1.SyncLoadBalancersRequest
	balancer := func(change func(*backendv1.DesiredLoadBalancer)) *request {
		lb := goodDesired()
		change(lb)
		return &request{Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb}}
	}
	unknownItem := &request{}
	newer(unknownItem, 99)
	for _, tc := range []struct {
		name string
		req  *request
		says string
	}{
		{"known", balancer(func(*backendv1.DesiredLoadBalancer) {}), ""},
		{"an item of an unknown kind", unknownItem, "field 99 of SyncLoadBalancersRequest"},
		{"an unknown field", balancer(func(lb *backendv1.DesiredLoadBalancer) { newer(lb, 77) }),
			"field 77 of DesiredLoadBalancer"},
		{"one deep inside", balancer(func(lb *backendv1.DesiredLoadBalancer) {
			newer(lb.Addresses[0].GetFloatingIp(), 9)
		}), "field 9 of FloatingIpSource"},
		{"one in a time", balancer(func(lb *backendv1.DesiredLoadBalancer) { newer(lb.CreateTime, 3) }),
			"field 3 of Timestamp"},
		{"an unknown value", balancer(func(lb *backendv1.DesiredLoadBalancer) { lb.Ending = 7 }),
			"value 7 of load_balancer.ending"},
		{"one in a list", balancer(func(lb *backendv1.DesiredLoadBalancer) {
			lb.Ports = append(lb.Ports, &backendv1.Port{Protocol: 42, Port: 1})
		}), "value 42 of load_balancer.ports[1].protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkSkew(tc.req)
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var skew *skewError
			if !errors.As(err, &skew) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOfManyUnknownPartsOnlySomeAreNamed(t *testing.T) {
	lb := goodDesired()
	for number := range protowire.Number(1000) {
		newer(lb, 100+number)
	}
	var skew *skewError
	if err := checkSkew(lb); !errors.As(err, &skew) || len(skew.parts) != maxSkewParts {
		t.Errorf("got %v", err)
	}
}

func TestOnlyCallsThatChangeSomethingAreCheckedForSkew(t *testing.T) {
	req := &backendv1.GetInfoRequest{}
	newer(req, 5)
	for method, want := range map[string]bool{
		backendv1.AddressService_DeleteOrphanedAddress_FullMethodName:       true,
		backendv1.LoadBalancerService_RebalanceLoadBalancers_FullMethodName: true,
		"/oxide.backend.v1.LoadBalancerService/SomethingNew":                true,
		backendv1.LoadBalancerService_PlanLoadBalancers_FullMethodName:      false,
		backendv1.BackendService_GetInfo_FullMethodName:                     false,
		backendv1.InstanceService_WatchInstances_FullMethodName:             false,
		"/grpc.health.v1.Health/Check":                                      false,
	} {
		called := false
		_, err := UnarySkew(t.Context(), req, &grpc.UnaryServerInfo{FullMethod: method},
			func(context.Context, any) (any, error) { called = true; return nil, nil })
		if refused := err != nil; refused != want || called == want {
			t.Errorf("%s: refused %v, called %v", method, refused, called)
		}
	}
}
