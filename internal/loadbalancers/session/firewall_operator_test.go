// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// A backend that keeps no rules removes none; what is left is reported, and removed by hand.
func TestTurnedOffNothingIsRemoved(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		w.addForeign("ann")
		before := w.rules()
		o := w.open().sync()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		if _, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{All: true}, true); !session.IsReason(err, session.ReasonRuleInUse) {
			t.Errorf("rules in use: %v", err)
		}
		o.close()
		w.keepsRules = false
		w.connect()
		kept := w.kept()
		o = w.open()
		defer o.close()
		o.opened("default/web", func(d *session.Desired) { d.Published = nil }, 80)
		o.sync()
		time.Sleep(5 * time.Minute)
		if diff := cmp.Diff(kept, w.kept()); diff != "" || len(kept) != 1 {
			t.Errorf("after it was turned off: %s", diff)
		}
		o.mu.Lock()
		unused := o.unused
		o.mu.Unlock()
		if len(unused) != 1 || unused[0].Key != key || !unused[0].Orphaned {
			t.Errorf("reported: %+v", unused)
		}
		found, err := w.manager.FirewallRules(w.Context(), scope)
		if err != nil || len(found.Rules) != 1 || found.Rules[0].Name != kept[0].name() ||
			len(found.Firewalls) != 1 || found.Firewalls[0].Rules != len(before)+1 {
			t.Errorf("listed: %+v, %v", found, err)
		}
		writes := w.writes()
		for _, dryRun := range []bool{true, false} {
			removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
				session.RuleSelection{Names: []string{kept[0].name()}}, dryRun)
			if err != nil || len(removed) != 1 || removed[0].Name != kept[0].name() {
				t.Errorf("removed: %+v, %v", removed, err)
			}
			if dryRun && w.writes() != writes {
				t.Error("a dry run writes")
			}
		}
		if len(w.kept()) != 0 {
			t.Errorf("left: %v", w.kept())
		}
		w.sameForeign(before)
		if removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{All: true}, false); err != nil || len(removed) != 0 {
			t.Errorf("removed again: %+v, %v", removed, err)
		}
		if _, err := w.manager.FirewallRules(w.Context(), "another"); !session.IsReason(err,
			session.ReasonSessionRequired) {
			t.Errorf("of another scope: %v", err)
		}
	})
}

// A rule whose load balancer is gone without an end is an orphan: reported, and removed by hand alone.
func TestAnOrphanedRuleIsReportedAndStays(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		gone := o.opened("default/gone", nil, 80)
		stays := o.opened("default/stays", nil, 81)
		o.settled(gone)
		o.settled(stays)
		o.send(session.Item{Removed: &session.Removal{Key: gone, OwnerUID: "uid-of-default-gone"}})
		time.Sleep(3 * time.Minute)
		o.mu.Lock()
		unused := o.unused
		o.mu.Unlock()
		if len(unused) != 1 || unused[0].Key != gone || len(w.kept()) != 2 {
			t.Errorf("reported: %+v, kept: %v", unused, w.kept())
		}
		removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{Orphaned: true}, false)
		if err != nil || len(removed) != 1 || removed[0].Key != gone || len(w.kept()) != 1 {
			t.Errorf("removed: %+v, %v", removed, err)
		}
		w.await(time.Minute, "the report", func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return len(o.unused) == 0
		})
	})
}

// Who removes orphans while load balancers come finds none of their rules among them.
func TestRulesOfLoadBalancersThatComeAreNoOrphans(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		var keys []ownership.Key
		for i := range 30 {
			keys = append(keys, o.opened(fmt.Sprintf("default/web-%d", i), nil, 8000+i))
		}
		for _, key := range keys {
			o.settled(key)
		}
		for _, key := range keys {
			o.send(session.Item{Removed: &session.Removal{
				Key: key, OwnerUID: "uid-of-" + strings.ReplaceAll(key.Name, "/", "-"),
			}})
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			o.opened(key.Name, nil)
			removed, err := w.manager.RemoveFirewallRules(ctx, scope, session.RuleSelection{Orphaned: true}, true)
			if err != nil || len(removed) > 0 {
				t.Errorf("%s: would be removed: %+v, %v", key, removed, err)
			}
			cancel()
		}
	})
}
