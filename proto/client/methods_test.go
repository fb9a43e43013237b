// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// apiMethods returns every method of the API, by its full name.
func apiMethods(t *testing.T) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	methods := make(map[string]protoreflect.MethodDescriptor)
	pkg := backendv1.File_oxide_backend_v1_instance_service_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg,
		func(file protoreflect.FileDescriptor) bool {
			for i := range file.Services().Len() {
				service := file.Services().Get(i)
				for j := range service.Methods().Len() {
					method := service.Methods().Get(j)
					name := "/" + string(service.FullName()) + "/" + string(method.Name())
					methods[name] = method
				}
			}
			return true
		})
	if len(methods) == 0 {
		t.Fatal("the API has no method: the test inspects the wrong package")
	}
	return methods
}

func TestEveryMethodHasAPolicy(t *testing.T) {
	methods := apiMethods(t)
	for name, method := range methods {
		p, ok := policies()[name]
		if !ok {
			t.Errorf("%s has no policy", name)
			continue
		}
		options := method.Options().(*descriptorpb.MethodOptions)
		reads := options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		streams := method.IsStreamingServer() || method.IsStreamingClient()
		switch {
		case streams && (p.timeout != 0 || p.repeat):
			t.Errorf("%s is a stream, which lasts; its policy is %+v", name, p)
		case !streams && p.timeout <= 0:
			t.Errorf("%s has no deadline", name)
		case !streams && p.repeat != reads:
			t.Errorf("%s is repeated: %v, and changes nothing: %v", name, p.repeat, reads)
		}
	}
	for name := range policies() {
		if methods[name] == nil {
			t.Errorf("there is a policy for %s, which the API does not have", name)
		}
	}
}

func TestCallsCarryTheDeadlineOfTheirMethod(t *testing.T) {
	var left time.Duration
	s := newServer(t, func(ctx context.Context, _ int) error {
		deadline, ok := ctx.Deadline()
		left = -1
		if ok {
			left = time.Until(deadline)
		}
		return nil
	})
	s.start(t)
	conn := s.dial(t)
	instances := backendv1.NewInstanceServiceClient(conn)
	balancers := backendv1.NewLoadBalancerServiceClient(conn)

	get := func(ctx context.Context) error {
		_, err := instances.GetInstance(ctx, &backendv1.GetInstanceRequest{})
		return err
	}
	change := func(ctx context.Context) error {
		_, err := balancers.RebalanceLoadBalancers(ctx, &backendv1.RebalanceLoadBalancersRequest{})
		return err
	}
	for _, tt := range []struct {
		name string
		ctx  context.Context
		call func(context.Context) error
		want time.Duration
	}{
		{"a read, from a context without a deadline", t.Context(), get, readTimeout},
		{"a change, from a context without a deadline", t.Context(), change, changeTimeout},
		{"a read, from a context with an earlier one", within(t, 5*time.Second), get,
			5 * time.Second},
		{"a read, from a context with a later one", within(t, time.Hour), get, readTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(tt.ctx); err != nil {
				t.Fatal(err)
			}
			if left > tt.want || left < tt.want-2*time.Second {
				t.Errorf("the call arrived with %s left, want just under %s", left, tt.want)
			}
		})
	}
}
