// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	firewallRead  = "vpc_firewall_rules_view"
	firewallWrite = "vpc_firewall_rules_update"
	// firewallSpacing is how long after a write the next one may follow, and how long nothing is under way.
	firewallSpacing = 7 * time.Second
	// firewallMaxAge is how old the backend lets what it has read of a firewall get.
	firewallMaxAge = time.Minute
)

// keepsRules has a part measured with a backend that keeps firewall rules.
func keepsRules(
	measure func(f *fleet, ctx context.Context, found figures) error,
) func(f *fleet, ctx context.Context, found figures) error {
	return func(f *fleet, ctx context.Context, found figures) error {
		if err := f.ccm.Stop(); err != nil {
			return err
		}
		if err := f.rack.GrantFirewall(ctx); err != nil {
			return err
		}
		f.options.BackendFlags = append(f.options.BackendFlags, "--manage-firewall")
		var err error
		if f.ccm, err = stack.StartCCM(ctx, f.options); err != nil {
			return err
		}
		return measure(f, ctx, found)
	}
}

// measureFirewall counts the requests that load balancers cause where their firewall rules are kept, and
// measures for how long a write of somebody else would be lost.
func (f *fleet) measureFirewall(ctx context.Context, found figures) error {
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
	if err := f.warmWith(ctx, o, opened(desiredFloatingIP("default/first", 79))); err != nil {
		return err
	}
	if err := f.measureOpened(ctx, o, found); err != nil {
		return err
	}
	if err := f.measureManyRules(ctx, o, found); err != nil {
		return err
	}
	found["firewall_window_ms"], err = f.writeWindow()
	return err
}

// opened has the firewall opened for a load balancer.
func opened(item *backendv1.DesiredLoadBalancer) *backendv1.DesiredLoadBalancer {
	item.OpenFirewall = true
	return item
}

// measureOpened counts the requests of single changes, those of the firewall among them.
func (f *fleet) measureOpened(ctx context.Context, o *owner, found figures) error {
	item := opened(desiredFloatingIP("default/web", 80))
	key, carrier := item.GetKey(), ""
	for _, step := range []struct {
		figure string
		do     func() error
	}{
		{"firewall_create_requests", func() (err error) {
			carrier, err = o.ready(ctx, key, o.set(item), "")
			return err
		}},
		{"firewall_move_requests", func() error {
			silent := candidate(carrier)
			silent.Readiness = backendv1.Readiness_READINESS_UNKNOWN
			o.session.SetCandidate(silent, time.Now(), time.Time{})
			_, err := o.ready(ctx, key, 0, carrier)
			return err
		}},
		{"firewall_delete_requests", func() error { return f.release(ctx, o, key) }},
	} {
		// What was written a moment ago holds up the next write, and nothing is to be read again meanwhile.
		if err := rest(ctx, firewallSpacing); err != nil {
			return err
		}
		var err error
		if found[step.figure], err = f.during(ctx, step.figure, step.do); err != nil {
			return err
		}
	}
	o.session.RemoveLoadBalancer(key, benchScope)
	return nil
}

// measureManyRules counts the writes for many load balancers that are created together, and the requests
// about the firewall of a further while in which nothing differs.
func (f *fleet) measureManyRules(ctx context.Context, o *owner, found figures) error {
	if err := rest(ctx, firewallSpacing); err != nil {
		return err
	}
	requests, err := f.difference(ctx, func() error {
		keys := make(map[*backendv1.LoadBalancerKey]int64, manyServices)
		for i := range manyServices {
			item := opened(desiredFloatingIP(fmt.Sprintf("default/web-%d", i), int32(firstPort+i)))
			keys[item.GetKey()] = o.set(item)
		}
		for key, generation := range keys {
			if _, err := o.ready(ctx, key, generation, ""); err != nil {
				return err
			}
		}
		return rest(ctx, firewallSpacing)
	})
	if err != nil {
		return err
	}
	rules, err := f.rack.Firewall(ctx)
	if err != nil {
		return err
	}
	kept := 0
	for _, rule := range rules {
		if strings.Contains(rule.Description, " scope="+benchScope+" ") {
			kept++
		}
	}
	if kept != manyServices {
		return fmt.Errorf("%d rules are kept for %d load balancers", kept, manyServices)
	}
	found["firewall_writes_100_services"] = float64(requests[firewallWrite])
	fmt.Fprintln(os.Stderr, "bench: nothing differs for two minutes")
	const idle = 2 * firewallMaxAge
	requests, err = f.difference(ctx, func() error { return rest(ctx, idle) })
	if err != nil {
		return err
	}
	cached := float64(idle / firewallMaxAge)
	found["firewall_noop_requests"] = max(0,
		float64(requests[firewallRead]+requests[firewallWrite])-cached)
	return nil
}

// writeWindow returns the longest time, in milliseconds, from the rack's answer to the reading before a
// write to the end of that write: what others write then is lost.
func (f *fleet) writeWindow() (float64, error) {
	log, err := f.rack.Log()
	if err != nil {
		return 0, err
	}
	var readAt time.Time
	longest := time.Duration(0)
	for _, request := range log {
		switch request.Operation {
		case firewallRead:
			readAt = request.Ended
		case firewallWrite:
			longest = max(longest, request.Ended.Sub(readAt))
		}
	}
	if longest == 0 {
		return 0, errors.New("the rack's log has no write of a firewall")
	}
	return float64(longest) / float64(time.Millisecond), nil
}
