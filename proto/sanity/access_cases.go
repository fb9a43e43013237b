// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func accessCases() []Case {
	return []Case{
		{Name: "access/reader", run: reads, needs: needs{reader: true}, Contract: []string{
			"PERMISSION_DENIED: the client has no right to this call, or to none at all; the message names the " +
				"client and what is missing.",
		}},
	}
}

// reads makes each call that changes something as a client that may only read.
func reads(ctx context.Context, c *checker) {
	reader, err := c.connectBy(c.options.DialReader)
	c.must("a connection of a reader", err)
	c.cleanup(func(context.Context) { _ = reader.grpc.Close() })
	denied := func(what string, err error) {
		c.refused(what+" by a reader", err, codes.PermissionDenied,
			backendv1.ErrorReason_ERROR_REASON_CLIENT_DENIED)
	}
	_, err = reader.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
	c.ok("GetInfo by a reader", err)
	_, err = reader.instances.ListInstances(ctx, &backendv1.ListInstancesRequest{
		View: backendv1.InstanceView_INSTANCE_VIEW_BASIC,
	})
	c.ok("ListInstances by a reader", err)
	apiMethods(func(name string, method protoreflect.MethodDescriptor, changes bool) {
		if changes && !method.IsStreamingClient() {
			denied(name, reader.grpc.Invoke(ctx, name, &emptypb.Empty{}, &emptypb.Empty{}))
		}
	})
	request := c.reservation("reader")
	for range repetitions {
		_, err := reader.addresses.ReserveAddress(ctx, request)
		denied("ReserveAddress", err)
	}
	if c.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		c.countNamed(ctx, request.GetName(), 0)
	}
	if !c.offers(backendv1.Feature_FEATURE_SESSIONS) {
		return
	}
	acting := c.open(ctx, reader, &backendv1.OpenSession{Scope: c.options.Scope})
	denied("an acting session", acting.awaitEnd(ctx, "the end of an acting session of a reader"))
	observing := c.open(ctx, reader, &backendv1.OpenSession{Scope: c.options.Scope, ObserveOnly: true})
	observing.send(inSyncItem())
	observing.await(ctx, "a session of a reader that observes is in sync",
		func(e *events) bool { return e.synced })
	observing.abandon(ctx)
}
