// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

func TestAPlanOfASetRefusesAMissingDefaultPool(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		key := ownership.Key{Scope: scope, Name: "default/web"}
		planned, err := w.manager.Plan(w.Context(), session.PlanRequest{Set: &session.Set{
			Opening: session.Opening{Scope: scope},
			LoadBalancers: []session.Desired{{
				Key: key, OwnerUID: "uid-1", Generation: 1,
				Addresses: []plan.Desired{{Family: ownership.IPv6}},
				Ports:     []plan.Port{{Protocol: firewall.TCP, Number: 80}},
			}},
		}})
		w.must(err)
		if len(planned.LoadBalancers) != 1 || len(planned.Actions) != 0 ||
			!session.IsReason(planned.LoadBalancers[0].Problem, session.ReasonPoolNotFound) {
			t.Errorf("planned %+v", planned)
		}
	})
}

// A metric shows it: an address on its own is no reason to read anything.
func TestTheLoadIsThatOfTheFullestInstance(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		loads := func() [2]session.Load {
			all := w.manager.Load()
			return [2]session.Load{all[ownership.FloatingIP], all[ownership.ExternalSubnet]}
		}
		want := [2]session.Load{
			{Kind: ownership.FloatingIP, Limit: 32}, {Kind: ownership.ExternalSubnet, Limit: 32},
		}
		if got := loads(); got != want {
			t.Errorf("before any session: %+v", got)
		}
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 80))
		o.settled(o.want("default/dns", nil, 53))
		want[ownership.FloatingIP].Most = 2
		if got := loads(); got != want {
			t.Errorf("with two addresses on one instance: %+v", got)
		}
	})
}
