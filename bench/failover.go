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
	// crowdNodes carry crowd addresses together.
	crowdNodes, crowd = 5, 100
)

// measureFailover measures how long an address is not served after something happened to its node: until
// it is attached to another one and the status of its Service is right. On this rack things take as long
// as on a real one.
func measureFailover(ctx context.Context, w *world) (figures, error) {
	found := figures{}
	for _, measure := range []func(context.Context, *world, figures) error{
		failoverOfOne, failoverOfMany, failoverOfTheLeader,
	} {
		if err := measure(ctx, w, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// failoverOfOne measures Services that have two nodes each: the instance of one is stopped, or its
// kubelet falls silent.
func failoverOfOne(ctx context.Context, w *world, found figures) error {
	const pairs = stoppedSamples + silentSamples
	c, err := w.newCompany(ctx, "-pairs", 2*pairs)
	if err != nil {
		return err
	}
	services, err := c.settle(ctx, pairs, func(i int) int { return i })
	if err != nil {
		return err
	}
	times := make([]time.Duration, stoppedSamples)
	for first := 0; first < stoppedSamples; first += stoppedAtOnce {
		group, ctx := errgroup.WithContext(ctx)
		for i := first; i < first+stoppedAtOnce; i++ {
			group.Go(func() error {
				if err := rest(ctx, rand.N(phase)); err != nil {
					return err
				}
				if err := c.rack.StopInstance(ctx, services[i].node); err != nil {
					return err
				}
				times[i], err = c.failover(ctx, services[i])
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	found["failover_stopped_seconds"] = median("an instance is stopped", times)
	times = nil
	for _, s := range services[stoppedSamples:] {
		if err := objects.SetReady(ctx, c.cluster.Client, s.node,
			corev1.ConditionUnknown); err != nil {
			return err
		}
		took, err := c.failover(ctx, s)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	found["failover_notready_seconds"] = median("a kubelet falls silent", times)
	return c.end(ctx)
}

// failoverOfMany measures a node that carries a fifth of all addresses: until the last one is served.
func failoverOfMany(ctx context.Context, w *world, found figures) error {
	c, err := w.newCompany(ctx, "-crowd", crowdNodes)
	if err != nil {
		return err
	}
	services, err := c.settle(ctx, crowd, nil)
	if err != nil {
		return err
	}
	dead := services[0].node
	services = slices.DeleteFunc(services, func(s served) bool { return s.node != dead })
	if len(services) != crowd/crowdNodes {
		return fmt.Errorf("%s carries %d addresses, want %d", dead, len(services), crowd/crowdNodes)
	}
	if err := objects.SetReady(ctx, c.cluster.Client, dead, corev1.ConditionUnknown); err != nil {
		return err
	}
	times := make([]time.Duration, len(services))
	group, waitCtx := errgroup.WithContext(ctx)
	for i, s := range services {
		group.Go(func() (err error) {
			times[i], err = c.failover(waitCtx, s)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	tell("a node with 20 of 100 addresses dies", times)
	found["failover_100_services_seconds"] = slices.Max(times).Seconds()
	return c.end(ctx)
}

// failoverOfTheLeader measures the node that the leader itself is on: another replica has to take over
// first, when the lease has run out.
func failoverOfTheLeader(ctx context.Context, w *world, found figures) error {
	c, err := w.newCompany(ctx, "-leader", 2*leaderSamples)
	if err != nil {
		return err
	}
	services, err := c.settle(ctx, leaderSamples, func(i int) int { return i })
	if err != nil {
		return err
	}
	var times []time.Duration
	leader := c.ccm
	for i, s := range services {
		standby, err := c.standby(ctx, fmt.Sprintf("-standby-%d", i))
		if err != nil {
			return err
		}
		// The time since the leader renewed its lease is another one each time.
		if err := rest(ctx, rand.N(2*time.Second)); err != nil {
			return err
		}
		leader.Shim.Kill()
		leader.Backend.Kill()
		if err := objects.SetReady(ctx, c.cluster.Client, s.node,
			corev1.ConditionUnknown); err != nil {
			return err
		}
		took, err := c.failover(ctx, s)
		if err != nil {
			return err
		}
		times, leader = append(times, took), standby
	}
	found["failover_leader_node_seconds"] = median("the leader's node dies", times)
	c.ccm = leader
	return c.end(ctx)
}

// median tells all times and returns their median in seconds.
func median(what string, times []time.Duration) float64 {
	tell(what, times)
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Seconds()
}

func tell(what string, times []time.Duration) {
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
