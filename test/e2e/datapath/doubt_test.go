// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// patience is for how long nothing may happen: longer than any failover takes.
const patience = 20 * time.Second

// spread makes a Service for each machine but the leader's.
func (s *scene) spread(prefix string, first int32) []service {
	s.Helper()
	all := s.create(prefix, first, len(s.machines)-1, nil)
	used := map[string]bool{s.machines[0].name: true}
	for _, each := range all {
		if used[each.machine.name] {
			s.Fatalf("%s is on %s, which carries another address or the leader", each.name,
				each.machine.name)
		}
		used[each.machine.name] = true
	}
	return all
}

// TestNoSingleSignIsEnough: a host with a dead kubelet answers, and one whose kubelet cannot be
// reached renews its Lease. Both serve, and keep their addresses.
func TestNoSingleSignIsEnough(t *testing.T) {
	s := newOnceScene(t)
	ctx, cancel := s.within(2 * limit)
	defer cancel()
	services := s.create("sign", 8100, 2, nil)
	dead, filtered := services[0].machine, services[1].machine
	if dead == filtered {
		t.Fatalf("both Services are on %s", dead.name)
	}
	before := s.placement(services...)
	dead.killKubelet()
	s.must(filtered.filterKubelet(ctx, true))
	for _, each := range services {
		clients := visit(each.address, each.port, 50*time.Millisecond)
		defer clients.stop()
	}
	// Both signs of each have been there for this long when it ends, but for the one that is missing.
	s.rest(renewInterval + patience)
	s.stays(before, services...)
}

// TestNothingMovesWhileMostMachinesAreSilent: then, as far as the leader knows, it is its own network
// that fails, and the Services say so.
func TestNothingMovesWhileMostMachinesAreSilent(t *testing.T) {
	s := newOnceScene(t)
	ctx, cancel := s.within(3 * limit)
	defer cancel()
	services := s.spread("most", 8200)
	before := s.placement(services...)
	silent := services[:len(services)-1]
	for _, each := range silent {
		_, err := each.machine.vanish(ctx)
		s.must(err)
	}
	for _, each := range silent {
		s.saysItIsHeld(ctx, each, "fewer than half of the other candidates that are probed answer")
	}
	s.rest(patience)
	s.stays(before, services...)
	// The network comes back for all at once. What ran on them starts again one after another.
	for _, each := range silent {
		s.must(each.machine.plugIn(ctx))
	}
	for _, each := range silent {
		s.must(each.machine.comeBack(ctx))
	}
	for _, each := range silent {
		s.must(process.Await(ctx, func(ctx context.Context) (bool, error) {
			condition, err := s.condition(ctx, each)
			return err == nil && condition.Status == metav1.ConditionTrue, err
		}))
	}
	s.stays(before, services...)
}

// TestALeaderThatIsCutOffMovesNothing although it still reaches Oxide.
func TestALeaderThatIsCutOffMovesNothing(t *testing.T) {
	s := newOnceScene(t)
	ctx, cancel := s.within(3 * limit)
	defer cancel()
	services := s.spread("cut", 8300)
	before := s.placement(services...)
	_, err := s.machines[0].vanish(ctx)
	s.must(err)
	select {
	case <-s.ccm.Shim.Done(): // it has lost its lease
	case <-ctx.Done():
		t.Fatal("the leader goes on without its lease")
	}
	s.stays(before, services...)
	s.must(s.machines[0].comeBack(ctx))
	s.must(s.ccm.StartShim(ctx))
	s.rest(patience)
	s.stays(before, services...)
}

// rest waits while nothing may happen.
func (s *scene) rest(d time.Duration) { time.Sleep(d) }

// condition returns the condition of a Service.
func (s *scene) condition(ctx context.Context, of service) (metav1.Condition, error) {
	object, err := s.client.CoreV1().Services("default").Get(ctx, of.name, metav1.GetOptions{})
	if err != nil {
		return metav1.Condition{}, err
	}
	condition := meta.FindStatusCondition(object.Status.Conditions, objects.ReadyCondition)
	if condition == nil {
		return metav1.Condition{}, nil
	}
	return *condition, nil
}

// saysItIsHeld waits until the condition of a Service says that its address stays although its node
// does not answer, and why.
func (s *scene) saysItIsHeld(ctx context.Context, of service, why string) {
	s.Helper()
	var last metav1.Condition
	err := process.Await(ctx, func(ctx context.Context) (held bool, err error) {
		now, err := s.condition(ctx, of)
		if err == nil {
			last = now
		}
		return last.Reason == "FailoverHeld" && strings.Contains(last.Message, why), err
	})
	if err != nil {
		s.Fatalf("%s says %s: %q: %v", of.name, last.Reason, last.Message, err)
	}
}
