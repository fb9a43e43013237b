// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// diary has what is done in Oxide and in Kubernetes, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

// finalized is what a Service has before anything is made for it.
func finalized(s *v1.Service) {
	s.Finalizers = []string{servicehelpers.LoadBalancerCleanupFinalizer}
}

// move is what a look finds where the address of the plain service is to leave instance 1 for 2.
func move() (*backendv1.LoadBalancerResult, []*backendv1.Action) {
	address := onNode("198.51.100.9", "172.30.0.11")
	address.ResourceId = "fip-1"
	address.PlannedAttachment = &backendv1.Attachment{InstanceId: id2, PrivateAddress: "172.30.0.12"}
	action := func(kind backendv1.ActionType, instance string) *backendv1.Action {
		return &backendv1.Action{
			Key:  &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
			Type: kind, ResourceId: "fip-1", Address: "198.51.100.9", InstanceId: instance,
			Why: "instance 1 is no healthy candidate",
		}
	}
	return found([]*backendv1.LoadBalancerAddress{address}), []*backendv1.Action{
		action(backendv1.ActionType_ACTION_TYPE_DETACH, id1),
		action(backendv1.ActionType_ACTION_TYPE_ATTACH, id2),
	}
}

func moved() *backendv1.LoadBalancerResult {
	address := onNode("198.51.100.9", "172.30.0.12")
	address.Attachment.InstanceId = id2
	return found([]*backendv1.LoadBalancerAddress{address})
}

func TestTheStatusLeadsAMove(t *testing.T) {
	both := "status 198.51.100.9 172.30.0.11 172.30.0.12"
	groupVersion := schema.GroupResource{Resource: "services"}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		// patches are the answers to writes of the status; the last one holds.
		patches []error
		result  *backendv1.LoadBalancerResult
		want    []string
		// events are the reasons of what is told.
		events []string
	}{
		{name: "the new place is published, then the address moves, then the old place is not any more",
			service: service(finalized), result: moved(),
			want:   []string{both, "change shop/web", "status 198.51.100.9 172.30.0.12"},
			events: []string{ReasonMoved}},
		{name: "before the framework's finalizer is on nothing is made that nobody would delete",
			service: service(), result: moved()},
		{name: "the status cannot be written: the address does not move",
			service: service(finalized), patches: []error{errors.New("no answer")}, result: moved(),
			want: []string{both}},
		{name: "the Service is gone, or another one has its name: until the cache knows it nothing moves",
			service: service(finalized),
			patches: []error{apierrors.NewConflict(groupVersion, "web", errors.New("uid"))},
			result:  moved(), want: []string{both, both}},
		{name: "Oxide does not do it: both places stay published", service: service(finalized),
			result: func() *backendv1.LoadBalancerResult {
				result, _ := move()
				result.Problem = &backendv1.Problem{
					Reason:     backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE,
					Message:    "the sled does not answer",
					RetryDelay: durationpb.New(time.Hour),
				}
				return result
			}(), want: []string{both, "change shop/web"}, events: []string{ReasonPending}},
		{name: "it moves, and only another address cannot be given back: the old place is not published",
			service: service(finalized), result: func() *backendv1.LoadBalancerResult {
				result := moved()
				result.GetLoadBalancer().GetAddresses()[0].ResourceId = "fip-1"
				return withProblem(result, backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE)
			}(), want: []string{both, "change shop/web", "status 198.51.100.9 172.30.0.12"},
			events: []string{ReasonPending, ReasonMoved}},
		{name: "another change is under way there: nobody need know", service: service(finalized),
			result: func() *backendv1.LoadBalancerResult {
				result, _ := move()
				return withProblem(result, backendv1.ErrorReason_ERROR_REASON_BUSY)
			}(), want: []string{both, "change shop/web"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.service.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
			nodes := []*v1.Node{node("worker-1", id1, tainted(toBeDeleted)), node("worker-2", id2)}
			b, c := newPeer(t, tt.service, nodes[0], nodes[1])
			c.config.Pace.Retry = time.Hour
			var did diary
			client := fake.NewClientset(tt.service)
			patches := slices.Clone(tt.patches)
			client.PrependReactor("patch", "services", func(action clienttesting.Action,
			) (bool, runtime.Object, error) {
				var ips []string
				for _, ingress := range writtenBy(t, action.(clienttesting.PatchAction)).Ingress {
					ips = append(ips, ingress.IP)
				}
				did.note("status " + strings.Join(ips, " "))
				if len(patches) == 0 {
					now := tt.service.DeepCopy()
					now.Status.LoadBalancer = *writtenBy(t, action.(clienttesting.PatchAction))
					list(t, c, now, nodes[0], nodes[1])
					return true, now, nil
				}
				err := patches[0]
				if len(patches) > 1 {
					patches = patches[1:]
				}
				return true, nil, err
			})
			c.client = client
			b.looks = func(*reconcileRequest) *reconcileResponse {
				result, actions := move()
				return &reconcileResponse{
					Results: []*backendv1.LoadBalancerResult{result}, Actions: actions,
				}
			}
			b.changes = func(r *reconcileRequest) *reconcileResponse {
				did.note("change " + strings.Join(r.GetOnly().GetNames(), " "))
				return &reconcileResponse{Results: []*backendv1.LoadBalancerResult{tt.result}}
			}
			// The second one finds that it is too early to try again, or to move again.
			for range 2 {
				if _, err := c.lookAround(t.Context(), false); err != nil {
					t.Fatal(err)
				}
				c.changes.Wait()
				c.config.Pace.MoveInterval = time.Hour
			}
			if diff := cmp.Diff(tt.want, did.entries); diff != "" {
				t.Errorf("done (-want +got):\n%s", diff)
			}
			var reasons []string
			for _, event := range b.events.Take() {
				reasons = append(reasons, strings.Fields(event)[3])
			}
			if diff := cmp.Diff(tt.events, reasons); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if c.isMoving("shop/web") {
				t.Error("the change never ends")
			}
		})
	}
}

// A call may move the addresses of many Services, one after the other: each may move again 30 s after
// its own move, and the metrics tell of that.
func TestAMoveCountsFromWhenItsAddressWasAttached(t *testing.T) {
	moving := service(finalized)
	_, c := newPeer(t)
	c.client = fake.NewClientset(moving)
	before, done := move()
	attached := time.Now().Add(-20 * time.Second)
	done[0].EndTime = timestamppb.New(attached.Add(-time.Second))
	done[1].EndTime = timestamppb.New(attached)
	d := change{service: moving, lb: before.GetLoadBalancer(), actions: done}
	c.conclude(t.Context(), factsOf(nil), group{}, d, moved(), done)
	if got := c.byName["shop/web"].movedAt; !got.Equal(attached) {
		t.Errorf("it moved at %s, want %s", got, attached)
	}
}

// What is to be released is published until it is, and proves whose it is; a node that was left is not,
// for another Service may be there.
func TestOnlyWhatIsInUseStaysPublishedUntilItIsReleased(t *testing.T) {
	at := func(private string) func(*v1.Node) {
		return func(n *v1.Node) {
			n.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: private}}
		}
	}
	result, actions := move()
	release := func(instance string) change {
		return change{
			service: service(func(s *v1.Service) {
				s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.12", "198.51.100.8", "172.30.0.13")
			}),
			lb: result.GetLoadBalancer(),
			actions: append(slices.Clone(actions), &backendv1.Action{
				Type: backendv1.ActionType_ACTION_TYPE_DETACH, ResourceId: "fip-0",
				Address: "198.51.100.8", InstanceId: instance,
			}),
		}
	}
	f := factsOf([]*v1.Node{
		node("worker-1", id1, at("172.30.0.11")), node("worker-2", id2, at("172.30.0.12")),
		node("worker-3", id3, at("172.30.0.13")),
	})
	if diff := cmp.Diff(vip("198.51.100.8", "172.30.0.13"), f.toRelease(release(id3))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, tt := range map[string]struct {
		port int32
		end  backendv1.ActionType
		want *v1.LoadBalancerStatus
	}{
		"another Service has the port there": {80, backendv1.ActionType_ACTION_TYPE_DELETE, vip()},
		"another Service has another port there": {81, backendv1.ActionType_ACTION_TYPE_DELETE,
			vip("198.51.100.8", "172.30.0.13")},
		"another Service has the port there, and only this proves whose it is": {80, 0,
			vip("198.51.100.8", "172.30.0.13")},
	} {
		t.Run(name, func(t *testing.T) {
			d, disputed := release(id3), f
			if tt.end != 0 {
				d.actions = append(d.actions, &backendv1.Action{Type: tt.end, ResourceId: "fip-0"})
			}
			disputed.services = []*v1.Service{d.service, service(named("shop", "other"), port(tt.port),
				func(s *v1.Service) { s.Status.LoadBalancer = *vip("198.51.100.7", "172.30.0.13") })}
			if diff := cmp.Diff(tt.want, disputed.toRelease(d), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	gone := release("44444444-4444-4444-8444-444444444444")
	if diff := cmp.Diff(&gone.service.Status.LoadBalancer, f.toRelease(gone)); diff != "" {
		t.Errorf("of an instance whose Node is gone (-want +got):\n%s", diff)
	}
}

func TestWhatWaitsForOxideIsNamed(t *testing.T) {
	on := func(id, instance string) *backendv1.LoadBalancerAddress {
		address := onNode("198.51.100.9", "172.30.0.11")
		address.ResourceId, address.Attachment = id, nil
		if instance != "" {
			address.Attachment = &backendv1.Attachment{InstanceId: instance}
		}
		return address
	}
	_, actions := move()
	former := []*backendv1.Action{{
		Type:    backendv1.ActionType_ACTION_TYPE_DETACH,
		Address: "198.51.100.8", ResourceId: "fip-0", InstanceId: id1,
	}}
	for _, tt := range []struct {
		name    string
		actions []*backendv1.Action
		now     *backendv1.LoadBalancerAddress
		want    string
	}{
		{"it is where it was", actions, on("fip-1", id1),
			"The address 198.51.100.9 cannot leave worker-1 yet: why it cannot be"},
		{"it has left", actions, on("fip-1", ""),
			"The address 198.51.100.9 cannot be attached to worker-2 yet: why it cannot be"},
		{"it is there, and the one before it is not given back", former, on("fip-1", id2),
			"The address 198.51.100.8, which is not wanted any more, cannot leave worker-1 yet: " +
				"why it cannot be"},
		{"it is another one than was planned", actions, on("fip-2", ""), "why it cannot be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t)
			planned, _ := move()
			d := change{service: service(), lb: planned.GetLoadBalancer(), actions: tt.actions}
			result := withProblem(found([]*backendv1.LoadBalancerAddress{tt.now}),
				backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE)
			c.tellPending(d, result, factsOf([]*v1.Node{node("worker-1", id1), node("worker-2", id2)}))
			if diff := cmp.Diff([]string{warned(ReasonPending, tt.want)}, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
