// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// TestAStoppedInstanceIsReplaced measures from when an instance is asked to stop, at which nothing on
// it answers any more, until clients of its Services are answered again.
func TestAStoppedInstanceIsReplaced(t *testing.T) {
	s := newFirstScene(t)
	of := s.create("stopped", 8700, 1, nil)
	took, stop := s.stopped(of)
	s.figures.hold(t, "failover_stopped_seconds", took[0])
	s.figures.hold(t, "failover_stopped_stopping_seconds", stop)
}

// TestManyAddressesOfAStoppedInstance measures it for many Services of one instance.
func TestManyAddressesOfAStoppedInstance(t *testing.T) {
	s := newLongScene(t)
	took, _ := s.stopped(s.crowded(wanted{prefix: "stopped", first: 9100, count: crowd}))
	s.figures.holdMany(t, "failover_stopped", took)
}

// TestASilentKubeletIsReplaced measures from Ready=Unknown, while the host goes on serving.
func TestASilentKubeletIsReplaced(t *testing.T) {
	s := newFirstScene(t)
	took, lost := s.silent(s.create("silent", 8710, 1, nil))
	s.figures.hold(t, "failover_silent_seconds", took[0])
	s.figures.hold(t, "failover_silent_outage_seconds", lost[0])
}

// TestManyAddressesOfASilentKubelet measures it for many Services of one node.
func TestManyAddressesOfASilentKubelet(t *testing.T) {
	s := newLongScene(t)
	took, _ := s.silent(s.crowded(wanted{prefix: "silent", first: 9200, count: crowd}))
	s.figures.holdMany(t, "failover_silent", took)
}

// holdMany keeps the median and the longest of many times.
func (f figures) holdMany(t *testing.T, name string, took []time.Duration) {
	t.Helper()
	f.hold(t, fmt.Sprintf("%s_%d_addresses_median_seconds", name, crowd), median(took))
	f.hold(t, fmt.Sprintf("%s_%d_addresses_seconds", name, crowd), slices.Max(took))
}

// visitAll lets clients connect to Services, and waits until all are answered.
func (s *scene) visitAll(services []service) []*visitor {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	interval := 10 * time.Millisecond
	if len(services) > 1 {
		interval = 50 * time.Millisecond
	}
	visitors := make([]*visitor, len(services))
	for i, of := range services {
		visitors[i] = visit(of.address, of.port, interval)
		s.Cleanup(visitors[i].stop)
	}
	for _, visitor := range visitors {
		_, err := visitor.firstAnswer(ctx, time.Now())
		s.must(err)
	}
	return visitors
}

// stopped stops the instance that carries Services, and returns how long it took until clients of
// each were answered, and until Oxide showed that it was stopped. The instance runs again then.
func (s *scene) stopped(services []service) (took []time.Duration, stop time.Duration) {
	s.Helper()
	ctx, cancel := s.within(2 * limit)
	defer cancel()
	host := services[0].machine
	visitors := s.visitAll(services)
	began, err := host.vanish(ctx)
	s.must(err)
	stopping := make(chan error, 1)
	go func() {
		err := s.rack.StopInstance(ctx, host.name)
		stop = time.Since(began)
		stopping <- err
	}()
	took = make([]time.Duration, len(services))
	errs := make([]error, len(services))
	var group sync.WaitGroup
	for i, of := range services {
		group.Go(func() {
			move, err := s.crossing.moved(ctx, began, of.address)
			if err != nil {
				errs[i] = err
				return
			}
			answered, err := visitors[i].firstAnswer(ctx, move.cut)
			took[i], errs[i] = answered.Sub(began), err
		})
	}
	group.Wait()
	s.must(<-stopping)
	for _, err := range errs {
		s.must(err)
	}
	s.Logf("served elsewhere after%s, stopped after %.2f s", seconds(took), stop.Seconds())
	s.must(s.rack.StartInstance(ctx, host.name))
	s.must(host.comeBack(ctx))
	return took, stop
}

// silent ends the kubelet that carries Services, and has its Node called unknown as by Kubernetes. It
// returns how long it took from then until clients of each were answered at the next node, and for how
// long they were not.
func (s *scene) silent(services []service) (took, lost []time.Duration) {
	s.Helper()
	ctx, cancel := s.within(2 * limit)
	defer cancel()
	host := services[0].machine
	visitors := s.visitAll(services)
	host.killKubelet()
	defer func() { s.must(objects.SetReady(ctx, s.client, host.name, corev1.ConditionTrue)) }()
	began := time.Now()
	s.must(objects.SetReady(ctx, s.client, host.name, corev1.ConditionUnknown))
	for _, of := range services {
		s.setEndpoints(ctx, of, map[*machine]endpointState{host: notReady})
	}
	for i, of := range services {
		move, err := s.crossing.moved(ctx, began, of.address)
		s.must(err)
		answered, err := visitors[i].firstAnswer(ctx, move.cut)
		s.must(err)
		took, lost = append(took, answered.Sub(began)), append(lost, answered.Sub(move.left))
	}
	s.Logf("served elsewhere after%s, not served for%s", seconds(took), seconds(lost))
	return took, lost
}
