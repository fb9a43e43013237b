// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// What a load balancer does not desire would be deleted as soon as it was adopted for it: an external
// subnet is not adopted for one that desires floating IPs, though it has none yet.
func TestAnAddressOfAnotherKindIsNotAdopted(t *testing.T) {
	inRoutedWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		routedKey := o.want("default/routed", routed, 81)
		subnet := o.carried(routedKey, 1)[0]
		o.want("default/routed", func(d *session.Desired) { d.Ending = plan.EndRetain })
		o.await(time.Minute, "the end", func() bool { return o.isReleased(routedKey) })
		named := plan.Named{Kind: ownership.ExternalSubnet, NameOrID: subnet.Name}
		_, err := w.manager.Release(context.Background(), named, false)
		w.must(err)
		w.fault("floating_ip_create", 503, unavailable)
		key := o.want("default/web", nil, 80)
		time.Sleep(5 * time.Second)
		_, err = w.manager.Adopt(context.Background(), named, key, "uid-of-default-web", false)
		if !session.IsReason(err, session.ReasonInvalid) {
			t.Errorf("adopted: %v", err)
		}
		w.sim.ClearFaults()
		o.carried(key, 1)
		time.Sleep(time.Minute)
		if n := len(w.subnets()); n != 1 {
			t.Errorf("%d external subnets, want the user's", n)
		}
	})
}
