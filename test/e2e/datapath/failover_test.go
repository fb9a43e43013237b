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
)

const (
	// samples is how often a dead host is measured: an odd number.
	samples = 7
	// crowd is how many addresses one machine carries at once.
	crowd = 20
	// crowdLabel is on the nodes that may carry them.
	crowdLabel = "datapath-crowd"
)

// TestADeadHostIsReplacedWithinSeconds measures from when the host that carries an address is gone
// until a client of the Service is answered again, and until the first step that anybody can see.
func TestADeadHostIsReplacedWithinSeconds(t *testing.T) {
	s := newFirstScene(t)
	count := samples
	if testing.Short() {
		count = 1
	}
	var took, detected []time.Duration
	for i := range count {
		// A Service of its own for each: one that has moved rests.
		web := s.create("web", 8000+int32(i), 1, nil)[0]
		// How long it takes depends on when the host renewed its Lease: the samples are spread evenly.
		age := renewInterval * time.Duration(2*i+1) / time.Duration(2*count)
		served, seen := s.failover(web, age)
		took, detected = append(took, served), append(detected, seen)
		s.remove(web.name)
		s.awaitNone()
	}
	t.Logf("served elsewhere after%s, detected after%s", seconds(took), seconds(detected))
	s.figures.hold(t, "failover_dead_host_seconds", median(took))
	s.figures.hold(t, "failover_dead_host_detection_seconds", median(detected))
	s.figures.hold(t, "failover_dead_host_longest_seconds", slices.Max(took))
}

// failover lets the host of a Service vanish when its Lease has that age. It returns how long it
// took until a client was answered, and until the move began to show. The host is back then.
func (s *scene) failover(of service, age time.Duration) (served, seen time.Duration) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	clients := visit(of.address, of.port, 10*time.Millisecond)
	defer clients.stop()
	_, err := clients.firstAnswer(ctx, time.Now())
	s.must(err)
	s.must(of.machine.kubelet.awaitAge(ctx, age))
	changed := s.awaitChange(ctx, of)
	gone, err := of.machine.vanish(ctx)
	s.must(err)
	answered, err := clients.firstAnswer(ctx, gone)
	s.must(err)
	begun := <-changed
	s.must(begun.err)
	s.must(of.machine.comeBack(ctx))
	return answered.Sub(gone), begun.at.Sub(gone)
}

// TestManyAddressesOfADeadHost measures until the last of many addresses of one host is served
// again.
func TestManyAddressesOfADeadHost(t *testing.T) {
	s := newLongScene(t)
	ctx, cancel := s.within(2 * limit)
	defer cancel()
	services := s.crowded(wanted{prefix: "crowd", first: 9000, count: crowd})
	host, visitors := services[0].machine, s.visitAll(services)
	// In the middle between two renewals: there is one sample only.
	s.must(host.kubelet.awaitAge(ctx, renewInterval/2))
	gone, err := host.vanish(ctx)
	s.must(err)
	took, errs := make([]time.Duration, len(services)), make([]error, len(services))
	var group sync.WaitGroup
	for i := range services {
		group.Go(func() {
			answered, err := visitors[i].firstAnswer(ctx, gone)
			took[i], errs[i] = answered.Sub(gone), err
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", services[i].name, err)
		}
	}
	t.Logf("served elsewhere after%s", seconds(took))
	s.figures.hold(t, fmt.Sprintf("failover_dead_host_%d_addresses_seconds", crowd), slices.Max(took))
}
