// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestInvariant1ANodeIsNeverDeletedOnDoubt(t *testing.T) {
	const (
		exists = "exists"
		gone   = "gone"
	)
	second := instance(id2, "worker-2", "172.30.0.12")
	for _, tt := range []struct {
		name string
		node *v1.Node
		// others are the other nodes; nil means worker-2, whose instance is there.
		others []*v1.Node
		change func(*peer)
		// want is "exists", "gone", or a part of the error.
		want string
	}{
		{name: "the instance is there", node: node("worker-2", id2), want: exists},
		{name: "the instance is proven gone", node: node("worker-1", id1), want: gone},
		{name: "its id is written in capitals", node: node("worker-2", strings.ToUpper(id2)),
			want: exists},
		{name: "it was deleted and created again under its name", node: node("worker-1", id1),
			change: func(b *peer) {
				b.instances = append(b.instances, instance(id3, "worker-1", "172.30.0.11"))
			}, want: gone},
		{name: "no stamp", node: func() *v1.Node {
			n := node("worker-1", id1)
			n.Labels = nil
			return n
		}(), want: "it has no labels oxide.computer/silo-id"},
		{name: "half a stamp", node: func() *v1.Node {
			n := node("worker-1", id1)
			delete(n.Labels, LabelProjectID)
			return n
		}(), want: "it has no labels"},
		{name: "no stamp, and the instance is there", node: func() *v1.Node {
			n := node("worker-2", id2)
			n.Labels = nil
			return n
		}(), want: exists},
		{name: "the backend works in another project", node: node("worker-1", id1),
			change: func(b *peer) { b.project = id3 }, want: "absence is not proven"},
		{name: "the backend works in another silo", node: node("worker-1", id1),
			change: func(b *peer) { b.silo = id3 }, want: "absence is not proven"},
		{name: "the last node", node: node("worker-1", id1), others: []*v1.Node{},
			want: "no other node"},
		{name: "the others are of another provider or have no provider ID",
			node: node("worker-1", id1), others: []*v1.Node{foreignNode("x"), node("y", "")},
			want: "no other node"},
		{name: "another node names the same instance, and no other does",
			node: node("worker-1", id1), others: []*v1.Node{node("twin", id1)},
			want: "no other node"},
		{name: "all instances are gone at once", node: node("worker-1", id1),
			change: func(b *peer) { b.instances = nil }, want: "absence is not proven"},
		{name: "still joining", node: joining(node("worker-1", id1)), want: "still joining"},
		{name: "still joining, with the stamp of its last life", node: func() *v1.Node {
			n := node("worker-1", id1)
			stamp := n.Labels
			n = joining(n)
			n.Labels = stamp
			return n
		}(), want: "still joining"},
		{name: "no provider ID, and no instance of its name", node: node("worker-9", ""),
			want: "no instance is this machine"},
		{name: "no provider ID, and an instance of its name", node: node("worker-2", ""),
			want: exists},
		{name: "a foreign provider ID", node: foreignNode("other"), want: exists},
		{name: "a malformed provider ID", node: node("worker-1", "not-a-uuid"),
			want: "is malformed"},
		{name: "the backend is not there", node: node("worker-1", id1),
			change: func(b *peer) { b.failure = status.Error(codes.DeadlineExceeded, "") },
			want:   "did not answer in time"},
		{name: "a not-found that the backend did not make", node: node("worker-1", id1),
			change: func(b *peer) { b.failure = status.Error(codes.NotFound, "404") },
			want:   "404"},
		{name: "a not-found of something else", node: node("worker-1", id1),
			change: func(b *peer) {
				b.failure = backendtest.Fail(codes.NotFound,
					backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND, "no balancer")
			}, want: "no balancer"},
		{name: "a not-found with a reason that is newer than this program",
			node: node("worker-1", id1),
			change: func(b *peer) {
				b.failure = backendtest.Fail(codes.NotFound, 0, "perhaps not found")
			}, want: "perhaps not found"},
		{name: "credentials rejected", node: node("worker-1", id1),
			change: func(b *peer) {
				b.failure = backendtest.Fail(codes.FailedPrecondition,
					backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED, "bad token")
			}, want: "bad token"},
		{name: "project not readable", node: node("worker-1", id1),
			change: func(b *peer) {
				b.failure = backendtest.Fail(codes.FailedPrecondition,
					backendv1.ErrorReason_ERROR_REASON_PROJECT_NOT_FOUND, "no project")
			}, want: "no project"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, p := newPeer(t, second)
			if tt.change != nil {
				tt.change(b)
			}
			others := tt.others
			if others == nil {
				others = []*v1.Node{node("worker-2", id2)}
			}
			listNodes(t, p, append(slices.Clone(others), tt.node)...)

			got, err := p.InstanceExists(t.Context(), tt.node)
			events := b.events.Sent()
			switch tt.want {
			case exists, gone:
				if err != nil || got != (tt.want == exists) {
					t.Errorf("InstanceExists() = %v, %v; want %s", got, err, tt.want)
				}
				if tt.want == gone && (len(events) != 1 ||
					!strings.HasPrefix(events[0], "worker-1 Normal InstanceGone ")) {
					t.Errorf("the events are %q", events)
				}
			default:
				if len(events) != 1 || !strings.Contains(events[0], tt.want) ||
					!strings.HasPrefix(events[0], tt.node.Name+" Warning NodeKept ") {
					t.Errorf("the events %q do not say why", events)
				}
				if err == nil {
					t.Fatalf("InstanceExists() = %v; want an error", got)
				}
				text := err.Error()
				if !strings.Contains(text, tt.want) || !strings.Contains(text, tt.node.Name) {
					t.Errorf("the error is %q, want it to name the node and %q", text, tt.want)
				}
				if strings.Contains(text, "\n") || strings.Contains(text, "rpc error") {
					t.Errorf("the error is no line for people: %q", text)
				}
			}
		})
	}
}

func TestReferenceInstances(t *testing.T) {
	id := func(n string) string { return strings.Repeat(n, 8) + id1[8:] }
	nodes := []*v1.Node{
		notReady(node("a", id("a"))), node("g", id("6")), node("b", id("b")), node("c", id("b")),
		foreignNode("d"), node("e", "nonsense"), node("f", ""), node("i", id("8")),
		node("h", id("7")), node("j", id("9")), node("self", id1),
	}
	want := []string{id("b"), id("6"), id("7"), id("8"), id("9")}
	if diff := cmp.Diff(want, referenceInstances(nodes, id1)); diff != "" {
		t.Errorf("ready nodes first, each instance once, five at most (-want +got):\n%s", diff)
	}
	few := []*v1.Node{notReady(node("a", id("a"))), node("self", id1), node("z", id("b"))}
	if diff := cmp.Diff([]string{id("b"), id("a")}, referenceInstances(few, id1)); diff != "" {
		t.Errorf("a node that is not ready is a witness too (-want +got):\n%s", diff)
	}
}

func TestInstanceShutdown(t *testing.T) {
	off := instance(id1, "worker-1", "172.30.0.11")
	off.ShutDown = true
	_, p := newPeer(t, off, instance(id2, "worker-2", "172.30.0.12"))
	for _, tt := range []struct {
		name    string
		node    *v1.Node
		want    bool
		wantErr bool
	}{
		{"off", node("worker-1", id1), true, false},
		{"on", node("worker-2", id2), false, false},
		{"of another provider", foreignNode("x"), false, false},
		{"gone", node("worker-3", id3), false, true},
		{"malformed provider ID", node("worker-1", "oops"), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := p.InstanceShutdown(t.Context(), tt.node)
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("InstanceShutdown() = %v, %v; want %v, error: %v",
					got, err, tt.want, tt.wantErr)
			}
		})
	}
}

// foreignNode returns a node of another provider.
func foreignNode(name string) *v1.Node {
	n := node(name, "")
	n.Spec.ProviderID = "aws:///us-east-1/i-0123456789"
	return n
}
