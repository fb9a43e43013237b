// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// asOnARack makes attaching and detaching last a second each, and stopping an instance four.
	asOnARack = 1
	// stoppedSamples, silentSamples and leaderSamples are how often a failover is measured.
	stoppedSamples, silentSamples, leaderSamples = 20, 11, 3
	// stoppedAtOnce is how many instances are stopped in the same few seconds, and phase how many
	// seconds these are: so long the backend takes between two looks at the instances.
	stoppedAtOnce = 5
	phase         = 4 * time.Second
	// againSamples are how often the node that an address has moved to dies againAfter later, out of so
	// many nodes that a few dead ones suspend no failover.
	againSamples, againNodes = 3, 20
	againAfter               = 5 * time.Second
	// crowdNodes carry crowd addresses together.
	crowdNodes, crowd = 5, 100
)

// The parts whose names begin with "failover-" measure how long an address is not served after something
// happened to its node: until it is attached to another one and the status of its Service is final. On
// this rack things take as long as on a real one.

// failoverOfOne measures Services that have two nodes each: the instance of one is stopped, or its
// kubelet falls silent.
func failoverOfOne(ctx context.Context, w *world) (figures, error) {
	return w.failoverOfPairs(ctx, "failover", onPair)
}

// failoverOfSubnet measures the same with external subnets.
func failoverOfSubnet(ctx context.Context, w *world) (figures, error) {
	return w.failoverOfPairs(ctx, "failover_subnet", onPairBySubnet)
}

// failoverOfPairs returns figures whose names begin with a prefix.
func (w *world) failoverOfPairs(
	ctx context.Context, prefix string, service func(i int) *corev1.Service,
) (figures, error) {
	const pairs = stoppedSamples + silentSamples
	c, err := w.newCompany(ctx, "-pairs", 2*pairs)
	if err != nil {
		return nil, err
	}
	if err := c.rack.AddSubnetPool(ctx, rack.SubnetPool{
		Name: "subnets", Version: "v4", Subnet: "203.0.113.0/24", Default: true,
	}); err != nil {
		return nil, err
	}
	services, err := c.settle(ctx, pairs, service)
	if err != nil {
		return nil, err
	}
	stopping, stopped, err := c.stopAll(ctx, services[:stoppedSamples])
	if err != nil {
		return nil, err
	}
	var silent []time.Duration
	for _, s := range services[stoppedSamples:] {
		_, took, err := c.silence(ctx, s)
		if err != nil {
			return nil, err
		}
		silent = append(silent, took)
	}
	return figures{
		prefix + "_stopping_seconds": median("an instance is asked to stop", stopping),
		prefix + "_stopped_seconds":  median("an instance is stopped", stopped),
		prefix + "_notready_seconds": median("a kubelet falls silent", silent),
	}, c.ccm.Stop()
}

// stopAll stops the instances that carry addresses, some at a time, and returns how long each failover
// took since the instance was asked to stop, and since it was stopped.
func (c *company) stopAll(
	ctx context.Context, services []served,
) (stopping, stopped []time.Duration, err error) {
	stopping, stopped = make([]time.Duration, len(services)), make([]time.Duration, len(services))
	for first := 0; first < len(services); first += stoppedAtOnce {
		group, ctx := errgroup.WithContext(ctx)
		for i := first; i < min(first+stoppedAtOnce, len(services)); i++ {
			group.Go(func() error {
				if err := rest(ctx, rand.N(phase)); err != nil {
					return err
				}
				asked := time.Now()
				if err := c.rack.StopInstance(ctx, services[i].node); err != nil {
					return err
				}
				lasted := time.Since(asked)
				_, took, err := c.failover(ctx, services[i], asked)
				stopping[i], stopped[i] = took, took-lasted
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, nil, err
		}
	}
	return stopping, stopped, nil
}

// silence has the kubelet of the node that carries an address fall silent, and returns how long the
// failover took, and where the address is then.
func (c *company) silence(ctx context.Context, s served) (served, time.Duration, error) {
	began := time.Now()
	if err := objects.SetReady(ctx, c.cluster.Client, s.node, corev1.ConditionUnknown); err != nil {
		return s, 0, err
	}
	return c.failover(ctx, s, began)
}

// failoverOfMany measures a node that carries a fifth of all addresses: until the last one is served.
func failoverOfMany(ctx context.Context, w *world) (figures, error) {
	c, err := w.newCompany(ctx, "-crowd", crowdNodes)
	if err != nil {
		return nil, err
	}
	services, err := c.settle(ctx, crowd, service)
	if err != nil {
		return nil, err
	}
	dead := services[0].node
	services = slices.DeleteFunc(services, func(s served) bool { return s.node != dead })
	if len(services) != crowd/crowdNodes {
		return nil, fmt.Errorf("%s carries %d addresses, want %d", dead, len(services), crowd/crowdNodes)
	}
	began := time.Now()
	if err := objects.SetReady(ctx, c.cluster.Client, dead, corev1.ConditionUnknown); err != nil {
		return nil, err
	}
	times := make([]time.Duration, len(services))
	group, waitCtx := errgroup.WithContext(ctx)
	for i, s := range services {
		group.Go(func() (err error) {
			_, times[i], err = c.failover(waitCtx, s, began)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	report("a node with 20 of 100 addresses dies", times)
	return figures{"failover_20_addresses_seconds": slices.Max(times).Seconds()}, c.ccm.Stop()
}

// failoverAgain measures nodes that die a few seconds after an address has moved there.
func failoverAgain(ctx context.Context, w *world) (figures, error) {
	c, err := w.newCompany(ctx, "-again", againNodes)
	if err != nil {
		return nil, err
	}
	services, err := c.settle(ctx, againSamples, service)
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	for _, s := range services {
		moved, _, err := c.silence(ctx, s)
		if err != nil {
			return nil, err
		}
		if err := rest(ctx, againAfter); err != nil {
			return nil, err
		}
		_, took, err := c.silence(ctx, moved)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	return figures{
		"failover_again_seconds": median("the new node dies 5 s after a move", times),
	}, c.ccm.Stop()
}

// failoverOfTheLeader measures the node that the leader itself is on: another replica has to take over
// first, when the lease has run out.
func failoverOfTheLeader(ctx context.Context, w *world) (figures, error) {
	c, err := w.newCompany(ctx, "-leader", 2*leaderSamples)
	if err != nil {
		return nil, err
	}
	services, err := c.settle(ctx, leaderSamples, onPair)
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	leader := c.ccm
	for i, s := range services {
		standby, err := c.standby(ctx, fmt.Sprintf("-standby-%d", i))
		if err != nil {
			return nil, err
		}
		// The time since the leader renewed its lease is another one each time.
		if err := rest(ctx, rand.N(2*time.Second)); err != nil {
			return nil, err
		}
		leader.Shim.Kill()
		leader.Backend.Kill()
		_, took, err := c.silence(ctx, s)
		if err != nil {
			return nil, err
		}
		times, leader = append(times, took), standby
	}
	return figures{
		"failover_leader_node_seconds": median("the leader's node dies", times),
	}, leader.Stop()
}

// median reports all times and returns their median in seconds.
func median(what string, times []time.Duration) float64 {
	report(what, times)
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Seconds()
}

func report(what string, times []time.Duration) {
	fmt.Fprintf(os.Stderr, "bench: %s:", what)
	for _, took := range times {
		fmt.Fprintf(os.Stderr, " %.2f", took.Seconds())
	}
	fmt.Fprintln(os.Stderr, "s")
}

// standby starts a further replica.
func (c *company) standby(ctx context.Context, name string) (*stack.CCM, error) {
	options := c.options
	options.Standby, options.Name = true, name
	var err error
	if options.Dir, err = os.MkdirTemp(c.dir, "standby-"); err != nil {
		return nil, err
	}
	standby, err := stack.StartCCM(ctx, options)
	if err != nil {
		return nil, errors.Join(err, errors.New("the standby does not start"))
	}
	return standby, nil
}
