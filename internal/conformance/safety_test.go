// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// dial connects to the backend of a rig.
func (r *rig) dial() *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient("unix://"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	r.must(err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// node adds an instance to the rack.
func (r *rig) node(name string) oxidesim.Instance {
	r.t.Helper()
	node, err := r.rack.AddInstance("demo", oxidesim.InstanceSeed{Name: name})
	r.must(err)
	return node
}

// serve has a load balancer of a scope served by an instance, and keeps the session until the test ends, or
// until the returned function is called.
func (r *rig) serve(scope, name string, port int32, node oxidesim.Instance) (end func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	stream, err := backendv1.NewLoadBalancerServiceClient(r.dial()).SyncLoadBalancers(ctx)
	r.must(err)
	lb := &backendv1.DesiredLoadBalancer{
		Key: &backendv1.LoadBalancerKey{Scope: scope, Name: name}, OwnerUid: "uid-1", Generation: 1,
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}},
		Ports:         []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: port}},
		NoPublication: true,
	}
	for _, i := range []*item{
		{Item: &backendv1.SyncLoadBalancersRequest_Open{Open: &backendv1.OpenSession{Scope: scope}}},
		{Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: &backendv1.Candidate{
			InstanceId: node.ID, Readiness: backendv1.Readiness_READINESS_READY,
		}}},
		{Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb}},
		{Item: &backendv1.SyncLoadBalancersRequest_InSync{InSync: &backendv1.InSync{}}},
	} {
		r.must(stream.Send(i))
	}
	for {
		e, err := stream.Recv()
		r.must(err)
		if e.GetState().GetPhase() == backendv1.Phase_PHASE_READY {
			break
		}
	}
	return func() {
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
	}
}

// Promise: what an earlier run has left behind is removed at the start, and nothing else.
func TestWhatAnEarlierRunLeftIsRemoved(t *testing.T) {
	t.Parallel()
	r := start(t)
	node := r.node("node-1")
	r.serve(sanity.DefaultScope, "sanity/left", 81, node)()
	r.serve("a-cluster", "default/web", 80, node)()
	addresses := backendv1.NewAddressServiceClient(r.dial())
	for _, name := range []string{"oxide-sanity-left-1", "oxide-sanityleft", "front-door"} {
		reserved, err := addresses.ReserveAddress(t.Context(), &backendv1.ReserveAddressRequest{
			Name: name, Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
		})
		r.must(err)
		_, err = addresses.AttachAddress(t.Context(), &backendv1.AttachAddressRequest{
			Source:     backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			ResourceId: reserved.GetAddress().GetResourceId(), InstanceId: node.ID,
		})
		r.must(err)
	}
	options := r.options(r.socket)
	options.FaultURL, options.Select = "", selecting("backend/info", "addresses/reserve-ten-times")
	report, err := sanity.Run(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	check(t, report, nil)
	want := []string{"load balancer oxide-sanity sanity/left", "address oxide-sanity-left-1"}
	if !slices.Equal(report.Removed, want) {
		t.Errorf("removed %q, want %q", report.Removed, want)
	}
	var left []string
	for _, ip := range r.rack.FloatingIPs() {
		left = append(left, strings.Split(ip.Name, "-web-")[0])
		if ip.InstanceID != node.ID {
			t.Errorf("%s is attached to %q", ip.Name, ip.InstanceID)
		}
	}
	if !slices.Equal(left, []string{"front-door", "lb-default", "oxide-sanityleft"}) {
		t.Errorf("there are %q", left)
	}
}

// Promise: the suite refuses to run where it would touch what is not its own.
func TestItRefusesToTouchOthers(t *testing.T) {
	t.Parallel()
	r := start(t)
	node, free := r.node("node-1"), r.node("node-2")
	refused := func(what, says string, change func(*sanity.Options)) {
		t.Helper()
		before := r.rack.State()
		options := r.options(r.socket)
		options.FaultURL, options.Select = "", selecting("addresses/attach-ten-times")
		change(&options)
		report, err := sanity.Run(t.Context(), options)
		if report != nil || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want one that says %q", what, err, says)
		}
		after := r.rack.State()
		if len(after.FloatingIPs) != len(before.FloatingIPs) || len(after.Instances) != len(before.Instances) {
			t.Errorf("%s: the rack has changed: %+v", what, after)
		}
	}
	end := r.serve("a-cluster", "default/web", 80, node)
	refused("an instance that serves somebody", "the load balancer default/web of the scope a-cluster",
		func(o *sanity.Options) { o.Instances = []string{"node-2", "node-1"} })
	refused("faults of a backend that somebody uses", "a session of the scope a-cluster",
		func(o *sanity.Options) { o.FaultURL, o.Instances = r.rack.URL, []string{"node-2"} })
	refused("a restart of a backend that somebody uses", "a session of the scope a-cluster",
		func(o *sanity.Options) { o.Restart = r.restart })
	end()
	refused("an instance that is not there", "the instance node-3",
		func(o *sanity.Options) { o.Instances = []string{"node-3"} })
	_, err := r.rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: "front-door", Instance: "node-2"})
	r.must(err)
	refused("an instance with an address", "carries the address front-door",
		func(o *sanity.Options) { o.Instances = []string{free.ID} })
	r.serve(sanity.DefaultScope, "sanity/running", 81, node)
	refused("another run", "another run with the scope oxide-sanity", func(*sanity.Options) {})

	options := r.options(r.socket)
	options.Instances = []string{"node-1"}
	if _, err := sanity.Run(t.Context(), options); !errors.Is(err, sanity.ErrRefused) {
		t.Errorf("%v is not ErrRefused", err)
	}
}

// Promise: whatever is under way when a run is interrupted, it leaves nothing behind.
func TestAnInterruptedRunLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, one := range []string{
		"addresses/attach-ten-times", "session/again-ten-times", "session/publish-before-attach",
		"faults/503", "reasons/instance-limit", "plan/rebalance",
	} {
		t.Run(strings.ReplaceAll(one, "/", "-"), func(t *testing.T) {
			t.Parallel()
			r := start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for ctx.Err() == nil && len(r.rack.FloatingIPs()) == 0 {
					time.Sleep(time.Millisecond)
				}
				cancel()
			}()
			options := r.options(r.socket)
			options.Select = selecting(one, "backend/info")
			report, err := sanity.Run(ctx, options)
			if err != nil {
				t.Fatal(err)
			}
			last := report.Results[len(report.Results)-1]
			if !report.Interrupted || last.Outcome != sanity.Skipped || last.Why != "interrupted" {
				t.Errorf("interrupted: %t; %+v", report.Interrupted, last)
			}
			r.isClean()
			if faults := r.rack.Faults(); len(faults) != 0 {
				t.Errorf("the rack still fails: %+v", faults)
			}
		})
	}
}
