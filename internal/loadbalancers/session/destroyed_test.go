// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// listedAs has every list of the instances show them in another run state.
func (w *world) listedAs(state string) {
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || strings.TrimSuffix(r.URL.Path, "/") != "/v1/instances" {
			next.ServeHTTP(rw, r)
			return
		}
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		for _, shown := range []string{"stopping", "stopped"} {
			body = bytes.ReplaceAll(body, []byte(`"run_state":"`+shown+`"`), []byte(`"run_state":"`+state+`"`))
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write(body)
	})
}

// Racks up to v20.2 list an instance as destroyed for a moment while it stops.
func TestAnInstanceThatIsListedAsDestroyedKeepsItsAddressUntilItIsStopped(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		at := before.Attached.InstanceID
		w.sim.ShowDestroyed(true)
		began := time.Now()
		w.must(w.sim.SetRunState(at, "destroyed"))
		time.Sleep(time.Minute)
		if n := len(o.did(web, plan.ActionDetach, began)); n != 0 || w.ip(before.ID).InstanceID != at {
			t.Errorf("%d detachments while it is only listed as destroyed", n)
		}
		if n := w.sim.Count("instance_delete") + len(o.did(web, plan.ActionDelete, began)); n != 0 {
			t.Errorf("%d deletions", n)
		}
		began = time.Now()
		w.must(w.sim.SetRunState(at, "stopped"))
		after := o.left(web, before)
		if n := len(w.sim.FloatingIPs()); n != 1 || after.ID != before.ID {
			t.Errorf("%d floating IPs, %+v became %+v", n, before, after)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it moved %s after the stop", took)
		}
	})
}

// What the list says is decided by a direct read, however long the list goes on.
func TestADirectReadDecidesWhatIsListedAsDestroyed(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		at := before.Attached.InstanceID
		w.listedAs("destroyed")
		w.must(w.sim.SetRunState(at, "stopping"))
		time.Sleep(time.Minute)
		if w.ip(before.ID).InstanceID != at {
			t.Error("the address has moved")
		}
		reads := w.sim.Count("instance_view")
		time.Sleep(watched)
		if n := w.sim.Count("instance_view") - reads; n == 0 || n > 70 {
			t.Errorf("%d direct reads in %s", n, watched)
		}
		w.must(w.sim.SetRunState(at, "stopped"))
		o.left(web, before)
	})
}
