// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func backendCases() []Case {
	return []Case{
		{Name: "backend/info", run: info, Contract: []string{
			"GetInfo describes the backend.",
			"The silo's id, a UUID in lower-case hyphenated form. It never changes.",
			"The project's id, a UUID in lower-case hyphenated form. It never changes.",
			"The revision of this API that the backend implements: it grows whenever fields, values or calls " +
				"are added.",
		}},
		{Name: "backend/acting-scopes", run: actingScopes,
			needs: needs{changes: true, features: []feature{backendv1.Feature_FEATURE_SESSIONS}},
			Contract: []string{
				"The scopes of the acting sessions that run here, in alphabetical order; none where every " +
					"client stands by.",
			}},
		{Name: "backend/health", run: health, Contract: []string{
			"the service name \"\" (empty) means that the process serves; \"oxide.backend.v1.BackendService\" " +
				"means that Oxide accepts the credentials and the project can be read.",
			"NOT_FOUND: the service named in a health check is not known.",
		}},
		{Name: "backend/unknown-method", run: unknownMethod, Contract: []string{
			"UNIMPLEMENTED: this backend does not offer the call or the feature, or does not know the method; " +
				"the message says which.",
		}},
		{Name: "backend/undecodable-request", run: undecodable, Contract: []string{
			"So is a request that cannot be decoded, or is larger than 16 MiB.",
		}},
		{Name: "backend/features-not-listed", run: notListed, Contract: []string{
			"UNIMPLEMENTED where GetInfo does not list FEATURE_POOLS",
			"UNIMPLEMENTED where GetInfo does not list FEATURE_FIREWALL_OPERATIONS.",
		}},
	}
}

func info(ctx context.Context, c *checker) {
	for range repetitions {
		got, err := c.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
		c.must("GetInfo", err)
		c.holds(got.GetVersion() != "", "version", "the version of the program", "nothing")
		c.holds(got.GetOxideApiVersion() != "", "oxide_api_version", "a version", "nothing")
		c.holds(got.GetApiRevision() >= 1, "api_revision", "at least 1", got.GetApiRevision())
		for what, id := range map[string]string{
			"silo.id": got.GetSilo().GetId(), "project.id": got.GetProject().GetId(),
		} {
			c.holds(uuidPattern.MatchString(id), what, "a UUID in lower-case hyphenated form", id)
		}
		equal(c, "silo.id", got.GetSilo().GetId(), c.info.GetSilo().GetId())
		equal(c, "project.id", got.GetProject().GetId(), c.info.GetProject().GetId())
		c.holds(got.GetProject().GetName() != "", "project.name", "a name", "nothing")
		c.holds(!slices.Contains(got.GetFeatures(), backendv1.Feature_FEATURE_UNSPECIFIED), "features",
			"no FEATURE_UNSPECIFIED", got.GetFeatures())
	}
}

func actingScopes(ctx context.Context, c *checker) {
	var sessions []*session
	for _, open := range []*backendv1.OpenSession{
		{Scope: c.secondScope()}, {Scope: c.options.Scope},
		{Scope: c.options.Scope + ".third", ObserveOnly: true},
	} {
		s := c.open(ctx, c.conn, open)
		s.send(inSyncItem())
		s.await(ctx, "a session is in sync", func(e *events) bool { return e.synced })
		sessions = append(sessions, s)
	}
	got, err := c.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
	c.must("GetInfo", err)
	scopes := got.GetActingScopes()
	c.holds(slices.IsSorted(scopes), "acting_scopes", "alphabetical order", scopes)
	for _, scope := range []string{c.options.Scope, c.secondScope()} {
		c.holds(slices.Contains(scopes, scope), "acting_scopes with a session of "+scope, scope, scopes)
	}
	c.holds(!slices.Contains(scopes, c.options.Scope+".third"), "acting_scopes with one that observes",
		"without that", scopes)
	for _, s := range sessions {
		s.close(ctx)
	}
	none := func() (string, bool) {
		got, err := c.backend.GetInfo(ctx, &backendv1.GetInfoRequest{})
		return fmt.Sprint(got.GetActingScopes(), err), err == nil &&
			!slices.ContainsFunc(got.GetActingScopes(), c.isOwn)
	}
	c.await(ctx, "acting_scopes after the sessions", "none of them", c.options.Settle, none)
}

func health(ctx context.Context, c *checker) {
	for _, service := range []string{"", "oxide.backend.v1.BackendService"} {
		got, err := c.health.Check(ctx, &healthv1.HealthCheckRequest{Service: service})
		if c.ok(fmt.Sprintf("the health of %q", service), err) {
			equal(c, fmt.Sprintf("the health of %q", service), got.GetStatus(),
				healthv1.HealthCheckResponse_SERVING)
		}
	}
	_, err := c.health.Check(ctx, &healthv1.HealthCheckRequest{Service: "oxide.sanity.v1.Unknown"})
	c.refused("the health of an unknown service", err, codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
}

// invoke makes a call with any message as its request.
func (c *checker) invoke(ctx context.Context, method string, request proto.Message) error {
	return c.grpc.Invoke(ctx, method, request, &emptypb.Empty{})
}

func unknownMethod(ctx context.Context, c *checker) {
	for _, method := range []string{
		"/oxide.backend.v1.BackendService/Unknown", "/oxide.sanity.v1.Unknown/Unknown",
		"/oxide.sanity.v1." + strings.Repeat("x", 2000) + "/Unknown",
	} {
		c.refused(bounded(method), c.invoke(ctx, method, &emptypb.Empty{}), codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED)
	}
}

func undecodable(ctx context.Context, c *checker) {
	broken := &emptypb.Empty{}
	broken.ProtoReflect().SetUnknown([]byte{0x0a, 0x05, 0x01}) // a field that is longer than the message
	for _, method := range []string{
		backendv1.InstanceService_GetInstance_FullMethodName,
		backendv1.AddressService_ReserveAddress_FullMethodName,
	} {
		c.invalid("a request that cannot be decoded", c.invoke(ctx, method, broken))
	}
	c.invalid("a request of 17 MiB", c.invoke(ctx,
		backendv1.LoadBalancerService_PlanLoadBalancers_FullMethodName,
		wrapperspb.Bytes(make([]byte, 17<<20))))
	stream, err := c.grpc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
		backendv1.InstanceService_WatchInstances_FullMethodName)
	c.must("to open a stream", err)
	err = errors.Join(stream.SendMsg(broken), stream.CloseSend())
	if err == nil {
		err = stream.RecvMsg(&emptypb.Empty{})
	}
	c.invalid("a stream whose request cannot be decoded", err)
}

// notListed calls what belongs to features that the backend does not list.
func notListed(ctx context.Context, c *checker) {
	scope := c.options.Scope
	missing := 0
	for f, call := range map[feature]func() error{
		backendv1.Feature_FEATURE_POOLS: func() error {
			_, err := c.pools.ListPools(ctx, &backendv1.ListPoolsRequest{})
			return err
		},
		backendv1.Feature_FEATURE_FIREWALL_OPERATIONS: func() error {
			_, err := c.firewall.ListFirewallRules(ctx, &backendv1.ListFirewallRulesRequest{Scope: scope})
			return err
		},
		backendv1.Feature_FEATURE_RESERVED_ADDRESSES: func() error {
			_, err := c.addresses.ListAddresses(ctx, &backendv1.ListAddressesRequest{})
			return err
		},
		backendv1.Feature_FEATURE_ADDRESS_OPERATIONS: func() error {
			_, err := c.addresses.ListOrphanedAddresses(ctx,
				&backendv1.ListOrphanedAddressesRequest{Scope: scope})
			return err
		},
		backendv1.Feature_FEATURE_WATCH_INSTANCES: func() error {
			stream, err := c.instances.WatchInstances(ctx, &backendv1.WatchInstancesRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		if c.offers(f) {
			continue
		}
		missing++
		c.refused("a call of "+f.String(), call(), codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED)
	}
	if missing == 0 {
		c.skip("the backend lists all features that have calls of their own")
	}
}
