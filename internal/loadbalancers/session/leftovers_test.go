// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// leftover has a load balancer go over from an external subnet to a floating IP, and the backend
// end before it has deleted the subnet, which is detached and in no status any more.
func (w *world) leftover() (*owner, ownership.Key) {
	w.Helper()
	o := w.open().sync()
	key := o.want("default/web", routed, 80)
	old := o.carried(key, 1)[0]
	time.Sleep(time.Minute)
	w.fault("external_subnet_delete", 503, unavailable)
	o.want("default/web", func(d *session.Desired) {
		d.Addresses = []plan.Desired{{Family: ownership.IPv4}}
	})
	o.await(time.Minute, "the detachment", func() bool {
		s := o.state(key)
		at, is := w.subnets()[old.Addr]
		return len(s.Addresses) == 1 && s.Addresses[0].Attached.InstanceID != "" && is && at == ""
	})
	time.Sleep(time.Second)
	w.sim.ClearFaults()
	return o, key
}

// A load balancer that ends just when another backend takes over is released once that has looked
// for what the first one left.
func TestALeftoverOfTheOtherKindGoesWithItsOwner(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o, key := w.leftover()
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.TrimSuffix(r.URL.Path, "/") == "/v1/external-subnets" {
				time.Sleep(8 * time.Second)
			}
			next.ServeHTTP(rw, r)
		})
		o = o.reopen()
		defer o.close()
		time.Sleep(time.Second)
		if s := o.state(key); s.Phase != session.PhaseProgressing {
			t.Errorf("phase %v before it is known what was left", s.Phase)
		}
		o.want("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		o.await(2*time.Minute, "the end", func() bool { return o.isReleased(key) })
		if n := len(w.subnets()) + len(w.sim.FloatingIPs()); n != 0 {
			t.Errorf("%d resources are left", n)
		}
	})
}

// External subnets that cannot be listed are not waited for.
func TestALeftoverThatCannotBeListedHoldsUpNothing(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o, key := w.leftover()
		w.fault("external_subnet_list", 403, forbidden)
		o = o.reopen()
		defer o.close()
		o.carried(key, 1)
		o.want("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		o.await(time.Minute, "the end", func() bool { return o.isReleased(key) })
	})
}
