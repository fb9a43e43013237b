// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

func TestNothingWaitsForAReaderOfWhatItsClientHasRemoved(t *testing.T) {
	inWorld(t, 0, func(w *world) {
		s, err := w.manager.Open(session.Opening{Scope: scope})
		w.must(err)
		defer s.Close()
		ctx := context.Background()
		w.must(s.Send(ctx, session.Item{InSync: true}))
		for i := range 200 {
			d := session.Desired{
				Key: ownership.Key{Scope: scope, Name: fmt.Sprintf("default/web-%d", i)}, OwnerUID: "u",
				Generation: 1, Ending: plan.EndRelease, Created: time.Now(),
			}
			w.must(s.Send(ctx, session.Item{LoadBalancer: &d}))
			w.must(s.Send(ctx, session.Item{Rebalance: &session.Rebalance{
				Expires: time.Now().Add(time.Second),
			}}))
			time.Sleep(2 * time.Second)
			synctest.Wait()
			w.must(s.Send(ctx, session.Item{Removed: &session.Removal{Key: d.Key, OwnerUID: "u"}}))
		}
		time.Sleep(time.Second)
		reading, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		n := 0
		for reading.Err() == nil {
			if _, err := s.Next(reading); err == nil {
				n++
			}
		}
		if n > 10 {
			t.Errorf("%d events were kept for a client that has removed everything", n)
		}
	})
}

func TestWhatNoListShowsIsReadAFewAtATime(t *testing.T) {
	for name, flood := range map[string]func(o *owner){
		"candidates": func(o *owner) {
			for range 500 {
				o.send(session.Item{Candidate: &health.Observation{
					InstanceID: uuid.NewString(), Readiness: health.Ready,
				}})
			}
		},
		"addresses": func(o *owner) {
			for i := range 500 {
				o.want(fmt.Sprintf("default/rubbish-%d", i), existing(fmt.Sprintf("nowhere-%d", i)), 80)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inServedWorld(t, 1, func(w *world, o *owner, before session.Address) {
				var now, most atomic.Int64
				w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
					most.Store(max(most.Load(), now.Add(1)))
					defer now.Add(-1)
					time.Sleep(20 * time.Millisecond)
					next.ServeHTTP(rw, r)
				})
				flood(o)
				time.Sleep(2 * time.Minute)
				if most.Load() > 16 {
					t.Errorf("%d requests at once", most.Load())
				}
				if after := o.settled(web); after.Attached != before.Attached {
					t.Errorf("the address moved from %+v to %+v", before.Attached, after.Attached)
				}
			})
		})
	}
}

func TestABackendHasABoundedNumberOfSessions(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		o.settled(key)
		for _, observe := range []bool{true, false} {
			var open []*session.Session
			for i := range 100 {
				s, err := w.manager.Open(session.Opening{
					Scope: fmt.Sprintf("rubbish-%d", i), ObserveOnly: observe,
				})
				if err != nil {
					if !session.IsReason(err, session.ReasonTooMany) {
						t.Error(err)
					}
					break
				}
				open = append(open, s)
			}
			if len(open) < 16 || len(open) > 32 {
				t.Errorf("%d sessions could be opened (observing: %v)", len(open), observe)
			}
			if !observe {
				// A newer session of a scope takes the place of the older one.
				s, err := w.manager.Open(session.Opening{Scope: "rubbish-0"})
				w.must(err)
				s.Close()
			}
			for _, s := range open {
				s.Close()
			}
		}
		s, err := w.manager.Open(session.Opening{Scope: "another", ObserveOnly: true})
		w.must(err)
		s.Close()
	})
}

func TestAScopeThatHasAnActingSessionIsNotAdopted(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		adopter := w.openWith(session.Opening{Scope: "another", Adopted: []string{scope}}).sync()
		defer adopter.close()
		d := session.Desired{
			Key: ownership.Key{Scope: "another", Name: key.Name}, OwnerUID: "u", Generation: 1,
			Created: time.Now(), NoPublication: true,
			Addresses: []plan.Desired{{Family: ownership.IPv4}},
			Ports:     []plan.Port{{Protocol: firewall.TCP, Number: 81}},
		}
		adopter.send(session.Item{LoadBalancer: &d})
		time.Sleep(2 * time.Minute)
		if after := o.settled(key); after.ID != before.ID || after.Attached != before.Attached {
			t.Errorf("the address was %+v and is %+v", before, after)
		}
		if got := adopter.state(d.Key); len(got.Addresses) != 1 || got.Addresses[0].ID == before.ID {
			t.Errorf("the adopter has %+v", got.Addresses)
		}
	})
}
