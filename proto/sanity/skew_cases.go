// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const skewContract = "UNIMPLEMENTED: a request that changes something has fields or values that this " +
	"backend does not know; the message names them. Nothing was changed."

// unknownNumber is the number of a field, and of a value, that no revision of the API has.
const unknownNumber = 9999

func skewCases() []Case {
	return []Case{
		{Name: "skew/unknown-fields", run: unknownFields, needs: needs{changes: true},
			Contract: []string{skewContract}},
		{Name: "skew/unknown-fields-inside", run: unknownInside,
			needs: needs{changes: true, features: operations}, Contract: []string{skewContract}},
		{Name: "skew/unknown-values", run: unknownValues,
			needs: needs{changes: true, features: operations}, Contract: []string{skewContract}},
		{Name: "skew/unknown-items", run: unknownItems,
			needs: needs{changes: true, features: sessions}, Contract: []string{skewContract}},
		{Name: "skew/readers", run: skewedReads, Contract: []string{
			skewContract, "Readers must accept reasons that they do not know, and then act on the status code.",
		}},
	}
}

// withUnknown returns a copy of a message with a field of a newer API.
func withUnknown[M proto.Message](message M) M {
	copied := clone(message)
	m := copied.ProtoReflect()
	m.SetUnknown(append(m.GetUnknown(),
		protowire.AppendVarint(protowire.AppendTag(nil, unknownNumber, protowire.VarintType), 1)...))
	return copied
}

// apiMethods are the methods of the API that are no streams.
func apiMethods(visit func(name string, method protoreflect.MethodDescriptor, changes bool)) {
	name := backendv1.File_oxide_backend_v1_backend_service_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(name, func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				options, _ := method.Options().(*descriptorpb.MethodOptions)
				visit("/"+string(service.FullName())+"/"+string(method.Name()), method,
					options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS)
			}
		}
		return true
	})
}

func (c *checker) skewed(what string, err error) bool {
	return c.refused(what, err, codes.Unimplemented, backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW)
}

// unknownFields sends a field that no backend knows by each call that changes something.
func unknownFields(ctx context.Context, c *checker) {
	apiMethods(func(name string, method protoreflect.MethodDescriptor, changes bool) {
		if !changes || method.IsStreamingClient() {
			return
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
		if !c.ok("the request of "+name, err) {
			return
		}
		err = c.invoke(ctx, name, withUnknown(kind.New().Interface()))
		if reasonOf(err) == backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED {
			return // it does not offer the call
		}
		c.skewed(name+" with an unknown field", err)
	})
}

func unknownInside(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("skewed"))
	request := withUnknown(c.reservation("skewed"))
	for range repetitions {
		_, err := c.addresses.ReserveAddress(ctx, request)
		if !c.skewed("ReserveAddress with an unknown field", err) {
			break
		}
	}
	c.countNamed(ctx, request.GetName(), 0)
	adopt := c.adoption(address, withUnknown(c.balancer("skewed").GetKey()))
	_, err := c.addresses.AdoptAddress(ctx, adopt)
	c.skewed("AdoptAddress with an unknown field in its key", err)
	c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED)
	remove := withUnknown(&backendv1.DeleteAddressRequest{
		Source: address.GetSource(), ResourceId: address.GetResourceId(),
	})
	_, err = c.addresses.DeleteAddress(ctx, remove)
	c.skewed("DeleteAddress with an unknown field", err)
	c.countNamed(ctx, address.GetName(), 1)
}

func unknownValues(ctx context.Context, c *checker) {
	request := c.reservation("skewed")
	request.Family = unknownNumber
	_, err := c.addresses.ReserveAddress(ctx, request)
	c.skewed("ReserveAddress of an unknown family", err)
	request = c.reservation("skewed")
	request.Source = unknownNumber
	_, err = c.addresses.ReserveAddress(ctx, request)
	c.skewed("ReserveAddress from an unknown source", err)
	c.countNamed(ctx, request.GetName(), 0)
	_, err = c.addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
		Source: unknownNumber, ResourceId: absentID, InstanceId: absentID,
	})
	c.skewed("DetachAddress of an unknown source", err)
}

func unknownItems(ctx context.Context, c *checker) {
	open := &backendv1.OpenSession{Scope: c.options.Scope}
	ending, family, nested := c.balancer("skewed"), c.balancer("skewed"), c.balancer("skewed")
	ending.Ending = unknownNumber
	family.Addresses[0].Family = unknownNumber
	nested.Addresses[0] = withUnknown(nested.GetAddresses()[0])
	for what, items := range map[string][]*backendv1.SyncLoadBalancersRequest{
		"an unknown item":              {openItem(open), withUnknown(&backendv1.SyncLoadBalancersRequest{})},
		"open with an unknown field":   {openItem(withUnknown(open))},
		"a candidate with one":         {openItem(open), candidateItem(withUnknown(readyCandidate(absentID)))},
		"a load balancer with one":     {openItem(open), balancerItem(withUnknown(c.balancer("skewed")))},
		"one inside a load balancer":   {openItem(open), balancerItem(nested)},
		"an unknown kind of an ending": {openItem(open), balancerItem(ending)},
		"an unknown family":            {openItem(open), balancerItem(family)},
	} {
		s := c.stream(ctx, c.conn)
		s.scope = c.options.Scope
		for _, item := range items {
			s.send(item)
		}
		c.skewed(what, s.awaitEnd(ctx, what+" ends the stream"))
	}
	for _, lb := range []*backendv1.DesiredLoadBalancer{ending, family, nested} {
		c.gone(ctx, lb.GetKey())
	}
}

// skewedReads holds that a client which is newer still reads.
func skewedReads(ctx context.Context, c *checker) {
	_, err := c.backend.GetInfo(ctx, withUnknown(&backendv1.GetInfoRequest{}))
	c.ok("GetInfo with an unknown field", err)
	_, err = c.instances.ListInstances(ctx, withUnknown(&backendv1.ListInstancesRequest{
		View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
	}))
	c.ok("ListInstances with an unknown field", err)
	_, err = c.balancers.ListLoadBalancers(ctx, withUnknown(&backendv1.ListLoadBalancersRequest{}))
	c.ok("ListLoadBalancers with an unknown field", err)
	apiMethods(func(name string, method protoreflect.MethodDescriptor, changes bool) {
		if changes || method.IsStreamingServer() || strings.HasSuffix(name, "/GetInfo") {
			return
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
		if !c.ok("the request of "+name, err) {
			return
		}
		err = c.invoke(ctx, name, withUnknown(kind.New().Interface()))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			c.inspect(name, err)
		}
		c.holds(reasonOf(err) != backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW,
			name+" with an unknown field", "no VERSION_SKEW, since it changes nothing", describe(err))
	})
}
