// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"slices"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// What cannot be attached stays in the status if it was in use, however long that takes: clients
// know it by that, and those within the cluster are served by it wherever it is. A new one is
// withdrawn after 30 s.
func TestAnExternalSubnetThatCannotBeAttachedAgainStaysPublished(t *testing.T) {
	inRoutedWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", routed, 80)
		before := o.carried(key, 1)[0]
		w.fault("external_subnet_attach", 503, unavailable)
		o.silence(before)
		first := o.want("default/new", routed, 81)
		time.Sleep(5 * time.Minute)
		has := func(key ownership.Key, kind session.ConditionType) bool {
			return slices.ContainsFunc(o.state(key).Conditions, func(c session.Condition) bool {
				return c.Type == kind
			})
		}
		if s := o.state(key); s.Phase != session.PhasePending || s.Addresses[0].Attached.InstanceID != "" ||
			!has(key, session.Pending) || has(key, session.AttachTimeout) || !has(first, session.AttachTimeout) {
			t.Errorf("%+v", s)
		}
		if all := o.publishedBy(key); len(all) != 1 {
			t.Errorf("published %v, want what is there once", all)
		}
		if all := o.publishedBy(first); len(all) < 2 || len(all[1].addrs) != 0 {
			t.Errorf("the new one published %v, want it withdrawn", all)
		}
		if n := w.sim.Count("external_subnet_attach"); n > 40 {
			t.Errorf("%d requests to attach two addresses within five minutes", n)
		}
		w.sim.ClearFaults()
		if after := o.carried(key, 1)[0]; after.Addr != before.Addr || after.Attached == before.Attached {
			t.Errorf("it has %+v, and had %+v", after, before)
		}
	})
}
