// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// emptyLists answers lists as if there were nothing, until the time is over.
func (w *world) emptyLists(until time.Time, of ...string) {
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		for _, path := range of {
			if r.Method == http.MethodGet && strings.TrimSuffix(r.URL.Path, "/") == path &&
				time.Now().Before(until) {
				rw.Header().Set("Content-Type", "application/json")
				_, _ = rw.Write([]byte(`{"items":[],"next_page":null}`))
				return
			}
		}
		next.ServeHTTP(rw, r)
	})
}

func TestEmptyListsLoseNoAddressDuringAFailover(t *testing.T) {
	for name, restart := range map[string]bool{"in a session": false, "in a new backend": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, func(w *world) {
				o := w.open().sync()
				key := o.want("default/web", nil, 80)
				before := o.settled(key)
				w.emptyLists(time.Now().Add(time.Minute), "/v1/floating-ips", "/v1/instances")
				if restart {
					desired := *o.desired[key]
					o.close()
					w.connect()
					o = w.open()
					o.desired[key] = &desired
					o.want("default/web", nil)
					o.sync()
				}
				defer func() { o.close() }()
				o.observe(w.node(before.Attached.InstanceID), func(c *health.Observation) { silent(c) })
				time.Sleep(3 * time.Minute)
				after := o.settled(key)
				if after.ID != before.ID || after.Attached == before.Attached {
					t.Errorf("the address was %+v and is %+v", before, after)
				}
				if n := len(w.sim.FloatingIPs()); n != 1 {
					t.Errorf("%d floating IPs", n)
				}
			})
		})
	}
}

func TestAnEmptyListReleasesNothing(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		o.settled(key)
		desired := *o.desired[key]
		o.close()
		w.emptyLists(time.Now().Add(time.Minute), "/v1/floating-ips")
		w.connect()
		o = w.open()
		defer func() { o.close() }()
		o.desired[key] = &desired
		o.want("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		o.sync()
		w.await(3*time.Minute, "the release", func() bool { return o.isReleased(key) })
		if n := len(w.sim.FloatingIPs()); n != 0 {
			t.Errorf("it was released, and %d floating IPs are left", n)
		}
	})
}
