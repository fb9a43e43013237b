// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics/testutil"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func warned(reason, message string) string {
	return "Service shop/web Warning " + reason + " " + message
}

// reporting returns a controller that does not run, and its events.
func reporting(t *testing.T) (*Controller, *backendtest.Events) {
	t.Helper()
	c, recorded := bare(t, service(), node("stranger", ""), node("a", id1)), &backendtest.Events{}
	c.config.Reporter = events.NewReporter(recorded)
	return c, recorded
}

func TestEachConditionIsRecordedOnceWhileItHolds(t *testing.T) {
	type state = []stateChange
	firewall := func(ports string) stateChange {
		return holding(backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED, "open "+ports)
	}
	noCandidate := func(message string) stateChange {
		return holding(backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, message)
	}
	noFamily := func(message string) stateChange {
		return holding(backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING, message)
	}
	var every state
	var events []string
	for kind := range int32(len(backendv1.ConditionType_name)) {
		reason, known := conditionReasons[backendv1.ConditionType(kind)]
		if !known || reason == "AddressNotOwned" || reason == "NoCandidate" {
			continue
		}
		every = append(every, holding(backendv1.ConditionType(kind), "because\nof "+reason))
		if kind != int32(backendv1.ConditionType_CONDITION_TYPE_ATTACH_TIMEOUT) { // the same as PENDING
			events = append(events, warned(reason, "because of "+reason))
		}
	}
	for _, tt := range []struct {
		name string
		// states are what the backend says, one after the other.
		states []state
		want   []string
	}{
		{"none", []state{nil}, nil},
		{"every one", []state{every, every}, events},
		{"unknown ones", []state{{holding(99, "new"), holding(0, "nothing")}}, nil},
		{"it is gone and comes again", []state{{firewall("80")}, nil, {firewall("80")}},
			[]string{warned("FirewallClosed", "open 80"), warned("FirewallClosed", "open 80")}},
		{"it changes, and back", []state{{firewall("80")}, {firewall("443")}, {firewall("80")}},
			[]string{warned("FirewallClosed", "open 80"), warned("FirewallClosed", "open 443"),
				warned("FirewallClosed", "open 80")}},
		{"two of a kind", []state{{firewall("80"), firewall("53")}, {firewall("53")},
			{firewall("80"), firewall("53")}}, []string{warned("FirewallClosed", "open 80"),
			warned("FirewallClosed", "open 53"), warned("FirewallClosed", "open 80")}},
		{"no candidate, with the Nodes that are none, whatever their number",
			[]state{{noCandidate("none of 3")}, {noCandidate("none of 2")}},
			[]string{warned("NoCandidate", "none of 3; not candidates: stranger has no provider ID")}},
		{"one of two IP families, whatever is in the way of the other",
			[]state{{noFamily("its pool is full")}, {noFamily("it was full a moment ago")}},
			[]string{warned("IPFamilyMissing", "its pool is full")}},
		{"while nothing is known it may hold still", []state{{firewall("80")}, {phase(pendingPhase)},
			{firewall("80")}}, []string{warned("FirewallClosed", "open 80")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, recorded := reporting(t)
			for _, changes := range tt.states {
				state := &backendv1.LoadBalancerState{Phase: backendv1.Phase_PHASE_READY}
				all(changes...)(state)
				c.reportConditions(service(), state)
			}
			if diff := cmp.Diff(tt.want, recorded.Sent()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// That an address is somebody else's makes the framework's call fail, and the framework records
// that.
func TestAnAddressOfSomebodyElseIsRecordedOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		readOnly, accepted bool
		want               []string
	}{
		"as Ensure failed":         {false, false, nil},
		"as Ensure had succeeded":  {false, true, []string{warned("AddressNotOwned", "taken")}},
		"without Ensure, observed": {true, false, []string{warned("AddressNotOwned", "taken")}},
	} {
		t.Run(name, func(t *testing.T) {
			c, recorded := reporting(t)
			c.config.ReadOnly = tt.readOnly
			c.track(service(), func(known *tracked) { known.accepted = tt.accepted })
			state := &backendv1.LoadBalancerState{Phase: pendingPhase}
			holding(backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED, "taken")(state)
			c.reportConditions(service(), state)
			c.reportConditions(service(), state)
			if diff := cmp.Diff(tt.want, recorded.Sent()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			// Asked for something else, it is the framework that will fail.
			c.serviceChanged(service(), service(annotated(annotations.FloatingIP, "198.51.100.9")))
			if c.remembered(service()).accepted {
				t.Error("it counts as accepted")
			}
		})
	}
}

func action(kind backendv1.ActionType, change ...func(*backendv1.Action)) *backendv1.Action {
	a := &backendv1.Action{
		Type: kind, Key: &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		Address: "198.51.100.9", ResourceName: "lb-web", EndTime: timestamppb.New(created),
		Summary: "Moved the address 198.51.100.9 from a to b:\nb is better",
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func TestEachMoveIsRecorded(t *testing.T) {
	c, recorded := reporting(t)
	const attach, create = backendv1.ActionType_ACTION_TYPE_ATTACH, backendv1.ActionType_ACTION_TYPE_CREATE
	replaces := func(a *backendv1.Action) { a.Replaces, a.Summary = true, "Allocated another one" }
	for _, a := range []*backendv1.Action{
		action(create), action(attach), action(backendv1.ActionType_ACTION_TYPE_DETACH), action(attach),
		action(create, replaces), action(create, replaces),
		action(attach, func(a *backendv1.Action) { a.Key.Name = "shop/unknown" }),
		action(attach, func(a *backendv1.Action) { a.Planned = true }),
	} {
		c.actionTaken(a)
	}
	moved := "Service shop/web Normal AddressMoved Moved the address 198.51.100.9 from a to b: b is better"
	replaced := "Service shop/web Normal AddressReplaced Allocated another one"
	if diff := cmp.Diff([]string{moved, moved, replaced, replaced}, recorded.Sent()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Clients have to use another address: the backend says so of a new one, of the user's own when it is
// attached, and of one that was retained when it is marked again.
func TestWhatReplacesAnAddressIsRecordedHoweverItComes(t *testing.T) {
	c, recorded := reporting(t)
	for _, kind := range []backendv1.ActionType{
		backendv1.ActionType_ACTION_TYPE_CREATE, backendv1.ActionType_ACTION_TYPE_ATTACH,
		backendv1.ActionType_ACTION_TYPE_MARK,
	} {
		c.actionTaken(action(kind, func(a *backendv1.Action) { a.Replaces, a.Summary = true, kind.String() }))
	}
	const replaced = "Service shop/web Normal AddressReplaced "
	const moved = "Service shop/web Normal AddressMoved "
	want := []string{
		replaced + "ACTION_TYPE_CREATE", replaced + "ACTION_TYPE_ATTACH", moved + "ACTION_TYPE_ATTACH",
		replaced + "ACTION_TYPE_MARK",
	}
	if diff := cmp.Diff(want, recorded.Sent()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWhatWouldBeChangedIsLoggedOnce(t *testing.T) {
	c, _ := reporting(t)
	would := action(backendv1.ActionType_ACTION_TYPE_CREATE, func(a *backendv1.Action) {
		a.Planned, a.ResourceName = true, "lb-would"
	})
	before := len(logged.with("lb-would"))
	c.actionTaken(would)
	c.actionTaken(would)
	lines := logged.with("lb-would")
	if len(lines) != before+1 {
		t.Fatalf("it is logged %d times", len(lines))
	}
	for _, part := range []string{
		`"Would change in Oxide"`, `"namespace"="shop"`, `"service"="web"`, `"load_balancer"="shop/web"`,
		"ACTION_TYPE_CREATE",
	} {
		if len(logged.with(part)) == 0 {
			t.Errorf("no line has %s: %q", part, lines)
		}
	}
}

func TestOrphansAreLoggedOnceAndCounted(t *testing.T) {
	c, _ := reporting(t)
	orphans := []*backendv1.LoadBalancer{{
		Key:       &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/gone"},
		Addresses: []*backendv1.LoadBalancerAddress{{ResourceId: "fip-1", ResourceName: "lb-orphan"}},
	}}
	before := len(logged.with("lb-orphan"))
	c.logOrphans(orphans)
	c.logOrphans(orphans)
	if n := len(logged.with("lb-orphan")); n != before+1 {
		t.Errorf("it is logged %d times", n)
	}
	value(t, "orphans", 1, func() (float64, error) { return testutil.GetGaugeMetricValue(orphanedAddresses) })
	c.logOrphans(nil)
	value(t, "orphans", 0, func() (float64, error) { return testutil.GetGaugeMetricValue(orphanedAddresses) })
}

func TestOrphanedRulesAreLoggedOnceAndCounted(t *testing.T) {
	c, _ := reporting(t)
	rules := []*backendv1.FirewallRule{
		{VpcId: "vpc-1", VpcName: "default", Name: "lb-orphaned-rule", Key: c.lbKey("shop/gone")},
		{VpcId: "vpc-2", VpcName: "other", Name: "lb-orphaned-rule", Key: c.lbKey("shop/gone")},
	}
	c.logOrphanedRules(rules)
	c.logOrphanedRules(rules)
	lines := logged.with("lb-orphaned-rule")
	if len(lines) != 2 || !strings.Contains(lines[0], "remove-rules --orphaned") ||
		!strings.Contains(lines[0], "shop/gone") || !strings.Contains(lines[1], "other") {
		t.Errorf("the log has %q", lines)
	}
	value(t, "rules", 2, func() (float64, error) { return testutil.GetGaugeMetricValue(orphanedRules) })
	c.logOrphanedRules(nil)
	value(t, "rules", 0, func() (float64, error) { return testutil.GetGaugeMetricValue(orphanedRules) })
}

func value(t *testing.T, name string, want float64, of func() (float64, error)) {
	t.Helper()
	if got, err := of(); err != nil || got != want {
		t.Errorf("%s: %v, %v; want %v", name, got, err, want)
	}
}

func TestLoadBalancersAreCountedByTheirStates(t *testing.T) {
	c, _ := reporting(t)
	due := func() (float64, error) { return testutil.GetGaugeMetricValue(changesDue) }
	conflicting := func() (float64, error) { return testutil.GetGaugeMetricValue(conflicts) }
	c.track(service(), func(*tracked) {})
	dueBefore, _ := due() // other tests leave some
	conflictsBefore, _ := conflicting()
	closed := func() (float64, error) { return testutil.GetGaugeMetricValue(firewallClosed) }
	closedBefore, _ := closed()
	says := func(changes ...stateChange) {
		state := &backendv1.LoadBalancerState{
			Key: c.lbKey("shop/web"), OwnerUid: "uid-1", Phase: backendv1.Phase_PHASE_READY,
		}
		all(changes...)(state)
		c.handler().State(state)
	}
	says(phase(backendv1.Phase_PHASE_PROGRESSING))
	says(phase(backendv1.Phase_PHASE_PROGRESSING))
	value(t, "due", dueBefore+1, due)
	says(holding(backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT, "held"))
	value(t, "due", dueBefore, due)
	value(t, "conflicts", conflictsBefore+1, conflicting)
	value(t, "closed", closedBefore, closed)
	says(holding(backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT, "held"),
		holding(backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED, "open 80"))
	value(t, "closed", closedBefore+1, closed)
	c.mu.Lock()
	c.forget("shop/web")
	c.mu.Unlock()
	value(t, "conflicts", conflictsBefore, conflicting)
	value(t, "closed", closedBefore, closed)
}

// A failover is no drift, nor is what follows a change in Kubernetes.
func TestFailoversAreMeasuredAndDriftIsCounted(t *testing.T) {
	c, _ := reporting(t)
	drifts := func() (float64, error) { return testutil.GetCounterMetricValue(drift) }
	before, err := drifts()
	if err != nil {
		t.Fatal(err)
	}
	changed := func(ago time.Duration) {
		c.track(service(), func(known *tracked) { known.changedAt = time.Now().Add(-ago) })
	}
	detach := action(backendv1.ActionType_ACTION_TYPE_DETACH)
	changed(time.Second)
	c.actionTaken(detach)
	changed(time.Minute)
	failover := action(backendv1.ActionType_ACTION_TYPE_ATTACH, func(a *backendv1.Action) {
		a.CauseTime = timestamppb.New(created.Add(-3 * time.Second))
	})
	c.actionTaken(failover)
	value(t, "drift", before, drifts)
	// The backend's clock is that of another day.
	if ago := time.Since(c.remembered(service()).failoverSince); ago < 3*time.Second || ago > 4*time.Second {
		t.Errorf("the failover is measured since %s ago", ago)
	}
	c.track(service(), func(known *tracked) {
		known.failoverPublished(&backendv1.LoadBalancerState{Phase: backendv1.Phase_PHASE_READY})
	})
	if since := c.remembered(service()).failoverSince; !since.IsZero() {
		t.Error("the failover is measured still")
	}
	c.actionTaken(detach)
	value(t, "drift", before+1, drifts)
}

func TestWhatAUserMayMisunderstandIsRecordedOnce(t *testing.T) {
	for _, tt := range []struct {
		name     string
		services []*v1.Service
		want     []string
	}{
		{"nothing", []*v1.Service{service()}, nil},
		{"a misspelt annotation, corrected and misspelt again", []*v1.Service{
			service(annotated("oxide.computer/floating-ips", "x")),
			service(annotated("oxide.computer/floating-ips", "y")), service(),
			service(annotated("oxide.computer/floating-ips", "x")),
		}, []string{
			warned("UnknownAnnotation", "The annotation oxide.computer/floating-ips is not known: did you "+
				"mean oxide.computer/floating-ip?"),
			warned("UnknownAnnotation", "The annotation oxide.computer/floating-ips is not known: did you "+
				"mean oxide.computer/floating-ip?"),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, recorded := reporting(t)
			for _, s := range tt.services {
				c.reportSettings(s)
			}
			if diff := cmp.Diff(tt.want, recorded.Sent()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
