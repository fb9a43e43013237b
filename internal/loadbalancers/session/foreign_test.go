// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// unlisted leaves an instance out of all lists, until the time is over.
func (w *world) unlisted(id string, until time.Time) {
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || strings.TrimSuffix(r.URL.Path, "/") != "/v1/instances" ||
			!time.Now().Before(until) {
			next.ServeHTTP(rw, r)
			return
		}
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var list map[string]any
		w.must(json.Unmarshal(answer.Body.Bytes(), &list))
		items, _ := list["items"].([]any)
		list["items"] = slices.DeleteFunc(items, func(item any) bool {
			instance, _ := item.(map[string]any)
			return instance["id"] == id
		})
		rw.Header().Set("Content-Type", "application/json")
		w.must(json.NewEncoder(rw).Encode(list))
	})
}

// An instance that is younger than the list is called by its id, and by its name as soon as a list
// has that.
func TestAForeignInstanceIsNamedOnceItsNameIsKnown(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		o.carried(o.want("default/other", nil, 81), 1) // so that networks have been read
		stranger, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "stranger"})
		w.must(err)
		w.unlisted(stranger.ID, time.Now().Add(15*time.Second))
		_, err = w.sim.AddExternalSubnet("demo", oxidesim.ExternalSubnetSeed{
			Name: "mine", Subnet: "203.0.113.9/32", Instance: "stranger",
		})
		w.must(err)
		key := o.want("default/web", func(d *session.Desired) {
			d.Addresses[0].Source = ownership.Source{Kind: ownership.ExternalSubnet, Existing: "mine"}
		}, 80)
		says := func(text string) func() bool {
			return func() bool {
				s := o.state(key)
				return s != nil && slices.ContainsFunc(s.Conditions, func(c session.Condition) bool {
					return c.Type == session.ForeignAttachment && strings.Contains(c.Message, text)
				})
			}
		}
		w.await(10*time.Second, "its id", says("the instance "+stranger.ID))
		w.await(25*time.Second, "its name", says("the instance stranger"))
	})
}

// Who asks for an address of their own that is attached elsewhere keeps what they have, which still
// fails over, until somebody has detached the other one.
func TestWhatIsAttachedElsewhereIsWaitedFor(t *testing.T) {
	inRoutedWorld(t, 3, func(w *world) {
		x := w.addStuff()
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.carried(key, 1)[0]
		o.want("default/web", func(d *session.Desired) {
			d.Addresses[0].Source = ownership.Source{Kind: ownership.ExternalSubnet, Existing: "attached"}
		})
		time.Sleep(time.Minute)
		if s := o.state(key); !session.IsReason(s.Problem, session.ReasonInvalid) ||
			s.Addresses[0] != before ||
			!strings.Contains(s.Problem.Error(), "attached to the instance stranger") {
			t.Errorf("%+v", s)
		}
		o.silence(before)
		o.await(time.Minute, "the move", func() bool {
			at := w.ip(before.ID).InstanceID
			return at != "" && at != before.Attached.InstanceID
		})
		w.must(w.api.DetachExternalSubnet(w.Context(), x.attached.ID))
		o.await(3*time.Minute, "the exchange", func() bool {
			s := o.state(key)
			return s.Phase == session.PhaseReady && len(s.Addresses) == 1 && s.Addresses[0].ID == x.attached.ID
		})
		all := o.did(key, plan.ActionAttach, time.Time{})
		if last := all[len(all)-1]; !last.Replaces || last.ID != x.attached.ID {
			t.Errorf("attached %+v", last)
		}
	})
}

// Of several addresses only the one that somebody has attached elsewhere waits for them: another one is
// published and attached as ever. That one stays published, and where it is now never is.
func TestAForeignAttachmentHoldsUpNoOtherAddress(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		first := o.settled(key)
		stranger, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "stranger"})
		w.must(err)
		w.must(w.api.DetachFloatingIP(w.Context(), first.ID))
		_, err = w.api.AttachFloatingIP(w.Context(), first.ID, stranger.ID)
		w.must(err)
		o.await(2*time.Minute, "that it is seen", func() bool {
			return slices.ContainsFunc(o.state(key).Conditions, func(c session.Condition) bool {
				return c.Type == session.ForeignAttachment
			})
		})
		o.want("default/web", several(2))
		var second session.Address
		o.await(2*time.Minute, "another address that is attached", func() bool {
			for _, a := range o.state(key).Addresses {
				if a.ID != first.ID && a.Attached.InstanceID != "" {
					second = a
				}
			}
			return second.ID != "" && o.state(key).Phase == session.PhaseReady
		})
		publish := []netip.Addr{first.Addr, second.Addr, second.Attached.PrivateAddr}
		if now := o.state(key).Publish; !slices.Equal(now, publish) {
			t.Errorf("publish %v, want %v", now, publish)
		}
		if now := o.ip(first.ID); now.InstanceID != stranger.ID {
			t.Errorf("it was taken off the stranger: %+v", now)
		}
	})
}
