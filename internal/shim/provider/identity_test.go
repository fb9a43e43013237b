// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// reporting gives a node the system UUID of its machine.
func reporting(n *v1.Node, systemUUID string) *v1.Node {
	n.Status.NodeInfo.SystemUUID = systemUUID
	return n
}

// withNodeIP gives a node addresses as a kubelet with --node-ip does.
func withNodeIP(n *v1.Node, addresses ...string) *v1.Node {
	n.Annotations = map[string]string{
		cloudproviderapi.AnnotationAlphaProvidedIPAddr: strings.Join(addresses, ","),
	}
	n.Status.Addresses = []v1.NodeAddress{
		{Type: v1.NodeInternalIP, Address: addresses[0]},
		{Type: v1.NodeHostName, Address: n.Name},
		{Type: v1.NodeExternalIP, Address: "198.51.100.99"},
	}
	return n
}

// Which instance a node is the backend decides, by all that is known of the node.
func TestANodeIsLookedUpByAllThatItReports(t *testing.T) {
	others := []*v1.Node{
		reporting(node("worker-2", id2), strings.ToUpper(id2)), reporting(node("worker-3", id3), id1),
		node("worker-4", ""), reporting(foreignNode("worker-5"), "aws"),
	}
	claims := []*backendv1.MachineClaim{
		{Id: id2, Claimant: "worker-2"}, {Id: id3, Claimant: "worker-3"}, {Id: id1, Claimant: "worker-3"},
		{Id: "aws", Claimant: "worker-5"},
	}
	for _, tt := range []struct {
		name string
		node *v1.Node
		want *backendv1.Machine
	}{
		{"it joins", withNodeIP(joining(reporting(node("worker-1", ""), id1)), "10.0.0.1", "fd00::1"),
			&backendv1.Machine{
				SystemUuid: id1, Name: "worker-1", Claims: claims,
				Addresses: []string{"10.0.0.1", "fd00::1"},
			}},
		{"it joins with a provider ID", withNodeIP(joining(node("worker-1", id1)), "10.0.0.1"),
			&backendv1.Machine{Id: id1, Name: "worker-1", Addresses: []string{"10.0.0.1"}}},
		{"it has joined: its addresses are what this program wrote",
			withNodeIP(reporting(node("worker-1", id1), id2), "10.0.0.1"),
			&backendv1.Machine{Id: id1, SystemUuid: id2, Name: "worker-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t, instance(id1, "worker-1", "10.0.0.1"))
			listNodes(t, p, append(others, tt.node)...)
			if _, err := p.InstanceMetadata(t.Context(), tt.node); err != nil {
				t.Fatal(err)
			}
			request, n := b.last()
			got := request.(*backendv1.GetInstanceRequest).GetMachine()
			diff := cmp.Diff(tt.want, got, protocmp.Transform(),
				protocmp.SortRepeated(func(a, b *backendv1.MachineClaim) bool {
					return a.GetClaimant()+a.GetId() < b.GetClaimant()+b.GetId()
				}))
			if diff != "" || n != 1 {
				t.Errorf("%d requests, the machine (-want +got):\n%s", n, diff)
			}
		})
	}
}

func TestANodeThatCannotBeInitializedSaysWhyOnce(t *testing.T) {
	conflict := backendtest.Fail(codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_IDENTITY_CONFLICT,
		"this machine reports the address 10.9.9.9, but the instance worker-1 has 10.0.0.1")
	for _, tt := range []struct {
		name    string
		node    *v1.Node
		failure error
		says    []string
	}{
		{"no instance", joining(node("worker-9", "")), nil,
			[]string{"no instance is this machine", "--hostname-override", "--provider-id=oxide://"}},
		{"a malformed provider ID", joining(node("worker-1", "worker-1")), nil,
			[]string{`"oxide://worker-1" is malformed`, "delete the Node", "restart"}},
		{"a node IP that is no address of the instance", joining(node("worker-1", "")), conflict,
			[]string{"10.9.9.9", "10.0.0.1", "Correct the one that is wrong: --node-ip"}},
		{"no private address", joining(node("bare", "")), nil, []string{"give it a network interface"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t, instance(id1, "worker-1", "10.0.0.1"), &backendv1.Instance{
				Id: id2, Name: "bare",
			})
			b.failure = tt.failure
			for range 3 {
				if _, err := p.InstanceMetadata(t.Context(), tt.node); err == nil {
					t.Fatal("it was initialized")
				}
				if tt.node.Name != "bare" {
					// The other controller comes back to it, too: a Node without a network is not ready.
					if _, err := p.InstanceExists(t.Context(), tt.node); err == nil {
						t.Fatal("it exists")
					}
				}
			}
			events := b.events.Sent()
			if len(events) != 1 ||
				!strings.HasPrefix(events[0], tt.node.Name+" Warning NodeNotInitialized The Node cannot be") {
				t.Fatalf("the events are %q", events)
			}
			for _, part := range tt.says {
				if !strings.Contains(events[0], part) {
					t.Errorf("the event is %q, want %q", events[0], part)
				}
			}
			// Once that is repaired, the same would be news.
			b.failure = nil
			b.instances = append(b.instances, instance(id3, "worker-9", "10.0.0.3"))
			if _, err := p.InstanceMetadata(t.Context(), tt.node); err != nil {
				return
			}
			b.failure = conflict
			if _, _ = p.InstanceMetadata(t.Context(), tt.node); len(b.events.Sent()) != 2 {
				t.Errorf("the events are %q", b.events.Sent())
			}
		})
	}
}

func TestANotReadyNodeWithoutProviderIDSaysWhatWasLookedFor(t *testing.T) {
	b, p := newPeer(t)
	for range 3 {
		if exists, err := p.InstanceExists(t.Context(), notReady(node("worker-9", ""))); err == nil {
			t.Fatalf("exists: %v", exists)
		}
	}
	events := b.events.Sent()
	if len(events) != 1 || !strings.HasPrefix(events[0], "worker-9 Warning NodeKept ") ||
		!strings.Contains(events[0], "no instance is this machine. Give the Node the name") {
		t.Errorf("the events are %q", events)
	}
}

func TestANameThatSaysOtherwiseIsOneEvent(t *testing.T) {
	b, p := newPeer(t, instance(id1, "worker-1", "10.0.0.1"), instance(id2, "worker-2", "10.0.0.2"))
	b.others = []*backendv1.OtherInstance{{
		Id: id1, Name: "worker-1", IdentifiedBy: backendv1.IdentifiedBy_IDENTIFIED_BY_NAME,
	}}
	n := joining(reporting(node("worker-1", ""), id2))
	for range 3 {
		found, err := p.InstanceMetadata(t.Context(), n)
		if err != nil || found.ProviderID != "oxide://"+id2 {
			t.Fatalf("got %v, %v", found, err)
		}
	}
	events := b.events.Sent()
	if len(events) != 1 || !strings.HasPrefix(events[0], "worker-1 Warning NodeNameMismatch ") ||
		!strings.Contains(events[0], "worker-2 ("+id2+"), found by its system UUID") ||
		!strings.Contains(events[0], "as name it would be the instance worker-1 ("+id1+")") {
		t.Errorf("the events are %q", events)
	}
}

func TestAReadyNodeWhoseInstanceWasCreatedAgainSaysSoOnceAndIsKept(t *testing.T) {
	for _, tt := range []struct {
		name      string
		instances []*backendv1.Instance
		others    []*backendv1.OtherInstance
		exists    bool
	}{
		{"the old instance is gone", []*backendv1.Instance{
			instance(id2, "worker-1", "10.0.0.1"), instance(id3, "worker-2", "10.0.0.2"),
		}, nil, false},
		{"the old instance is there as well", []*backendv1.Instance{
			instance(id1, "worker-1", "10.0.0.9"), instance(id2, "worker-1b", "10.0.0.1"),
		}, []*backendv1.OtherInstance{{
			Id: id2, Name: "worker-1b", IdentifiedBy: backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID,
		}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t, tt.instances...)
			b.others = tt.others
			n := reporting(node("worker-1", id1), id2)
			listNodes(t, p, n, node("worker-2", id3))
			for range 3 {
				_, err := p.InstanceMetadata(t.Context(), n)
				if (err == nil) != tt.exists {
					t.Errorf("metadata: %v", err)
				}
				// It becomes not ready.
				exists, err := p.InstanceExists(t.Context(), n)
				if exists != tt.exists || (err == nil) != tt.exists {
					t.Errorf("exists: %v, %v", exists, err)
				}
			}
			events := b.events.Sent()
			if len(events) != 1 || !strings.HasPrefix(events[0], "worker-1 Warning InstanceReplaced ") ||
				!strings.Contains(events[0], "delete the Node and restart its kubelet") {
				t.Errorf("the events are %q", events)
			}
			if b.live.reads != 0 {
				t.Errorf("%d reads of the Node", b.live.reads)
			}
		})
	}
}

// Invariant 1: the proof takes a while, and the framework deletes a Node by its name.
func TestInvariant1ANodeThatWasReplacedMeanwhileIsNotJudged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(live *liveNodes, n *v1.Node)
		// says is a part of the error; events are how many there are.
		says   string
		events int
	}{
		{"nothing happens", func(*liveNodes, *v1.Node) {}, "", 1},
		{"another of its name registered", func(live *liveNodes, n *v1.Node) {
			n.UID = "another"
			live.byName[n.Name] = n
		}, "not there any more", 0},
		{"it was deleted", func(live *liveNodes, n *v1.Node) { delete(live.byName, n.Name) },
			"not there any more", 0},
		{"it is being deleted", func(live *liveNodes, n *v1.Node) {
			n.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			live.byName[n.Name] = n
		}, "it changed", 1},
		{"it has another provider ID", func(live *liveNodes, n *v1.Node) {
			n.Spec.ProviderID = "oxide://" + id3
			live.byName[n.Name] = n
		}, "it changed", 1},
		{"it reports another machine", func(live *liveNodes, n *v1.Node) {
			live.byName[n.Name] = reporting(n, id3)
		}, "it changed", 1},
		{"it has another stamp", func(live *liveNodes, n *v1.Node) {
			n.Labels[LabelSiloID] = id3
			live.byName[n.Name] = n
		}, "it changed", 1},
		{"it joins", func(live *liveNodes, n *v1.Node) { live.byName[n.Name] = joining(n) },
			"it changed", 1},
		{"the API server does not answer", func(live *liveNodes, _ *v1.Node) {
			live.err = errors.New("no route")
		}, "could not be read again from the API server: no route", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t, instance(id2, "worker-2", "10.0.0.2"))
			n := node("worker-1", id1)
			listNodes(t, p, n, node("worker-2", id2))
			b.meanwhile = func() { tt.change(b.live, n.DeepCopy()) }
			exists, err := p.InstanceExists(t.Context(), n)
			if gone := !exists && err == nil; gone != (tt.says == "") {
				t.Fatalf("got %v, %v", exists, err)
			}
			if tt.says != "" && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the error is %v", err)
			}
			if events := b.events.Sent(); len(events) != tt.events {
				t.Errorf("the events are %q", events)
			}
		})
	}
}

// A finalizer may hold a Node for hours, and both calls come every five seconds.
func TestANodeThatIsBeingDeletedCostsNothing(t *testing.T) {
	b, p := newPeer(t, instance(id2, "worker-2", "10.0.0.2"))
	n := node("worker-1", id1)
	n.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	listNodes(t, p, n, node("worker-2", id2))
	registration.Do(p.RegisterMetrics)
	before := served(t)["oxide_ccm_node_removals_total"]
	for range 100 {
		if exists, err := p.InstanceExists(t.Context(), n); !exists || err != nil {
			t.Fatalf("exists: %v, %v", exists, err)
		}
		if off, err := p.InstanceShutdown(t.Context(), n); off || err != nil {
			t.Fatalf("shut down: %v, %v", off, err)
		}
	}
	if _, requests := b.last(); requests != 0 || b.live.reads != 0 || len(b.events.Sent()) != 0 {
		t.Errorf("%d requests, %d reads, events %q", requests, b.live.reads, b.events.Sent())
	}
	if got := served(t)["oxide_ccm_node_removals_total"]; got != before {
		t.Errorf("%v removals were counted", got-before)
	}
}
