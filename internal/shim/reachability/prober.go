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

	// Reachable: the node has answered, and has not become unreachable since.
	Reachable

	// Unreachable: the node has answered before, does not any more, and its Lease is overdue.
	Unreachable
)

// Observation is what this process has observed of a node.
type Observation struct {
	State State

	// Since is when this process began to observe this state; zero for Unknown. It has a monotonic
	// clock reading.
	Since time.Time

	// InDoubt says of an unreachable node that most other nodes do not answer either, or that there is
	// no other: it may be the network of this process that fails, so nothing follows.
	InDoubt bool
}

// Target is a node to probe.
type Target struct {
	// Node is its name.
	Node string

	// Address is its primary internal IP address and the port of its kubelet.
	Address netip.AddrPort

	// Carries says that the node carries addresses of load balancers: such nodes are probed first.
	Carries bool

	// Self says that this process is on the node, which says nothing about the network.
	Self bool
}

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

// Asker asks one address whether its host is alive.
type Asker interface {
	// Ask returns how the address answers, within the deadline of the context.
	Ask(ctx context.Context, address netip.AddrPort) Answer

	// Forget is called when an address is asked no more: it releases what is kept for it.
	Forget(address netip.AddrPort)
}

// Prober probes nodes and keeps what it has observed of them.
type Prober struct{}

// New returns a Prober. It calls `changed`, from one goroutine at a time, when Observe would return
// something else than before for a node; `changed` must not block.
func New(changed func(node string)) *Prober {
	_ = changed
	return &Prober{}
}

// SetTargets sets all nodes to be probed. What is known of a node is kept while its address stays.
func (p *Prober) SetTargets([]Target) {}

// Observe returns what is observed of a node.
func (p *Prober) Observe(string) Observation { return Observation{} }

// Run probes until the context ends. It reads by leaseAge how long ago a node renewed its Lease, of
// silent nodes only.
func (p *Prober) Run(ctx context.Context, _ Asker,
	_ func(ctx context.Context, node string) (time.Duration, error),
) {
	<-ctx.Done()
}
