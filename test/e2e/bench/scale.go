// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// thousand is how many Services the cluster with a thousand nodes has.
	thousand = 1000
	// manyAtOnce has Services made many at a time, not the few that the framework makes by default.
	manyAtOnce = "--concurrent-service-syncs=50"
)

// measureThousandServices measures both programs with a thousand nodes and as many Services: their
// memory, and the time from their start until every Service is confirmed.
func (f *fleet) measureThousandServices(ctx context.Context, found figures) error {
	if err := f.ccm.Stop(); err != nil {
		return err
	}
	quick := f.options
	quick.ShimFlags = []string{manyAtOnce}
	var err error
	if f.ccm, err = stack.StartCCM(ctx, quick); err != nil {
		return err
	}
	if err := f.join(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := f.serve(ctx, thousand); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: %d Services have a status after %.0f s\n", thousand,
		time.Since(began).Seconds())
	if err := f.awaitConfirmed(ctx, thousand); err != nil {
		return err
	}
	if err := rest(ctx, idle); err != nil {
		return err
	}
	for name, p := range map[string]*process.Process{
		"rss_backend_1000_mb": f.ccm.Backend, "rss_shim_1000_mb": f.ccm.Shim,
	} {
		if found[name], err = residentMB(p.PID()); err != nil {
			return err
		}
	}
	if err := f.ccm.Stop(); err != nil {
		return err
	}
	return f.startLeader(ctx, found)
}

// startLeader measures the start of both programs with the shim's defaults: until the session has
// confirmed every Service, and the framework has asked for each of them and was answered.
func (f *fleet) startLeader(ctx context.Context, found figures) (err error) {
	const ensured = `reason="EnsuredLoadBalancer"`
	before := f.said(ensured)
	began := time.Now()
	if f.ccm, err = stack.StartCCM(ctx, f.options); err != nil {
		return err
	}
	if err := f.awaitConfirmed(ctx, thousand); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: the session has confirmed %d load balancers after %.2f s\n", thousand,
		time.Since(began).Seconds())
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := process.Await(ctx, func(context.Context) (bool, error) {
		return f.said(ensured) >= before+thousand, nil
	}); err != nil {
		return fmt.Errorf("%d of %d Services are ensured: %w", f.said(ensured)-before, thousand, err)
	}
	found["leader_start_1000_services_seconds"] = time.Since(began).Seconds()
	return nil
}

// awaitConfirmed waits until the session of the cluster explains the addresses of n load balancers, and
// finds nothing wrong with any of them.
func (f *fleet) awaitConfirmed(ctx context.Context, n int) error {
	scope, err := f.scopeOf(ctx)
	if err != nil {
		return err
	}
	conn, err := client.Dial(socketPath(f.ccm.Socket))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	service := backendv1.NewLoadBalancerServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, f.limit())
	defer cancel()
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		confirmed := 0
		for page := ""; ; {
			list, err := service.ListLoadBalancers(ctx, &backendv1.ListLoadBalancersRequest{
				Scope: scope, PageSize: int32(min(n, thousand)), PageToken: page,
			})
			if err != nil {
				return false, err
			}
			for _, lb := range list.GetLoadBalancers() {
				if isConfirmed(lb) {
					confirmed++
				}
			}
			if page = list.GetNextPageToken(); page == "" {
				break
			}
		}
		return confirmed == n, nil
	})
}

// isConfirmed reports whether a session explains a load balancer and has nothing to do for it. The
// rack's firewall lets nothing through, which a condition says.
func isConfirmed(lb *backendv1.LoadBalancer) bool {
	return lb.GetExplanation() != "" && lb.GetProblem() == nil &&
		len(lb.GetAddresses()) == 1 && lb.GetAddresses()[0].GetAttachment() != nil &&
		!slices.ContainsFunc(lb.GetConditions(), func(c *backendv1.Condition) bool {
			return c.GetType() != backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED
		})
}

// measureLargeSessions measures sessions with thousands of load balancers, each with an address that is
// attached already: the time until the backend has confirmed all, and its memory then.
func (f *fleet) measureLargeSessions(ctx context.Context, found figures) error {
	if err := f.ccm.Shim.Stop(limit); err != nil { // it uses the backend, too
		return err
	}
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	made := 0
	for _, n := range []int{4000, 6000, 10_000} {
		var addresses []rack.Address
		for i := made; i < n; i++ {
			addresses = append(addresses, markedAddress(i, state.Instances[i%f.n].Name))
		}
		if err := f.rack.AddAddresses(ctx, addresses...); err != nil {
			return err
		}
		made = n
		// A program of its own for each: memory is never returned altogether.
		if err := f.ccm.Backend.Stop(limit); err != nil {
			return err
		}
		if err := f.ccm.StartBackend(ctx); err != nil {
			return err
		}
		if err := f.measureLargeSession(ctx, n, found); err != nil {
			return fmt.Errorf("%d load balancers: %w", n, err)
		}
	}
	return nil
}

// measureLargeSession measures a session with n load balancers.
func (f *fleet) measureLargeSession(ctx context.Context, n int, found figures) error {
	o, err := newOwner(f.ccm.Socket)
	if err != nil {
		return err
	}
	defer o.close()
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	private := make(map[string]string)
	for _, instance := range state.Instances {
		private[instance.Name] = instance.PrivateIPs["v4"]
		o.session.SetCandidate(candidate(instance.ID), time.Now(), time.Time{})
	}
	published := make(map[string][]string)
	for _, ip := range state.FloatingIPs {
		published[ip.Name] = []string{ip.IP, private[ip.Instance]}
	}
	items := make([]*backendv1.DesiredLoadBalancer, n)
	for i := range items {
		items[i] = desiredFloatingIP(balancerName(i), int32(11_000+i))
		items[i].PublishedAddresses = published[markedAddress(i, "").Name]
		o.set(items[i])
	}
	before, err := f.requests(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := o.open(ctx); err != nil {
		return err
	}
	for _, item := range items {
		if _, err := o.ready(ctx, item.GetKey(), 0, ""); err != nil {
			return err
		}
	}
	found[fmt.Sprintf("session_%d_seconds", n)] = time.Since(began).Seconds()
	after, err := f.requests(ctx)
	if err != nil {
		return err
	}
	for operation, count := range before {
		after[operation] -= count
	}
	f.report(fmt.Sprintf("a session with %d load balancers", n), after)
	if err := rest(ctx, idle); err != nil {
		return err
	}
	found[fmt.Sprintf("session_%d_rss_mb", n)], err = residentMB(f.ccm.Backend.PID())
	return err
}

func balancerName(i int) string { return fmt.Sprintf("default/service-%d", i) }

// markedAddress returns the address of the load balancer number i, as the backend would have made it.
func markedAddress(i int, instance string) rack.Address {
	const source = "default"
	key := ownership.Key{Scope: benchScope, Name: balancerName(i)}
	marker := ownership.Marker{
		Key: key, OwnerUID: benchScope, Family: ownership.IPv4, Source: source,
	}
	return rack.Address{
		Name:        ownership.Name(key, ownership.IPv4, source, 0),
		Description: marker.String(), Instance: instance,
	}
}
