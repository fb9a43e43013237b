// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// vip returns the status that publishes these addresses.
func vip(addresses ...string) *v1.LoadBalancerStatus {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{}
	for _, address := range addresses {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address, IPMode: &mode})
	}
	return status
}

// floatingIP returns a floating IP on the instance with this private address; empty: on none.
func floatingIP(address, private string) *backendv1.LoadBalancerAddress {
	a := &backendv1.LoadBalancerAddress{
		Family: backendv1.IpFamily_IP_FAMILY_IPV4, Address: address, ResourceName: "lb-shop-web",
		Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP, Managed: true,
	}
	if private != "" {
		a.Attachment = &backendv1.Attachment{InstanceId: id1, PrivateAddress: private}
	}
	return a
}

func condition(t backendv1.ConditionType, message string) *backendv1.Condition {
	return &backendv1.Condition{Type: t, Message: message}
}

// answer makes the backend answer every EnsureLoadBalancer with this state.
func (b *peer) answer(addresses []*backendv1.LoadBalancerAddress,
	conditions ...*backendv1.Condition,
) {
	b.ensure = func(r *backendv1.EnsureLoadBalancerRequest,
	) (*backendv1.EnsureLoadBalancerResponse, error) {
		return &backendv1.EnsureLoadBalancerResponse{LoadBalancer: &backendv1.LoadBalancer{
			Key: r.GetLoadBalancer().GetKey(), Addresses: addresses, Conditions: conditions,
		}}, nil
	}
}

func TestEnsureLoadBalancer(t *testing.T) {
	attached := floatingIP("198.51.100.9", "172.30.0.11")
	reserved := floatingIP("198.51.100.9", "")
	subnet := &backendv1.LoadBalancerAddress{
		Source:  backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET,
		Address: "203.0.113.4", Attachment: &backendv1.Attachment{InstanceId: id1},
	}
	for _, tt := range []struct {
		name       string
		nodes      []*v1.Node
		addresses  []*backendv1.LoadBalancerAddress
		conditions []*backendv1.Condition
		want       *v1.LoadBalancerStatus
		// wantErr is a part of the error, and retry when it is retried; 0: with growing delays.
		wantErr string
		retry   time.Duration
	}{
		{name: "a floating IP is published with its node's private address",
			nodes:     []*v1.Node{node("worker-1", id1)},
			addresses: []*backendv1.LoadBalancerAddress{attached},
			want:      vip("198.51.100.9", "172.30.0.11")},
		{name: "the address of an external subnet is published alone",
			nodes:     []*v1.Node{node("worker-1", id1)},
			addresses: []*backendv1.LoadBalancerAddress{subnet},
			want:      vip("203.0.113.4")},
		{name: "no candidate: every node is named with its reason",
			nodes:     []*v1.Node{notReady(node("worker-1", id1)), node("worker-2", "")},
			addresses: []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{
				condition(backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, "none"),
			},
			wantErr: "worker-1 is not Ready, worker-2 has no provider ID yet " +
				"(198.51.100.9 is reserved)",
			retry: 10 * time.Second},
		{name: "no candidate, because there is no node",
			addresses: []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{
				condition(backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, "none"),
			},
			wantErr: "there is none", retry: 10 * time.Second},
		{name: "a port conflict: waiting does not help",
			addresses: []*backendv1.LoadBalancerAddress{reserved},
			conditions: []*backendv1.Condition{
				condition(backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT,
					"TCP 80 is held by shop/older"),
			},
			wantErr: "TCP 80 is held by shop/older"},
		{name: "a change that waits for Oxide",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{
				condition(backendv1.ConditionType_CONDITION_TYPE_PENDING, "instance is starting"),
			},
			wantErr: "instance is starting", retry: 10 * time.Second},
		{name: "what is only worth knowing hinders nothing",
			addresses: []*backendv1.LoadBalancerAddress{attached},
			conditions: []*backendv1.Condition{
				condition(backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED, "open TCP 80"),
				condition(backendv1.ConditionType_CONDITION_TYPE_DEGRADED, "not healthy"),
				condition(99, "a type that is newer than this program"),
			},
			want: vip("198.51.100.9", "172.30.0.11")},
		{name: "an address without a reason for being detached",
			addresses: []*backendv1.LoadBalancerAddress{reserved},
			wantErr:   "no address is attached yet", retry: 10 * time.Second},
		{name: "no address at all is never success", wantErr: "no address is attached yet",
			retry: 10 * time.Second},
		{name: "a node without a private address of the family",
			addresses: []*backendv1.LoadBalancerAddress{{
				Source:  backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
				Address: "198.51.100.9", Attachment: &backendv1.Attachment{InstanceId: id1},
			}},
			wantErr: "has no private address"},
		{name: "a kind of address that is newer than this program",
			addresses: []*backendv1.LoadBalancerAddress{{
				Source: 99, Address: "198.51.100.9",
				Attachment: &backendv1.Attachment{InstanceId: id1},
			}},
			wantErr: "too old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t)
			b.answer(tt.addresses, tt.conditions...)
			got, err := p.EnsureLoadBalancer(t.Context(), "kubernetes", service(), tt.nodes)
			if tt.wantErr == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("status (-want +got):\n%s", diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("the error is %v, want %q in it", err, tt.wantErr)
			}
			checkRetry(t, err, tt.retry)
		})
	}
}

func TestEnsureSendsTheFullDesiredState(t *testing.T) {
	b, p := newPeer(t)
	b.answer([]*backendv1.LoadBalancerAddress{floatingIP("198.51.100.9", "172.30.0.11")})
	nodes := []*v1.Node{node("worker-1", id1), notReady(node("worker-2", id2)), node("x", "")}
	if _, err := p.EnsureLoadBalancer(t.Context(), "any", service(), nodes); err != nil {
		t.Fatal(err)
	}
	list, _ := candidates(nodes)
	want := &backendv1.EnsureLoadBalancerRequest{
		Cluster:      &backendv1.Cluster{Scope: scope, Candidates: list},
		LoadBalancer: wantedLB(),
	}
	got, _ := b.last()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestAServiceThatCannotBeServedIsNotSent(t *testing.T) {
	b, p := newPeer(t)
	_, err := p.EnsureLoadBalancer(t.Context(), "", service(func(s *v1.Service) {
		s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
	}), nil)
	if err == nil {
		t.Error("it was accepted")
	}
	checkRetry(t, err, 0)
	if _, n := b.last(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestUpdateLoadBalancer(t *testing.T) {
	deleted := metav1.NewTime(created)
	address := floatingIP("198.51.100.9", "172.30.0.11")
	published := func(s *v1.Service) {
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}
	noCandidate := condition(backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, "none")
	for _, tt := range []struct {
		name string
		// current is the Service as it is now; the framework passes an older one.
		current    *v1.Service
		addresses  []*backendv1.LoadBalancerAddress
		conditions []*backendv1.Condition
		failure    error
		calls      int
		wantErr    string
		retry      time.Duration
	}{
		{name: "nothing moved", current: service(published),
			addresses: []*backendv1.LoadBalancerAddress{address}, calls: 1},
		{name: "the address moved: an error makes the framework write the status",
			current:   service(published),
			addresses: []*backendv1.LoadBalancerAddress{floatingIP("198.51.100.9", "172.30.0.12")},
			calls:     1, wantErr: "moved to another node"},
		{name: "no candidate: the address stays reserved", current: service(published),
			addresses:  []*backendv1.LoadBalancerAddress{floatingIP("198.51.100.9", "")},
			conditions: []*backendv1.Condition{noCandidate}, calls: 1},
		{name: "the Service is gone: nothing must be made for it", calls: 0},
		{name: "the Service is being deleted", current: service(func(s *v1.Service) {
			s.DeletionTimestamp = &deleted
		}), calls: 0},
		{name: "the Service wants no load balancer any more",
			current: service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }), calls: 0},
		{name: "another Service has its name",
			current: service(func(s *v1.Service) { s.UID = "uid-2" }), calls: 0},
		{name: "the backend fails", current: service(published), calls: 1,
			failure: fail(codes.FailedPrecondition,
				backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, "refused"), wantErr: "refused"},
		{name: "the backend is busy", current: service(published), calls: 1,
			failure: fail(codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_BUSY, "busy",
				retryInfo(2*time.Second)), wantErr: "busy", retry: 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t)
			b.answer(tt.addresses, tt.conditions...)
			b.failure = tt.failure
			if tt.current != nil {
				listServices(t, p, tt.current)
			} else {
				listServices(t, p)
			}
			err := p.UpdateLoadBalancer(t.Context(), "", service(), []*v1.Node{node("a", id1)})
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("the error is %v", err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Errorf("the error is %v, want %q in it", err, tt.wantErr)
			}
			checkRetry(t, err, tt.retry)
			if _, n := b.last(); n != tt.calls {
				t.Errorf("the backend was called %d times, want %d", n, tt.calls)
			}
		})
	}
}

func TestUpdateUsesTheServiceAsItIsNow(t *testing.T) {
	b, p := newPeer(t)
	b.answer([]*backendv1.LoadBalancerAddress{floatingIP("198.51.100.9", "172.30.0.11")})
	listServices(t, p, service(func(s *v1.Service) {
		s.Spec.Ports[0].Port = 8080
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}))
	if err := p.UpdateLoadBalancer(t.Context(), "", service(), nil); err != nil {
		t.Fatal(err)
	}
	request, _ := b.last()
	got := request.(*backendv1.EnsureLoadBalancerRequest).GetLoadBalancer().GetPorts()
	if len(got) != 1 || got[0].GetPort() != 8080 {
		t.Errorf("the ports sent are %v, want those of the current Service", got)
	}
}

func TestGetLoadBalancer(t *testing.T) {
	deleted := metav1.NewTime(created)
	class := "example.com/other"
	notFound := fail(codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND, "none")
	for _, tt := range []struct {
		name    string
		service *v1.Service
		get     error
		exists  bool
		calls   int
		wantErr bool
	}{
		// "No" would make the framework drop its finalizer without deleting anything.
		{name: "being deleted: yes, without asking", exists: true, service: service(
			func(s *v1.Service) { s.DeletionTimestamp = &deleted })},
		{name: "no load balancer any more: yes, without asking", exists: true, service: service(
			func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP })},
		{name: "of another class now: yes, without asking", exists: true, service: service(
			func(s *v1.Service) { s.Spec.LoadBalancerClass = &class })},
		{name: "it is there", service: service(), exists: true, calls: 1},
		{name: "it is not there", service: service(), get: notFound, calls: 1},
		{name: "nobody knows", service: service(), calls: 1, wantErr: true, get: fail(
			codes.NotFound, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND, "what?")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t)
			b.get = func(*backendv1.GetLoadBalancerRequest) (*backendv1.GetLoadBalancerResponse, error) {
				return &backendv1.GetLoadBalancerResponse{LoadBalancer: &backendv1.LoadBalancer{
					Addresses: []*backendv1.LoadBalancerAddress{
						floatingIP("198.51.100.9", "172.30.0.11"),
					},
				}}, tt.get
			}
			status, exists, err := p.GetLoadBalancer(t.Context(), "", tt.service)
			if exists != tt.exists || (err != nil) != tt.wantErr {
				t.Errorf("GetLoadBalancer() = %v, %v, %v; want exists %v, error: %v",
					status, exists, err, tt.exists, tt.wantErr)
			}
			if exists && status == nil {
				t.Error("it exists and has no status")
			}
			if _, n := b.last(); n != tt.calls {
				t.Errorf("the backend was asked %d times, want %d", n, tt.calls)
			}
		})
	}
}

func TestEnsureLoadBalancerDeleted(t *testing.T) {
	b, p := newPeer(t)
	b.delete = func(*backendv1.DeleteLoadBalancerRequest,
	) (*backendv1.DeleteLoadBalancerResponse, error) {
		return &backendv1.DeleteLoadBalancerResponse{}, nil
	}
	if err := p.EnsureLoadBalancerDeleted(t.Context(), "", service()); err != nil {
		t.Fatal(err)
	}
	got, _ := b.last()
	want := &backendv1.DeleteLoadBalancerRequest{
		Key: &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"}, OwnerUid: "uid-1",
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}

	b.failure = fail(codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE, "the instance has failed")
	err := p.EnsureLoadBalancerDeleted(t.Context(), "", service())
	if err == nil || err.Error() != "the instance has failed" {
		t.Errorf("the error is %v", err)
	}
}

// The framework gives some calls no deadline; the connection's own must hold then. The provider
// must not take the caller's cancellation away from it.
func TestACancelledCallIsCancelled(t *testing.T) {
	b, p := newPeer(t)
	b.answer([]*backendv1.LoadBalancerAddress{floatingIP("198.51.100.9", "172.30.0.11")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.EnsureLoadBalancer(ctx, "", service(), nil); err == nil {
		t.Error("the call went on")
	}
}
