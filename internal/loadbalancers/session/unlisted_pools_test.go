// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// A token without a role on the silo cannot see why a default subnet pool gives nothing: what is
// missing is said with what helps, and whoever only prefers it is served without.
func TestADefaultSubnetPoolThatNobodyMayListIsMissedInWords(t *testing.T) {
	inWorld(t, 2, func(w *world) { // with a default subnet pool of IPv4 alone
		w.fault("subnet_pool_list", 403, forbidden)
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", func(d *session.Desired) {
			d.Addresses[0].Family = ownership.IPv6
			routed(d)
		}, 80)
		source := ownership.Source{Kind: ownership.ExternalSubnet}
		both := o.want("default/both", func(d *session.Desired) {
			d.Addresses = []plan.Desired{
				{Family: ownership.IPv4, Source: source, Optional: true},
				{Family: ownership.IPv6, Source: source, Optional: true},
			}
		}, 81)
		time.Sleep(time.Minute)
		const says = "the silo has no default subnet pool for IPv6 addresses, or that has no free one"
		if s := o.state(key); !session.IsReason(s.Problem, session.ReasonPoolNotFound) ||
			!strings.Contains(s.Problem.Error(), says) {
			t.Errorf("%v", s.Problem)
		}
		o.carried(both, 1)
		if s := o.state(both); s.Problem != nil ||
			!slices.ContainsFunc(s.Conditions, func(c session.Condition) bool {
				return c.Type == session.FamilyMissing
			}) {
			t.Errorf("%+v", s)
		}
	})
}
