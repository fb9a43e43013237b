// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A dead host is unreachable after three silent seconds if its Lease is overdue by then, else as soon
// as it is.
func TestThreeSilentProbesAndAnOverdueLeaseMakeANodeUnreachable(t *testing.T) {
	for _, tc := range []struct {
		name string
		// renewed is how long before its death the node renewed its Lease.
		renewed     time.Duration
		least, most time.Duration
	}{
		{"renewed just before", 0, 12 * time.Second, 14 * time.Second},
		{"renewed five seconds before", 5 * time.Second, 7 * time.Second, 9 * time.Second},
		{"overdue when it falls silent", 12 * time.Second, 2 * time.Second, 4300 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 5, func(t *testing.T, c *cluster) {
				c.takeAnnounced()
				c.die(tc.renewed, 1)
				took := c.within(t, time.Minute, "unreachable", c.isUnreachable(1))
				if took < tc.least || took > tc.most {
					t.Errorf("unreachable after %s", took)
				}
				want := Observation{State: Unreachable, Since: time.Now()}
				if diff := cmp.Diff(want, c.Observe(nameOf(1))); diff != "" {
					t.Error(diff)
				}
				announced := slices.Compact(c.takeAnnounced()) // once as quiet, and once as unreachable
				if diff := cmp.Diff([]string{nameOf(1)}, announced); diff != "" {
					t.Error("announced:", diff)
				}
			})
		})
	}
}

// After two silent probes nothing follows yet, not even a read of the Lease.
func TestTwoSilentProbesAreNoFailure(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		for range 20 {
			c.die(time.Minute, 1)
			c.takeQuestions()
			c.within(t, 5*time.Second, "the second silent probe has begun", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				asked := 0
				for _, q := range c.questions {
					if q.address == addressOf(1) {
						asked++
					}
				}
				return asked == 2
			})
			c.become(Answered, 1)
			c.never(t, 4*time.Second, "unreachable", c.isUnreachable(1))
		}
		if got := c.readsOf(1); got > 0 {
			t.Errorf("its Lease was read %d times", got)
		}
	})
}

// A node that answers again is reachable at once, and nothing is left of its failure.
func TestANodeThatAnswersAgainIsReachableAtOnce(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		before := c.Observe(nameOf(1))
		c.die(time.Minute, 1)
		c.within(t, 5*time.Second, "unreachable", c.isUnreachable(1))
		after(time.Minute)
		c.takeAnnounced()
		// Its Lease may be overdue still: a kubelet takes longer to come back than its host.
		c.become(Answered, 1)
		took := c.within(t, 3*time.Second, "reachable", func() bool { return c.observed(1) == Reachable })
		if took > 2*time.Second {
			t.Errorf("reachable after %s", took)
		}
		now := c.Observe(nameOf(1))
		if now.InDoubt || !now.Since.After(before.Since) || time.Since(now.Since) > 100*time.Millisecond {
			t.Errorf("%+v", now)
		}
		if diff := cmp.Diff([]string{nameOf(1)}, c.takeAnnounced()); diff != "" {
			t.Error("announced:", diff)
		}
		reads := c.allReads()
		after(time.Minute)
		if got := c.allReads(); got != reads {
			t.Errorf("%d more Leases were read", got-reads)
		}
	})
}

// The port of such a node may be filtered, so its silence says nothing, whatever its Lease says.
func TestANodeThatNeverAnsweredNeverCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5)
		defer c.stop()
		c.die(time.Hour, 1, 2, 3)
		after(time.Minute)
		c.die(time.Hour, 4) // has answered, and must be vouched for by those that have
		after(time.Minute)
		for i := range 4 {
			if got := c.Observe(nameOf(i)); got != (Observation{}) {
				t.Errorf("node %d: %+v", i, got)
			}
		}
		if got := c.readsOf(1) + c.readsOf(2) + c.readsOf(3); got > 0 {
			t.Errorf("their Leases were read %d times", got)
		}
		if got := c.Observe(nameOf(4)); got.State != Unreachable || !got.InDoubt {
			t.Errorf("without another node that has ever answered: %+v", got)
		}
	})
}

// Half of the other nodes suffice, fewer do not.
func TestAnUnreachableNodeIsInDoubtUnlessHalfOfTheOthersAnswer(t *testing.T) {
	for _, tc := range []struct {
		name        string
		nodes, dead int
		inDoubt     bool
	}{
		{"one of ten", 11, 1, false},
		{"five of ten", 11, 5, false},
		{"six of eleven, five others of ten answer", 12, 6, false},
		{"six of ten", 11, 6, true},
		{"nine of ten", 11, 9, true},
		{"all: this node is cut off", 11, 10, true},
		{"one of two", 3, 1, false},
		{"both", 3, 2, true},
		{"the only other one, for which no node can vouch", 2, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.nodes, func(t *testing.T, c *cluster) {
				var dead []int
				for i := range tc.dead {
					dead = append(dead, i+1)
				}
				suppressedBefore := valueOf(t, "oxide_ccm_node_unreachable_suppressed_total", "")
				c.die(time.Minute, dead...)
				c.never(t, 8*time.Second, "unreachable in spite of doubt", func() bool {
					now := c.Observe(nameOf(1))
					return tc.inDoubt && now.State == Unreachable && !now.InDoubt
				})
				for _, i := range dead {
					if got := c.Observe(nameOf(i)); got.State != Unreachable || got.InDoubt != tc.inDoubt {
						t.Errorf("node %d: %+v", i, got)
					}
				}
				counted := valueOf(t, "oxide_ccm_node_unreachable_suppressed_total", "") - suppressedBefore
				if want := tc.dead; tc.inDoubt && counted != float64(want) || !tc.inDoubt && counted != 0 {
					t.Errorf("%v judgements were counted as suppressed", counted)
				}
				if got := valueOf(t, "oxide_ccm_nodes_unreachable", ""); got != float64(tc.dead) {
					t.Errorf("the metric counts %v unreachable nodes", got)
				}
				if got := valueOf(t, "oxide_ccm_nodes_watchable", ""); got != float64(tc.nodes-1) {
					t.Errorf("the metric counts %v watchable nodes", got)
				}
			})
		})
	}
}

// Silence that is known at once, as where a host does not answer ARP, is no other: without another node
// that answers nothing follows.
func TestSilenceThatIsKnownAtOnceTakesTheOthersToo(t *testing.T) {
	for nodes, judged := range map[int]bool{2: false, 3: true} {
		t.Run(strconv.Itoa(nodes), func(t *testing.T) {
			inBubble(t, nodes, func(t *testing.T, c *cluster) {
				for range 20 {
					c.noRoute = true
					c.die(time.Minute, 1)
					if judged {
						took := c.within(t, 4*time.Second, "judged", c.isJudged(1))
						if took < 2*time.Second-period/10 {
							t.Errorf("judged after %s", took)
						}
					} else {
						c.never(t, 10*time.Second, "judged", c.isJudged(1))
					}
					c.live(1)
					after(3 * time.Second)
				}
			})
		})
	}
}

// The doubt about one dead node begins with the silence of the others, ends when it is silent three
// times while they answer, and is announced.
func TestDoubtEndsWhenTheOthersAnswerAgain(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.die(time.Minute, 1)
		c.within(t, 5*time.Second, "unreachable", c.isUnreachable(1))
		since := c.Observe(nameOf(1)).Since
		c.takeAnnounced()
		c.become(Silent, 2, 3, 4)
		c.within(t, 4*time.Second, "in doubt", func() bool { return c.Observe(nameOf(1)).InDoubt })
		if diff := cmp.Diff([]string{nameOf(1)}, c.takeAnnounced()); diff != "" {
			t.Error("announced:", diff)
		}
		c.become(Answered, 2, 3, 4)
		took := c.within(t, 6*time.Second, "not in doubt", func() bool {
			return !c.Observe(nameOf(1)).InDoubt
		})
		if took < 2*time.Second {
			t.Errorf("not in doubt after %s", took)
		}
		if diff := cmp.Diff([]string{nameOf(1)}, c.takeAnnounced()); diff != "" {
			t.Error("announced:", diff)
		}
		if diff := cmp.Diff(Observation{State: Unreachable, Since: since}, c.Observe(nameOf(1))); diff != "" {
			t.Error(diff)
		}
	})
}

// When the network comes back, one node answers before another. Who has not been asked since stays in
// doubt: it may be about to answer.
func TestDoubtOutlastsAnOutageUntilTheNodeWasAskedAgain(t *testing.T) {
	inBubble(t, 9, func(t *testing.T, c *cluster) {
		all := []int{1, 2, 3, 4, 5, 6, 7, 8}
		for range 20 {
			c.die(time.Minute, all...)
			// The Lease of the last is overdue only when the others answer again.
			c.renewAgain(8)
			c.never(t, 8*time.Second, "unreachable in spite of doubt", c.isJudged(all...))
			c.stopRenewing(time.Minute, 8)
			c.become(Answered, all...)
			c.never(t, 4*time.Second, "unreachable although it answers", c.isJudged(all...))
			c.live(all...)
			after(3 * time.Second)
		}
	})
}

// A probe that was sent in an outage may end after it: however short the outage was, nobody who answers
// the next probe is called dead.
func TestNobodyIsJudgedByAnOutageThatEnds(t *testing.T) {
	for _, tc := range []struct{ nodes, carriers, rounds int }{
		{3, 0, 60}, {8, 0, 60}, {300, 300, 5},
		// Most are probed so seldom that their last answer is older than the outage.
		{1000, 20, 12},
	} {
		t.Run(strconv.Itoa(tc.nodes), func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, c *cluster) {
				targets := thousand(tc.carriers)[:tc.nodes]
				c.SetTargets(targets)
				after(20 * time.Second)
				var all []int
				for i := range targets {
					all = append(all, i+1)
				}
				judged := c.isJudged(all[:min(tc.nodes, max(tc.carriers, 8))]...)
				for i := range tc.rounds {
					c.die(time.Minute, all...)
					outage := time.Second + 3*time.Second*time.Duration(i)/time.Duration(tc.rounds)
					c.never(t, outage, "judged in it", judged)
					c.become(Answered, all...)
					c.never(t, 3*time.Second, "judged after it", judged)
					c.live(all...)
					after(time.Duration(i%7) * 130 * time.Millisecond)
				}
			})
		})
	}
}

// A node that fails for five seconds and lives for five, again and again, is reachable whenever it
// answers; each failure is one of its own.
func TestAFlappingNodeIsObservedAsItIs(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		var last time.Time
		for range 12 {
			c.die(time.Minute, 1)
			after(5 * time.Second)
			now := c.Observe(nameOf(1))
			if now.State != Unreachable || !now.Since.After(last) || now.InDoubt {
				t.Fatalf("%+v", now)
			}
			last = now.Since
			c.live(1)
			after(5 * time.Second)
			if now := c.Observe(nameOf(1)); now.State != Reachable || !now.Since.After(last) {
				t.Fatalf("%+v", now)
			}
		}
	})
}

// What fails at this end is neither an answer nor silence.
func TestNothingFollowsFromAnInconclusiveProbe(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.become(Inconclusive, 1, 2, 3, 4)
		c.stopRenewing(time.Minute, 1, 2, 3, 4)
		c.never(t, time.Minute, "not reachable", func() bool { return c.observed(1) != Reachable })
		if got := c.allReads(); got > 0 {
			t.Errorf("%d Leases were read", got)
		}
		// None of the others says that the network works.
		c.become(Silent, 1)
		c.within(t, 5*time.Second, "unreachable", c.isUnreachable(1))
		if got := c.Observe(nameOf(1)); !got.InDoubt {
			t.Errorf("%+v", got)
		}
		c.become(Inconclusive, 1)
		c.never(t, time.Minute, "not unreachable", func() bool { return c.observed(1) != Unreachable })
	})
}

// Nodes whose address is IPv6 are asked at it.
func TestIPv6TargetsAreProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		address := netip.MustParseAddrPort("[fd00::1]:10250")
		c.SetTargets([]Target{{Node: "six", Address: address}})
		after(3 * time.Second)
		if got := c.Observe("six").State; got != Reachable {
			t.Errorf("state %d", got)
		}
		if asked := c.takeQuestions(); len(asked) == 0 || asked[0].address != address {
			t.Errorf("%+v", asked)
		}
	})
}

// The node of this process and nodes without an address that a host can have are asked nothing.
func TestWhatCannotBeAskedIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.SetTargets([]Target{
			{Node: "self", Address: addressOf(1), Self: true}, {Node: "none"},
			{Node: "unspecified", Address: netip.MustParseAddrPort("0.0.0.0:10250")},
			{Node: "unspecified-6", Address: netip.MustParseAddrPort("[::]:10250")},
			{Node: "multicast", Address: netip.MustParseAddrPort("224.0.0.1:10250")},
			{Node: "no-port", Address: netip.AddrPortFrom(addressOf(2).Addr(), 0)},
		})
		after(10 * time.Second)
		if asked := c.takeQuestions(); len(asked) > 0 {
			t.Errorf("%+v", asked)
		}
		if got := c.Observe("self"); got != (Observation{}) {
			t.Errorf("self: %+v", got)
		}
	})
}

// A Lease that is renewed says that the node lives, before as well as after it was called
// unreachable: then it is the way to it that fails.
func TestANodeThatRenewsItsLeaseIsNotUnreachable(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.become(Silent, 1)
		c.never(t, time.Minute, "unreachable", c.isUnreachable(1))
		c.stopRenewing(0, 1)
		c.within(t, 22*time.Second, "unreachable", c.isUnreachable(1))
		c.renewAgain(1)
		c.within(t, 12*time.Second, "reachable", func() bool { return c.observed(1) == Reachable })
		c.stopRenewing(0, 1)
		c.within(t, 22*time.Second, "unreachable", c.isUnreachable(1))
	})
}

// While it is not known whether the Lease is overdue, nothing follows from the silence.
func TestNothingFollowsWhileTheLeaseCannotBeRead(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.failLeases(errors.New("forbidden"))
		c.die(time.Minute, 1)
		c.never(t, time.Minute, "unreachable", c.isUnreachable(1))
		if got := c.readsOf(1); got < 50 || got > 60 {
			t.Errorf("its Lease was read %d times in a minute", got)
		}
		c.failLeases(nil)
		c.within(t, 2*time.Second, "unreachable", c.isUnreachable(1))
		// What was found out stays true while the API server is away.
		c.failLeases(errors.New("forbidden"))
		c.never(t, time.Minute, "not unreachable", func() bool { return c.observed(1) != Unreachable })
	})
}
