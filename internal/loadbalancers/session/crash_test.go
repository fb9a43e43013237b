// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// onDetach has something happen to the rack just before the first request to detach arrives there.
func (w *world) onDetach(happens func() error) {
	var once sync.Once
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/detach") {
			once.Do(func() {
				if err := happens(); err != nil {
					w.Error(err)
				}
			})
		}
		next.ServeHTTP(rw, r)
	})
}

// Oxide answers 400 while an instance crashes, and 500 at the end of a stop. Both pass: they say nothing
// about the address, and the move goes on as soon as the instance takes changes again.
func TestARefusalOfAnInstanceThatCrashesOrStopsPasses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		begin  func(w *world, instance string) error
		end    func(w *world, instance string) error
	}{
		{
			name: "a crash", status: http.StatusBadRequest,
			begin: func(w *world, instance string) error { return w.sim.CrashVM(instance) },
		},
		{
			name: "the end of a stop", status: http.StatusInternalServerError,
			begin: func(w *world, instance string) error {
				return w.sim.SetRunState(instance, "destroyed")
			},
			end: func(w *world, instance string) error {
				return w.sim.SetRunState(instance, "stopped")
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", nil, 80)
				before := o.settled(key)
				instance := before.Attached.InstanceID
				w.onDetach(func() error { return tc.begin(w, instance) })
				o.observe(w.node(instance), excluded)
				w.await(30*time.Second, "the answer to a detach", func() bool {
					return w.sim.Counters()["floating_ip_detach"][tc.status] > 0
				})
				if tc.end != nil {
					time.Sleep(2 * time.Second)
					w.must(tc.end(w, instance))
				}
				w.await(time.Minute, "the move", func() bool {
					s := o.state(key)
					if s.Problem != nil && !session.IsReason(s.Problem, session.ReasonNotOperable) {
						t.Fatalf("the load balancer has the problem %v", s.Problem)
					}
					if o.hasCondition(key, session.Pending, "refuses") ||
						o.hasCondition(key, session.Pending, "HTTP 500") {
						t.Fatalf("the address waits for %+v", s.Conditions)
					}
					return w.ip(before.ID).AttachState == "attached" &&
						w.ip(before.ID).InstanceID != instance
				})
			})
		})
	}
}
