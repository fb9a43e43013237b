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

// A Lease that was renewed ten seconds ago is not overdue: kubelets renew theirs every ten seconds.
func TestALeaseOfTenSecondsIsNotOverdue(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]State{leaseLimit: Reachable, leaseLimit + time.Second: Unreachable} {
		n := &node{state: Reachable, silent: silentLimit}
		if n.leaseRead(age, nil, now); n.state != want {
			t.Errorf("after %s it is %d, want %d", age, n.state, want)
		}
		if n.readDue.Before(now.Add(readAgainAfter)) {
			t.Errorf("after %s its Lease is read again %s later", age, n.readDue.Sub(now))
		}
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
