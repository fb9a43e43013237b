// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// crash ends the backend in the middle of its n-th request about the firewall, counted from 1, before or
// after that is carried out. It returns what waits for that, and starts another one.
func (w *world) crash(n int, carriedOut bool) (restart func()) {
	w.Helper()
	reached := make(chan struct{})
	var once sync.Once
	count := 0
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != firewallRulesPath {
			next.ServeHTTP(rw, r)
			return
		}
		if count++; count != n {
			next.ServeHTTP(rw, r)
			return
		}
		body, err := io.ReadAll(r.Body) // else the end of the client is not noticed
		w.must(err)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if carriedOut {
			next.ServeHTTP(httptest.NewRecorder(), r.WithContext(w.Context()))
		}
		once.Do(func() { close(reached) })
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	return func() {
		w.Helper()
		select {
		case <-reached:
		case <-time.After(2 * time.Minute):
			w.Fatalf("there is no request %d about the firewall", n)
		}
		ctx, cancel := context.WithCancel(w.Context())
		cancel() // nothing is waited for
		w.manager.Stop(ctx)
		w.api.Close()
		w.heal()
		w.connect()
	}
}

// Whenever the backend ends: the next one has the rules right, has lost nothing of others, and publishes
// no address whose ports are closed.
func TestABackendThatEndsAtAnyRequestLeavesTheFirewallRight(t *testing.T) {
	for n := 1; n <= 7; n++ { // a reading, and for each of two changes a reading, a write and a reading
		for _, carriedOut := range []bool{false, true} {
			t.Run(fmt.Sprintf("request %d, carried out %t", n, carriedOut), func(t *testing.T) {
				inKeepersWorld(t, 2, func(w *world) {
					w.addForeign("ann")
					before := w.rules()
					restart := w.crash(n, carriedOut)
					o := w.open().sync()
					key := o.opened("default/web", nil, 80)
					if n > 4 {
						o.settled(key)
						o.opened("default/web", nil, 80, 443)
					}
					restart()
					<-o.done
					o.publications.Wait()
					o.mu.Lock()
					published := slices.Clone(o.desired[key].Published)
					o.mu.Unlock()
					o = w.open()
					defer o.close()
					o.onState = func(s *session.State) {
						if len(s.Publish) > 0 && len(w.kept()) != 1 {
							t.Errorf("%v is published while %d rules are kept", s.Publish, len(w.kept()))
						}
					}
					o.opened("default/web", func(d *session.Desired) { d.Published = published }, 80, 443)
					o.sync()
					o.settled(key)
					time.Sleep(20 * time.Second)
					if kept := w.kept(); len(kept) != 1 || !strings.Contains(kept[0].text(), `"ports":["80","443"]`) {
						t.Errorf("kept: %v", kept)
					}
					w.sameForeign(before)
					writes := w.writes()
					time.Sleep(10 * time.Minute)
					if n := w.writes() - writes; n != 0 {
						t.Errorf("%d writes although nothing differs", n)
					}
				})
			})
		}
	}
}

// A list may miss an instance. While nothing is known of a node, no port on it is closed.
func TestANodeThatNoListShowsStaysOpen(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.opened("default/web", nil, 80)
		at := o.settled(key).Attached.InstanceID
		before := w.kept()[0].text()
		o.mu.Lock()
		published := slices.Clone(o.desired[key].Published)
		o.mu.Unlock()
		o.close()
		w.unlisted(at, time.Now().Add(time.Minute))
		w.connect() // as a backend that is started again
		o = w.open()
		defer o.close()
		o.opened("default/web", func(d *session.Desired) { d.Published = published }, 80)
		o.sync()
		for range 180 {
			time.Sleep(time.Second)
			if now := w.kept(); len(now) != 1 || now[0].text() != before {
				t.Fatalf("kept: %v\nbefore: %v", now, before)
			}
		}
	})
}

// Rules are where the cluster's instances are: they go with the last one of a VPC.
func TestAVPCThatTheLastNodeHasLeftHasNoRulesAnyMore(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		project := oxidesim.ProjectSeed{Name: "demo", VPCs: []oxidesim.VPCSeed{{Name: "edge"}}}
		w.must(w.sim.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{
			{Name: "demo", Projects: []oxidesim.ProjectSeed{project}},
		}}))
		node, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "edge-1", VPC: "edge"})
		w.must(err)
		edge := func() (n int) {
			for _, text := range w.sim.FirewallRules("edge") {
				if strings.Contains(string(text), ownership.RuleSource) {
					n++
				}
			}
			return n
		}
		o := w.open().sync()
		defer o.close()
		o.send(session.Item{Candidate: &health.Observation{
			InstanceID: node.ID, Name: "edge-1", Readiness: health.Ready, Exclusion: "is far away",
		}})
		o.settled(o.opened("default/web", nil, 80))
		w.await(time.Minute, "a rule in each VPC", func() bool { return edge() == 1 && len(w.kept()) == 1 })
		o.send(session.Item{CandidateRemoved: node.ID})
		w.await(time.Minute, "the end of the rule where no node is", func() bool { return edge() == 0 })
		if len(w.kept()) != 1 {
			t.Errorf("kept: %v", w.kept())
		}
		time.Sleep(5 * time.Minute)
		reads := w.reads()
		time.Sleep(10 * time.Minute)
		if n := w.reads() - reads; n > 11 {
			t.Errorf("%d readings in ten minutes: the VPC without nodes is read still", n)
		}
	})
}

// A load balancer ends without its rule, even if it is not known any more what it desired.
func TestTheEndOfOneThatIsPreservedTakesItsRuleAlong(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", func(d *session.Desired) {
			d.Sources = ruleset.ParseSources([]string{"203.0.113.0/24"})
		}, 80)
		o.settled(key)
		time.Sleep(10 * time.Second)
		o.opened("default/web", func(d *session.Desired) {
			d.Ending, d.PreserveReason = plan.EndRelease, "its annotations are wrong"
		})
		w.await(time.Minute, "the release", func() bool { return o.isReleased(key) })
		if kept := w.kept(); len(kept) > 0 {
			t.Errorf("it was released while %v is kept", kept)
		}
	})
}
