// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// Invariants 5 and 7: an address moves away from a Node that cannot serve it any more, in seconds,
// and for nothing else; and the status always tells the truth.
func TestFailover(t *testing.T) {
	together(t, settings{},
		row{"an instance is stopped", "stopped", 2, instanceStopped},
		row{"an instance is deleted", "deleted", 2, instanceDeleted},
		row{"an instance fails and is restarted", "failed", 2, instanceFailed},
		row{"an instance crashes, and Oxide restarts it", "crashed", 2, instanceCrashed},
		row{"an instance starts, stops or migrates", "busy", 2, instanceBusy},
		row{"a sled is unreachable", "sled", 2, sledUnreachable},
		row{"a kubelet is dead", "silent", 2, kubeletDead},
		row{"a Node says that it is not ready", "notready", 2, nodeNotReady},
		row{"a Node flaps", "flapping", 2, nodeFlaps},
		row{"a Node is excluded by its label", "excluded", 2, nodeExcluded},
		row{"a Node is deleted", "removed", 2, nodeDeleted},
		row{"no other candidate is left", "alone", 1, noOtherCandidate},
		row{"there is no candidate at first", "nowhere", 1, noCandidateAtFirst},
		row{"a Node joins that sorts first", "joining", 1, nodeJoins},
		row{"an address goes there and back", "back", 2, thereAndBack},
		row{"a stale status is written", "stale", 2, staleStatus},
		row{"a stale status is written in the middle of a move", "middle", 2, staleStatusInTheMiddle},
		row{"endpoints decide under externalTrafficPolicy Local", "local", 3, localFollows},
		row{"endpoints are replaced one after the other", "rolling", 3, localRollingUpdate},
	)
}

func instanceStopped(p *pool) {
	s := p.place("", objects.TCP(80))
	p.must(p.rack.StopInstance(p.Context(), s.node))
	s.moved()
	p.told(s.key, "AddressMoved", s.address, s.node, s.other, "stopped")
	// It comes back, and the address does not.
	p.must(p.rack.StartInstance(p.Context(), s.node))
	p.settled()
	s.moved()
	if n, _ := asked(s.changes(), "floating_ip_attach"); n != 2 {
		p.Errorf("the address was attached %d times, want 2: %+v", n, s.changes())
	}
}

func instanceDeleted(p *pool) {
	s := p.place("", objects.TCP(80))
	p.must(p.rack.DeleteInstance(p.Context(), s.node))
	s.moved()
	p.ready(corev1.ConditionUnknown, s.node)
	p.awaitRemoval(s.node)
	p.settled()
	s.moved()
}

// Oxide neither detaches nor attaches anything while an instance is failed.
func instanceFailed(p *pool) {
	s := p.place("", objects.TCP(80))
	p.must(p.rack.SetRunState(p.Context(), s.node, "failed"))
	p.told(s.key, "AddressPending", s.address, s.node, "failed")
	if n, refused := asked(s.changes(), "floating_ip_detach"); n == 0 || n != refused {
		p.Errorf("%d requests to detach, %d of them refused", n, refused)
	}
	p.must(p.rack.StartInstance(p.Context(), s.node))
	p.settled()
	p.servedBy(s.key, s.address)
	if node := p.nodeOf(s.address); node != s.node {
		p.Errorf("the instance runs again, and the address went to %s", node)
	}
}

// What comes of it depends on who is faster. The Service is served in any case.
func instanceCrashed(p *pool) {
	s := p.place("", objects.TCP(80))
	p.must(p.rack.CrashInstance(p.Context(), s.node))
	p.runs(s.node)
	p.settled()
	p.servedBy(s.key, s.address)
}

func instanceBusy(p *pool) {
	s := p.place("", objects.TCP(80))
	// By itself it is no reason to move anything: it will pass.
	for _, state := range []string{"starting", "migrating"} {
		p.must(p.rack.SetRunState(p.Context(), s.node, state))
		p.sees(s.node, state)
		s.stayed()
	}
	// While it is stopping the next place is published already, and the address stays.
	p.must(p.rack.SetRunState(p.Context(), s.node, "stopping"))
	s.awaitBothPublished()
	if changes := s.changes(); len(changes) != 1 {
		p.Errorf("the address had to stay on %s, and the rack was asked: %+v", s.node, changes)
	}
	// What has to move waits, and is tried again and again.
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	p.told(s.key, "AddressPending", s.address, s.node)
	p.must(p.rack.SetRunState(p.Context(), s.node, "running"))
	s.moved()
	if n, refused := asked(s.changes(), "floating_ip_detach"); n != refused+1 {
		p.Errorf("%d requests to detach, %d of them refused: want one that was carried out",
			n, refused)
	}
}

func sledUnreachable(p *pool) {
	s := p.place("", objects.TCP(80))
	p.must(p.rack.LoseSled(p.Context(), s.node))
	p.ready(corev1.ConditionUnknown, s.node)
	p.told(s.key, "AddressPending", s.address, s.node)
	p.must(p.rack.RecoverSled(p.Context(), s.node))
	s.moved()
}

func kubeletDead(p *pool) {
	s := p.place("", objects.TCP(80))
	p.ready(corev1.ConditionUnknown, s.node)
	s.moved()
	p.told(s.key, "AddressMoved", s.address, s.node, s.other, "silent")
}

func nodeNotReady(p *pool) {
	s := p.place("", objects.TCP(80))
	p.ready(corev1.ConditionFalse, s.node)
	began := time.Now()
	s.stayed()
	s.moved()
	for _, q := range s.changes() {
		// The time of a transition in Kubernetes is one of whole seconds.
		if wait := q.Began.Sub(began); q.Operation == "floating_ip_detach" &&
			(wait < 19*time.Second || wait > 23*time.Second) {
			p.Errorf("the address was detached %s after the Node became not ready", wait)
		}
	}
}

// A Node that is not ready for a moment, and again and again, keeps its addresses.
func nodeFlaps(p *pool) {
	s := p.place("", objects.TCP(80))
	const period = 4 * time.Second
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for range 6 {
		p.ready(corev1.ConditionFalse, s.node)
		<-ticker.C
		p.ready(corev1.ConditionTrue, s.node)
		p.settled()
	}
	s.stayed()
}

func nodeExcluded(p *pool) {
	s := p.place("", objects.TCP(80))
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	s.moved()
	p.told(s.key, "AddressMoved", s.address, s.node, s.other, corev1.LabelNodeExcludeBalancers)
}

func nodeDeleted(p *pool) {
	s := p.place("", objects.TCP(80))
	p.deleteNode(s.node)
	s.moved()
}

func noOtherCandidate(p *pool) {
	s := p.place("", objects.TCP(80))
	p.ready(corev1.ConditionUnknown, s.node)
	p.warned(s.key, "LoadBalancerDegraded", s.address, s.node)
	s.stayed()
	p.ready(corev1.ConditionTrue, s.node)
	s.stayed()
	p.warned(s.key, "LoadBalancerDegraded")
}

func noCandidateAtFirst(p *pool) {
	p.ready(corev1.ConditionUnknown, p.nodes[0])
	p.settled()
	service := p.make("", nil, objects.TCP(80))
	address := p.reserved(service)
	p.warned(service, "NoCandidate", address, p.nodes[0])
	p.ready(corev1.ConditionTrue, p.nodes[0])
	p.servedBy(service, address)
}

func nodeJoins(p *pool) {
	s := p.place("", objects.TCP(80))
	p.addMachine("a-node-of-"+p.name, "172.30.2.10")
	p.registerIn(p.name, "a-node-of-"+p.name)
	p.initialized("a-node-of-" + p.name)
	s.stayed()
}

// An address moves at most once in half a minute.
func thereAndBack(p *pool) {
	s := p.place("", objects.TCP(80))
	p.ready(corev1.ConditionUnknown, s.node)
	s.moved()
	p.ready(corev1.ConditionTrue, s.node)
	p.ready(corev1.ConditionUnknown, s.other)
	began := time.Now()
	p.movedTo(s.key, s.address, s.node) // a node that serves nothing is left at once
	if took := time.Since(began); took > 5*time.Second {
		p.Errorf("it went back after %s", took)
	}
	// One that still serves is left once in half a minute.
	p.ready(corev1.ConditionTrue, s.other)
	p.settled()
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	s.moved()
	var moves []time.Time
	for _, q := range s.changes() {
		if q.Operation == "floating_ip_detach" {
			moves = append(moves, q.Began)
		}
	}
	if len(moves) != 3 || moves[2].Sub(moves[1]) < 29*time.Second {
		p.Errorf("moves began at %v, want three of them, the last one half a minute after the other", moves)
	}
}
