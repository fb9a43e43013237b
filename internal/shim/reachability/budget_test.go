// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/metrics/legacyregistry"
)

// valueOf returns the value of a metric as it is served, of the given result if one is given.
func valueOf(t *testing.T, name, result string) float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if labels := metric.GetLabel(); len(labels) == 0 || labels[0].GetValue() == result {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s is served", name)
	return 0
}

// thousand makes targets of the nodes 1 to 1,000, of which the first so many carry addresses.
func thousand(carriers int) []Target {
	var targets []Target
	for i := range 1000 {
		targets = append(targets,
			Target{Node: nameOf(i + 1), Address: addressOf(i + 1), Carries: i < carriers})
	}
	return targets
}

// perSecond counts questions in each second since the first.
func perSecond(questions []asked) []int {
	var counts []int
	for _, q := range questions {
		second := int(q.at.Sub(questions[0].at) / time.Second)
		for len(counts) <= second {
			counts = append(counts, 0)
		}
		counts[second]++
	}
	return counts
}

// intervals returns the longest time between two questions to one address, for those that carry
// addresses and for the others.
func intervals(questions []asked, targets []Target) (carriers, others time.Duration) {
	carries := make(map[netip.AddrPort]bool)
	for _, target := range targets {
		carries[target.Address] = target.Carries
	}
	last := make(map[netip.AddrPort]time.Time)
	for _, q := range questions {
		if before, ok := last[q.address]; ok && carries[q.address] {
			carriers = max(carriers, q.at.Sub(before))
		} else if ok {
			others = max(others, q.at.Sub(before))
		}
		last[q.address] = q.at
	}
	if len(last) != len(targets) {
		return time.Hour, time.Hour
	}
	return carriers, others
}

// There are at most 200 probes a second, whether they are answered or not. Nodes that carry addresses
// are probed once a second as long as there are 180 of them at most, and the others as often as the
// rest of the budget allows.
func TestTheBudgetGoesToNodesThatCarryAddressesFirst(t *testing.T) {
	for _, tc := range []struct {
		name             string
		carriers         int
		silent           bool
		carriersInterval time.Duration
		othersInterval   time.Duration
	}{
		{"none carries", 0, false, 0, 5500 * time.Millisecond},
		{"a hundred carry", 100, false, 1150 * time.Millisecond, 10 * time.Second},
		{"a hundred carry, all are silent", 100, true, 1200 * time.Millisecond, 10 * time.Second},
		{"180 carry", 180, false, 1150 * time.Millisecond, 42 * time.Second},
		{"all but 20 carry", 980, false, 6 * time.Second, 1150 * time.Millisecond},
		{"all carry", 1000, false, 5500 * time.Millisecond, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, c *cluster) {
				targets := thousand(tc.carriers)
				if tc.silent {
					for i := range targets {
						c.become(Silent, i+1)
					}
				}
				c.SetTargets(targets)
				after(30 * time.Second) // until what was due at once at first is spread
				c.takeQuestions()
				after(90 * time.Second)
				asked := c.takeQuestions()
				for second, count := range perSecond(asked) {
					if count > 200 {
						t.Errorf("%d probes in second %d", count, second)
					}
				}
				if len(asked) < 90*195 && !tc.silent {
					t.Errorf("%d probes only in 90 seconds", len(asked))
				}
				carriers, others := intervals(asked, targets)
				if carriers > tc.carriersInterval || others > tc.othersInterval {
					t.Errorf("those that carry addresses are probed every %s, the others every %s",
						carriers, others)
				}
				if c.mostAtOnce > maxInFlight {
					t.Errorf("%d probes at once", c.mostAtOnce)
				}
			})
		})
	}
}

// Few nodes are probed once a second each, and not all at once although they come at once.
func TestProbesAreSpreadOverTheSecond(t *testing.T) {
	inBubble(t, 101, func(t *testing.T, c *cluster) {
		c.takeQuestions()
		after(time.Minute)
		asked := c.takeQuestions()
		if len(asked) < 58*100 || len(asked) > 62*100 {
			t.Errorf("%d probes of 100 nodes in a minute", len(asked))
		}
		at := make(map[time.Time]int)
		for _, q := range asked {
			at[q.at]++
			if at[q.at] > perTick {
				t.Fatalf("%d probes at once", at[q.at])
			}
		}
		if longest, others := intervals(asked, c.targets[1:]); max(longest, others) > 1150*time.Millisecond {
			t.Errorf("%s between two probes of one node", max(longest, others))
		}
	})
}

// Nodes that come at once are not all asked at once.
func TestTheFirstProbesAreSpreadToo(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.SetTargets(thousand(0)[:20])
		after(period + tick)
		at := make(map[time.Time]bool)
		asked := c.takeQuestions()
		for _, q := range asked {
			at[q.at] = true
		}
		if len(asked) < 20 || len(at) < 5 {
			t.Errorf("%d probes at %d times", len(asked), len(at))
		}
	})
}

// A node that carries addresses is found dead among a thousand as fast as among five, and the others
// that were probed meanwhile vouch for the network.
func TestADeadNodeAmongAThousandIsFoundAsFast(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.SetTargets(thousand(100))
		after(time.Minute)
		c.die(time.Minute, 7)
		if took := c.within(t, 5*time.Second, "unreachable", c.isUnreachable(7)); took > 4500*time.Millisecond {
			t.Errorf("after %s", took)
		}
		if got := c.Observe(nameOf(7)); got.InDoubt {
			t.Errorf("%+v", got)
		}
		if got := c.allReads(); got != 1 {
			t.Errorf("%d Leases were read", got)
		}
	})
}

// While nothing fails no Lease is read.
func TestNoLeaseIsReadWhileNothingFails(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.SetTargets(thousand(100))
		after(3 * time.Minute)
		if got := c.allReads(); got > 0 {
			t.Errorf("%d Leases were read", got)
		}
	})
}

// Many failures at once are read one after the other, those of nodes that carry addresses first, and
// each is found within seconds.
func TestManyFailuresReadTheirLeasesInTurn(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.SetTargets(thousand(150))
		after(time.Minute)
		var dead, carriers []int
		for i := 100; i < 200; i++ {
			dead = append(dead, i)
			if i <= 150 {
				carriers = append(carriers, i)
			}
		}
		before := valueOf(t, "oxide_ccm_node_probes_total", "silent")
		c.die(time.Minute, dead...)
		all := func(of []int) func() bool {
			return func() bool {
				return !slices.ContainsFunc(of, func(i int) bool { return c.observed(i) != Unreachable })
			}
		}
		c.within(t, 8*time.Second, "all that carry addresses are unreachable", all(carriers))
		c.within(t, 90*time.Second, "all are unreachable", all(dead))
		for _, i := range dead {
			if c.Observe(nameOf(i)).InDoubt {
				t.Errorf("node %d is in doubt", i)
			}
		}
		if got := valueOf(t, "oxide_ccm_node_probes_total", "silent") - before; got < 300 {
			t.Errorf("%v silent probes were counted", got)
		}
	})
}

// An API server that does not answer is asked by few at a time, and when it answers again, in turn,
// beginning with the nodes that carry addresses.
func TestReadsOfLeasesAreBounded(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		const carriers, nodes = 100, 400
		c.SetTargets(thousand(carriers)[:nodes])
		after(10 * time.Second)
		for i := range nodes {
			c.die(time.Minute, i+1)
		}
		c.failLeases(errHangs)
		after(30 * time.Second)
		if c.mostReadsAtOnce > maxReads {
			t.Errorf("%d at once", c.mostReadsAtOnce)
		}
		// Each takes two seconds.
		if got := c.allReads(); got < 40 || got > 30*maxReads/2 {
			t.Errorf("%d in half a minute", got)
		}
		c.failLeases(nil)
		before := c.allReads()
		after(8 * time.Second)
		if got := c.allReads() - before; got < 120 || got > 160 {
			t.Errorf("%d in eight seconds", got)
		}
		for i := range carriers {
			if c.observed(i+1) != Unreachable {
				t.Errorf("node %d carries addresses, and its Lease was not read yet", i+1)
			}
		}
	})
}

// What is known of a node is kept while its address stays, whatever else of it changes, and forgotten
// with it.
func TestANodeIsKnownByItsAddress(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		before := c.Observe(nameOf(1))
		c.takeAnnounced()
		for range 3 {
			c.targets[1].Carries = !c.targets[1].Carries
			c.SetTargets(c.targets)
			after(2 * time.Second)
		}
		if diff := cmp.Diff(before, c.Observe(nameOf(1))); diff != "" {
			t.Error(diff)
		}
		if got := c.takeAnnounced(); len(got) > 0 {
			t.Errorf("announced: %v", got)
		}
		c.become(Silent, 9)
		c.targets[1].Address = addressOf(9)
		c.SetTargets(c.targets)
		after(time.Minute)
		if got := c.Observe(nameOf(1)); got != (Observation{}) {
			t.Errorf("at an address that never answered: %+v", got)
		}
		if diff := cmp.Diff([]string{nameOf(1)}, c.takeAnnounced()); diff != "" {
			t.Error("announced:", diff)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.kept[addressOf(1)] {
			t.Error("something is kept for its former address")
		}
	})
}

// Targets that come and go, while they answer, are silent or are suspected, leave nothing behind.
func TestTargetsThatComeAndGoLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		for round := range 200 {
			var targets []Target
			for i := range 50 {
				id := (round*17+i)%300 + 1
				targets = append(targets, Target{
					Node: nameOf(id), Address: addressOf(id), Carries: (round+i)%3 == 0,
				})
			}
			// A Node that was renamed has the address of another for a while.
			targets = append(targets, Target{Node: "renamed", Address: targets[0].Address})
			for i := range 20 {
				c.die(time.Minute, (round*5+i)%300+1)
				c.live((round*3+i)%300 + 1)
			}
			c.SetTargets(targets)
			after(time.Duration(round%40) * 100 * time.Millisecond)
		}
		c.SetTargets(nil)
		after(5 * time.Second)
		c.takeQuestions()
		after(time.Minute)
		if asked := c.takeQuestions(); len(asked) > 0 {
			t.Errorf("%d probes without targets", len(asked))
		}
		p := c.Prober
		p.mu.Lock()
		left := []int{
			len(p.nodes), len(p.carriers), len(p.others), len(p.suspects), len(p.inUse), len(p.unused),
			p.asking, p.reading, len(p.toAnnounce), len(c.kept),
		}
		p.mu.Unlock()
		if diff := cmp.Diff(make([]int, len(left)), left); diff != "" {
			t.Error(diff)
		}
		if got := valueOf(t, "oxide_ccm_nodes_watchable", ""); got != 0 {
			t.Errorf("the metric counts %v watchable nodes", got)
		}
	})
}

// When it ends it waits for nobody, and the asker keeps nothing.
func TestTheEndReleasesEverything(t *testing.T) {
	inBubble(t, 50, func(t *testing.T, c *cluster) {
		c.die(time.Minute, 1, 2, 3)
		c.failLeases(errHangs)
		after(4500 * time.Millisecond)
		begin := time.Now()
		c.stop()
		if took := time.Since(begin); took > 0 {
			t.Errorf("took %s", took)
		}
		if len(c.kept) > 0 {
			t.Errorf("kept: %v", c.kept)
		}
	})
}
