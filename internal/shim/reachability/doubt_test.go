// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"testing"
	"testing/synctest"
	"time"
)

// Nodes whose ports are filtered say nothing about the network: one that dies among many of them is
// found as among few.
func TestNodesThatNeverAnsweredTakeNothingFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 10)
		defer c.stop()
		c.become(Silent, 3, 4, 5, 6, 7, 8, 9)
		after(10 * time.Second)
		c.die(time.Minute, 1)
		c.within(t, 5*time.Second, "judged", c.isJudged(1))
		after(time.Minute)
		if got := c.Observe(nameOf(1)); got.InDoubt {
			t.Errorf("%+v", got)
		}
	})
}

// An answer that takes nearly a second is one.
func TestASlowAnswerIsAnAnswer(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.answerAfter(900 * time.Millisecond)
		silent := valueOf(t, "oxide_ccm_node_probes_total", "silent")
		after(time.Minute)
		if got := valueOf(t, "oxide_ccm_node_probes_total", "silent"); got != silent {
			t.Errorf("%v probes were called silent", got-silent)
		}
	})
}

// A kubelet renews its Lease 10.0 to 10.4 s after it last has, and a renewal takes a moment: what is seen of
// a living one, in whole seconds, is not overdue. One with a longer duration is renewed more seldom.
func TestALeaseThatALivingKubeletRenewsIsNotOverdue(t *testing.T) {
	now, seconds := time.Now(), func(n int32) *int32 { return &n }
	for _, tt := range []struct {
		duration *int32
		age      time.Duration
		want     State
	}{
		{nil, 12 * time.Second, Reachable},
		{nil, 13 * time.Second, Unreachable},
		{seconds(40), 12 * time.Second, Reachable},
		{seconds(40), 13 * time.Second, Unreachable},
		{seconds(20), 12 * time.Second, Reachable},
		{seconds(80), 24 * time.Second, Reachable},
		{seconds(80), 25 * time.Second, Unreachable},
	} {
		n := &node{state: Reachable, silent: silentLimit}
		if n.leaseRead(Lease{tt.age, limitOf(tt.duration)}, nil, now); n.state != tt.want {
			t.Errorf("%+v: it is %d", tt, n.state)
		}
		if n.readDue.Before(now.Add(readAgainAfter)) {
			t.Errorf("%+v: it is read again %s later", tt, n.readDue.Sub(now))
		}
	}
}

// A node that falls silent while the others answer may be dead: that is said before its Lease is overdue, and
// no longer once a renewal shows that its kubelet lives.
func TestASilentNodeIsQuietUntilItsLeaseIsRenewed(t *testing.T) {
	now := time.Now()
	n := &node{state: Reachable, answeredAt: now}
	for i := range silentLimit {
		if got := n.observation().State; got != Reachable {
			t.Errorf("after %d silent probes it is %d", i, got)
		}
		now = now.Add(time.Second)
		n.concluded(Silent, true, now)
	}
	if got := n.observation().State; got != Quiet {
		t.Errorf("after %d silent probes it is %d", silentLimit, got)
	}
	n.leaseRead(Lease{5 * time.Second, limitOf(nil)}, nil, now) // renewed before it fell silent
	if got := n.observation().State; got != Quiet {
		t.Errorf("with its Lease of before it is %d", got)
	}
	n.leaseRead(Lease{time.Second, limitOf(nil)}, nil, now.Add(5*time.Second))
	if got := n.observation().State; got != Reachable {
		t.Errorf("with a renewed Lease it is %d", got)
	}
	outage := &node{state: Reachable, answeredAt: now}
	for range silentLimit {
		outage.concluded(Silent, false, now)
	}
	if got := outage.observation().State; got != Reachable {
		t.Errorf("in an outage of all it is %d", got)
	}
}

// The Lease of one node is read once at a time, however long the answer takes.
func TestTheLeaseOfANodeIsReadOnceAtATime(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, c *cluster) {
		c.failLeases(errHangs)
		c.die(time.Minute, 1)
		after(10 * time.Second)
		if got := c.readsOf(1); got < 2 || c.mostReadsAtOnce != 1 {
			t.Errorf("it was read %d times, %d side by side", got, c.mostReadsAtOnce)
		}
	})
}
