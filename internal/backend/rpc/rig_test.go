// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/pools"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// rig is a service with real sessions on a simulated rack.
type rig struct {
	*testing.T
	rack    *oxidesim.Server
	node    string
	api     *oxide.Client
	finder  *instances.Finder
	manager *session.Manager
	client  backendv1.LoadBalancerServiceClient
	// The other services that the tests here call.
	addresses backendv1.AddressServiceClient
	instances backendv1.InstanceServiceClient
	pools     backendv1.PoolServiceClient
}

// rigOptions are how a rig's backend was started.
type rigOptions struct {
	readOnly bool
	token    string
}

// noAddresses knows no load balancer's address: external addresses of nodes are not tested here.
type noAddresses struct{}

func (noAddresses) IsLoadBalancerAddress(_, _, _ string, _ netip.Addr) bool { return false }
func (noAddresses) Complete() bool                                          { return true }

func newRig(t *testing.T) *rig {
	t.Helper()
	rack := oxidesim.Start(t, oxidesim.Config{})
	node, err := rack.AddInstance(oxidesim.DefaultProject, oxidesim.InstanceSeed{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, rack, rigOptions{})
	r.node = node.ID
	return r
}

// newRigOn starts another backend on a rack.
func newRigOn(t *testing.T, rack *oxidesim.Server, options rigOptions) *rig {
	t.Helper()
	r := &rig{T: t, rack: rack}
	host, err := oxide.ParseHost(r.rack.URL)
	r.must(err)
	token, err := oxide.StaticToken(cmp.Or(options.token, oxidesim.DefaultToken))
	r.must(err)
	r.api, err = oxide.New(oxide.Config{
		Host: host, Token: token, Project: oxidesim.DefaultProject, ReadOnly: options.readOnly,
	}, prometheus.NewRegistry())
	r.must(err)
	inventory := instances.NewInventory(r.api, noAddresses{})
	r.finder = instances.NewFinder(r.api, inventory)
	r.manager = session.NewManager(t.Context(), session.Config{
		API: r.api, Inventory: r.finder, Watcher: inventory,
		FloatingIPs: inventory.FloatingIPs(),
		Registry:    &ownership.Registry{}, ReadOnly: options.readOnly,
	})
	r.serve(inventory)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		r.manager.Stop(ctx)
		r.api.Close()
	})
	return r
}

func (r *rig) serve(inventory *instances.Inventory) {
	r.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(append(ReceiveOptions(),
		grpc.ChainUnaryInterceptor(UnaryErrors, UnarySkew),
		grpc.ChainStreamInterceptor(StreamErrors),
	)...)
	registrar := Registrar{server}
	NewLoadBalancerService(r.manager).RegisterService(registrar)
	NewAddressService(r.manager).RegisterService(registrar)
	NewInstanceService(r.finder, inventory, func(time.Duration) {}).RegisterService(registrar)
	NewPoolService(pools.NewLister(r.api)).RegisterService(registrar)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///backend",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	r.must(err)
	r.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	r.client = backendv1.NewLoadBalancerServiceClient(conn)
	r.addresses = backendv1.NewAddressServiceClient(conn)
	r.instances = backendv1.NewInstanceServiceClient(conn)
	r.pools = backendv1.NewPoolServiceClient(conn)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

type clientStream = grpc.BidiStreamingClient[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]

func (r *rig) stream(items ...*backendv1.SyncLoadBalancersRequest) clientStream {
	r.Helper()
	stream, err := r.client.SyncLoadBalancers(r.Context())
	r.must(err)
	for _, item := range items {
		if err := stream.Send(item); err != nil && !errors.Is(err, io.EOF) {
			r.Fatal(err)
		}
	}
	return stream
}

func itemOpen(open *backendv1.OpenSession) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_Open{Open: open},
	}
}

func itemInSync() *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_InSync{InSync: &backendv1.InSync{}},
	}
}

func itemCandidate(c *backendv1.Candidate) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: c},
	}
}

func itemBalancer(lb *backendv1.DesiredLoadBalancer) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb},
	}
}

// ready is the rig's node, and one load balancer that may use it.
func (r *rig) ready() []*backendv1.SyncLoadBalancersRequest {
	lb := goodDesired()
	lb.EligibleInstances, lb.PublishedAddresses = nil, nil
	return []*backendv1.SyncLoadBalancersRequest{
		itemCandidate(&backendv1.Candidate{
			InstanceId: r.node, DisplayName: "node-1",
			Readiness: backendv1.Readiness_READINESS_READY,
		}),
		itemBalancer(lb),
	}
}

// endOf reads a stream to its end, and returns all that came.
func endOf(stream clientStream) ([]*backendv1.SyncLoadBalancersResponse, error) {
	var events []*backendv1.SyncLoadBalancersResponse
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, event)
	}
}

func wantEnd(t *testing.T, err error, code codes.Code, reason, says string) {
	t.Helper()
	st := status.Convert(err)
	var reasons []string
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reasons = append(reasons, info.GetReason())
		}
	}
	if st.Code() != code || strings.Join(reasons, " ") != reason ||
		!strings.Contains(st.Message(), says) {
		t.Errorf("got %s %v %q, want %s %s %q", st.Code(), reasons, st.Message(), code, reason, says)
	}
}
