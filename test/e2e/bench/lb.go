// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// followUp is how long after a change everything that it causes has been read: the list of floating IPs
// that follows a plan is read half a second after another one at the latest.
const followUp = 1500 * time.Millisecond

// sessionNodes is how many nodes measureSession has. They have addresses of both IP families.
const sessionNodes = 2

// measureSession counts the requests that single changes of one load balancer cause, in a session that
// is in sync and has read instances and firewalls.
func (f *fleet) measureSession(ctx context.Context, found figures) error {
	if err := f.ccm.Shim.Stop(limit); err != nil { // it uses the backend, too
		return err
	}
	o, err := newOwner(f.ccm.Socket)
	if err != nil {
		return err
	}
	defer o.close()
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	for _, instance := range state.Instances {
		o.session.SetCandidate(candidate(instance.ID), time.Now(), time.Time{})
	}
	if err := o.open(ctx); err != nil {
		return err
	}
	if err := f.warm(ctx, o); err != nil {
		return err
	}
	item := desiredFloatingIP("default/web", 80)
	key, carrier := item.GetKey(), ""
	for _, step := range []struct {
		figure string
		do     func() error
	}{
		{"lb_create_requests", func() (err error) {
			carrier, err = o.ready(ctx, key, o.set(item), "")
			return err
		}},
		{"lb_noop_requests", func() error {
			generation := o.change(key.GetName(), func(item *backendv1.DesiredLoadBalancer) {
				item.RetainAddresses = true
			})
			_, err := o.ready(ctx, key, generation, "")
			return err
		}},
		{"lb_move_requests", func() error {
			silent := candidate(carrier)
			silent.Readiness = backendv1.Readiness_READINESS_UNKNOWN
			o.session.SetCandidate(silent, time.Now(), time.Time{})
			_, err := o.ready(ctx, key, 0, carrier)
			return err
		}},
		{"lb_delete_requests", func() error { return f.release(ctx, o, key) }},
	} {
		if found[step.figure], err = f.during(ctx, step.figure, step.do); err != nil {
			return err
		}
	}
	for _, instance := range state.Instances {
		o.session.SetCandidate(candidate(instance.ID), time.Now(), time.Time{})
	}
	return f.measureSources(ctx, o, found)
}

// measureSources counts the requests for a load balancer with an external subnet, and for one with two
// floating IPs, one of each IP family.
func (f *fleet) measureSources(ctx context.Context, o *owner, found figures) error {
	both := []backendv1.IpFamily{
		backendv1.IpFamily_IP_FAMILY_IPV4, backendv1.IpFamily_IP_FAMILY_IPV6,
	}
	if err := f.rack.AddPool(ctx, rack.Pool{
		Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ff", Default: true,
	}); err != nil {
		return err
	}
	if err := f.rack.AddSubnetPool(ctx, rack.SubnetPool{
		Name: "subnets", Version: "v4", Subnet: "203.0.113.0/24", Default: true,
	}); err != nil {
		return err
	}
	routed := desiredSubnet("default/routed", 80)
	dual := desiredFloatingIP("default/dual", 80, both...)
	for _, kind := range []*backendv1.DesiredLoadBalancer{
		desiredSubnet("default/second", 79), desiredFloatingIP("default/third", 79, both...),
	} {
		if err := f.warmWith(ctx, o, kind); err != nil {
			return err
		}
	}
	carrier := ""
	for _, step := range []struct {
		figure string
		do     func() error
	}{
		{"subnet_create_requests", func() (err error) {
			carrier, err = o.ready(ctx, routed.GetKey(), o.set(routed), "")
			return err
		}},
		{"subnet_move_requests", func() error {
			silent := candidate(carrier)
			silent.Readiness = backendv1.Readiness_READINESS_UNKNOWN
			o.session.SetCandidate(silent, time.Now(), time.Time{})
			_, err := o.ready(ctx, routed.GetKey(), 0, carrier)
			return err
		}},
		{"subnet_delete_requests", func() error { return f.release(ctx, o, routed.GetKey()) }},
		{"dual_stack_create_requests", func() error {
			o.session.RemoveLoadBalancer(routed.GetKey(), benchScope)
			_, err := o.ready(ctx, dual.GetKey(), o.set(dual), "")
			return err
		}},
	} {
		var err error
		if found[step.figure], err = f.during(ctx, step.figure, step.do); err != nil {
			return err
		}
	}
	return f.release(ctx, o, dual.GetKey())
}

// warm has a load balancer made and released, so that everything that is kept for a while has been read.
func (f *fleet) warm(ctx context.Context, o *owner) error {
	return f.warmWith(ctx, o, desiredFloatingIP("default/first", 79))
}

func (f *fleet) warmWith(ctx context.Context, o *owner, item *backendv1.DesiredLoadBalancer) error {
	if _, err := o.ready(ctx, item.GetKey(), o.set(item), ""); err != nil {
		return err
	}
	if err := f.release(ctx, o, item.GetKey()); err != nil {
		return err
	}
	o.session.RemoveLoadBalancer(item.GetKey(), benchScope)
	return rest(ctx, followUp)
}

// release ends a load balancer and waits until it has nothing any more.
func (f *fleet) release(ctx context.Context, o *owner, key *backendv1.LoadBalancerKey) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	o.change(key.GetName(), func(item *backendv1.DesiredLoadBalancer) {
		item.RetainAddresses, item.Ending = false, backendv1.Ending_ENDING_RELEASE
	})
	return o.session.AwaitReleased(ctx, key, benchScope)
}

// during counts the requests that something causes, and reports them. The lists of instances are polls,
// which go on all the time.
func (f *fleet) during(ctx context.Context, what string, do func() error) (float64, error) {
	requests, err := f.difference(ctx, func() error {
		if err := do(); err != nil {
			return err
		}
		return rest(ctx, followUp)
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return f.report(what, requests) - float64(requests["instance_list"]), nil
}

// difference returns how often each operation was asked for while something was done.
func (f *fleet) difference(ctx context.Context, do func() error) (map[string]int, error) {
	before, err := f.requests(ctx)
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	after, err := f.requests(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(after, func(operation string, n int) bool { return n == before[operation] })
	for operation := range after {
		after[operation] -= before[operation]
	}
	return after, nil
}
