// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// The framework asks about a Node that is not ready every five seconds, for as long as it is there.
func TestANodeWhoseInstanceCannotBeProvenGoneCostsFewQuestions(t *testing.T) {
	unstamped := func(n *v1.Node) { n.Labels = nil }
	fail := func(reason backendv1.ErrorReason) error {
		return backendtest.Fail(codes.FailedPrecondition, reason, "no proof")
	}
	for _, tc := range []struct {
		what    string
		change  func(*v1.Node)
		alone   bool
		failure error
		// passes: it is asked again each time.
		passes bool
	}{
		{what: "no stamp", change: unstamped},
		{what: "the last Node", alone: true},
		{what: "still joining", change: func(n *v1.Node) {
			n.Spec.Taints = []v1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized"}}
		}},
		{what: "another silo", failure: fail(backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN)},
		{what: "replaced", failure: fail(backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED)},
		{
			what:    "Oxide is away",
			failure: fail(backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE), passes: true,
		},
	} {
		t.Run(tc.what, func(t *testing.T) {
			b, p := newPeer(t, instance(id2, "worker-2", "172.30.0.12"))
			b.failure = tc.failure
			gone := node("worker-1", id1)
			if tc.change != nil {
				tc.change(gone)
			}
			if tc.alone {
				listNodes(t, p, gone)
			} else {
				listNodes(t, p, gone, node("worker-2", id2))
			}
			const questions = 20
			for range questions {
				if exists, err := p.InstanceExists(t.Context(), gone); exists || err == nil {
					t.Fatalf("%v, %v", exists, err)
				}
			}
			want := promptProofs
			if tc.passes {
				want = questions
			}
			if _, asked := b.last(); asked != want {
				t.Errorf("it was asked %d times, want %d", asked, want)
			}
		})
	}
}

// What makes the absence provable counts at once.
func TestADeletionThatCanBeProvenWaitsForNothing(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, p *Provider, n *v1.Node){
		"the stamp comes": func(_ *testing.T, _ *Provider, n *v1.Node) {
			n.Labels = node("worker-1", id1).Labels
		},
		"it has come from another silo": func(_ *testing.T, _ *Provider, n *v1.Node) {
			n.Labels[LabelSiloID] = silo
		},
		"another Node comes": func(t *testing.T, p *Provider, n *v1.Node) {
			listNodes(t, p, n, node("worker-2", id2))
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, p := newPeer(t, instance(id2, "worker-2", "172.30.0.12"))
			gone := node("worker-1", id1)
			nodes := []*v1.Node{gone, node("worker-2", id2)}
			switch what {
			case "the stamp comes":
				gone.Labels = nil
			case "it has come from another silo":
				gone.Labels[LabelSiloID] = id3
			default:
				nodes = nodes[:1]
			}
			listNodes(t, p, nodes...)
			for range 10 {
				if exists, err := p.InstanceExists(t.Context(), gone); exists || err == nil {
					t.Fatalf("%v, %v", exists, err)
				}
			}
			change(t, p, gone)
			if exists, err := p.InstanceExists(t.Context(), gone); exists || err != nil {
				t.Errorf("%v, %v; want that it is gone", exists, err)
			}
		})
	}
}

func TestADoubtfulNodeIsAskedAboutOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d unprovenAbsences
		n := node("worker-1", id1)
		asked := 0
		for range 30 * 12 {
			if d.pending(n, "it") == nil {
				asked++
				d.note(n, "it", errors.New("not proven"))
			}
			time.Sleep(5 * time.Second)
		}
		if asked > promptProofs+30 {
			t.Errorf("asked %d times in 30 minutes", asked)
		}
		if d.pending(n, "another") != nil {
			t.Error("the Node has changed, and is not asked about")
		}
		d.forget(n.UID)
		if d.pending(n, "it") != nil {
			t.Error("it was forgotten, and is not asked about")
		}
	})
}
