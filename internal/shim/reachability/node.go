// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"net/netip"
	"time"
)

// State is what is observed of a node.
type State int

// The states of a node.
const (
	// Unknown: the node has not answered in this process yet, or it is not probed.
	Unknown State = iota

	// Reachable: the node has answered, and nothing since shows that its host is gone.
	Reachable

	// Quiet: the node has answered before, three probes in a row found it silent while others answered,
	// and its Lease was not seen renewed since. It may turn out to be unreachable.
	Quiet

	// Unreachable: the node has answered before, three probes in a row found it silent, and its Lease
	// is overdue.
	Unreachable
)

// Observation is what this process has observed of a node.
type Observation struct {
	State State

	// Since is when this process began to observe this state; zero for Unknown. It has a monotonic
	// clock reading.
	Since time.Time

	// InDoubt says of an unreachable node that fewer than half of the other nodes answer, or that there
	// is no other: it may be the network of this process that fails, so nothing follows. Nor does
	// anything when they answer again, until three probes in a row have found the node silent since.
	InDoubt bool
}

// Target is a node to probe.
type Target struct {
	// Node is its name.
	Node string

	// Address is its primary internal IP address and the port of its kubelet. A Target whose address
	// no host can have is not probed.
	Address netip.AddrPort

	// Carries says that the node carries addresses of load balancers: such nodes are probed first.
	Carries bool

	// Self says that this process is on the node. An answer would say nothing about the network, so
	// it is not probed.
	Self bool
}

// probed says whether there is something to ask.
func (t Target) probed() bool {
	return !t.Self && IsHost(t.Address.Addr()) && t.Address.Port() != 0
}

// IsHost says whether an address can be that of a host.
func IsHost(ip netip.Addr) bool { return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() }

// Answer is how an address answered.
type Answer int

// The answers.
const (
	// Inconclusive: nothing was learned, for example because the question could not be sent.
	Inconclusive Answer = iota

	// Answered: the host lives.
	Answered

	// Silent: the host sent nothing.
	Silent
)

func (a Answer) String() string {
	switch a {
	case Answered:
		return "answered"
	case Silent:
		return "silent"
	default:
		return "inconclusive"
	}
}

// Asker asks addresses whether their hosts are alive.
type Asker interface {
	// Ask asks some addresses side by side and calls `report` once for each, by its index, before it
	// returns. At the deadline of the context an address that has not answered is Silent; if the context
	// is canceled it is Inconclusive.
	Ask(ctx context.Context, addresses []netip.AddrPort, report func(i int, answer Answer))

	// Forget is called when an address is asked no more: it releases what is kept for it.
	Forget(address netip.AddrPort)
}

// silentLimit is how many probes in a row must have found a node silent.
const silentLimit = 3

// node is what is known of one Target. It keeps no clock and starts nothing.
type node struct {
	Target
	state   State
	since   time.Time
	inDoubt bool

	// silent is how many probes in a row found it silent, since it last answered. vouched is how many of
	// them did while the others answered, since those last did not.
	silent, vouched int
	// renewed: its Lease was renewed since it last answered, so its kubelet lives.
	renewed bool
	// answeredAt and concludedAt are when the last probe ended that was answered, and the last one
	// that was answered or not; zero: none.
	answeredAt, concludedAt time.Time

	// due is when it is to be probed again, position where it stands in its queue; -1: in none.
	due      time.Time
	position int
	// asking: a probe is in flight. reading: its Lease is being read, and readDue when it may be read
	// again.
	asking, reading bool
	readDue         time.Time
	// removed: it is no target any more.
	removed bool
}

func newNode(target Target, due time.Time) *node {
	return &node{Target: target, due: due, position: -1}
}

// watchable says whether it has ever answered; the silence of another may be that of a packet filter.
func (n *node) watchable() bool { return n.state != Unknown }

// suspect says whether its Lease is to be read.
func (n *node) suspect() bool { return n.silent >= silentLimit }

// concluded notes the answer to a probe, and whether the others answered meanwhile. It returns whether
// the state is another now.
func (n *node) concluded(answer Answer, othersAnswer bool, now time.Time) bool {
	switch answer {
	case Answered:
		n.answeredAt, n.concludedAt = now, now
		n.silent, n.vouched, n.renewed, n.readDue = 0, 0, false, time.Time{}
		return n.become(Reachable, now)
	case Silent:
		n.concludedAt = now
		if n.watchable() {
			n.silent++
		}
		if n.watchable() && othersAnswer {
			n.vouched++
		}
	}
	return false
}

// leaseRead notes what was read of its Lease, and returns whether the state is another now. A Lease that
// could not be read says nothing.
func (n *node) leaseRead(lease Lease, err error, now time.Time) bool {
	switch {
	case !n.suspect():
		return false // it has answered meanwhile
	case err != nil:
		n.readDue = now.Add(readAgainAfter)
		return false
	case lease.Age > lease.Limit:
		n.readDue = now.Add(lease.Limit)
		return n.become(Unreachable, now)
	default:
		// A node whose kubelet renews its Lease lives, whatever the network says.
		n.renewed = n.renewed || now.Sub(n.answeredAt) > lease.Age+renewedLater
		n.readDue = now.Add(max(readAgainAfter, lease.Limit-lease.Age))
		return n.become(Reachable, now)
	}
}

func (n *node) become(state State, now time.Time) bool {
	if n.state == state {
		return false
	}
	n.state, n.since, n.inDoubt = state, now, false
	return true
}

// renewedLater is by how much a renewal must be later than the last answer to a probe to be another
// sign of life: both are known to a second.
const renewedLater = 2 * time.Second

func (n *node) observation() Observation {
	o := Observation{State: n.state, Since: n.since, InDoubt: n.inDoubt}
	if n.state == Reachable && n.suspect() && n.vouched >= silentLimit && !n.renewed {
		o.State = Quiet
	}
	return o
}

// queue holds nodes by when they are due; it implements heap.Interface.
type queue []*node

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	n := x.(*node)
	n.position = len(*q)
	*q = append(*q, n)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	n.position = -1
	return n
}
