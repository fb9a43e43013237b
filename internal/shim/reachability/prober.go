// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// How often is asked, and for how long an answer is awaited.
const (
	// tick is how often probes are started, at most perTick at a time: 200 a second.
	tick    = 50 * time.Millisecond
	perTick = 10

	// period is the time between two probes of a node, varied by up to a twentieth; where the budget
	// does not suffice it is longer.
	period  = time.Second
	timeout = time.Second

	// maxInFlight is how many probes may await their answers.
	maxInFlight = 200
)

// How often Leases are read: one at a tick, a few side by side, and that of one node once in
// readAgainAfter.
const (
	maxReads       = 4
	readTimeout    = 2 * time.Second
	readAgainAfter = time.Second
)

// ReadLease reads the Lease of a node; an error means that nothing is known.
type ReadLease = func(ctx context.Context, node string) (Lease, error)

// Prober probes nodes and keeps what it has observed of them.
type Prober struct {
	changed func(node string)

	mu sync.Mutex
	// nodes are the targets by name; carriers and others are those of them that await their next probe.
	nodes            map[string]*node
	carriers, others queue
	// suspects are the nodes whose Leases are read.
	suspects map[*node]struct{}
	// inUse counts the nodes that are, or are being, asked at an address; unused are addresses that
	// the asker can forget.
	inUse  map[netip.AddrPort]int
	unused []netip.AddrPort
	// asking and reading count what is in flight.
	asking, reading int
	// toAnnounce are the nodes of which another observation is to be announced.
	toAnnounce []string
}

// New returns a Prober. Run calls `changed`, within a tick, when Observe returns something else than
// before for a node; `changed` must not block.
func New(changed func(node string)) *Prober {
	registerMetrics()
	return &Prober{
		changed: changed, nodes: make(map[string]*node), suspects: make(map[*node]struct{}),
		inUse: make(map[netip.AddrPort]int),
	}
}

// SetTargets sets all nodes to be probed, by name; of two with one name the first counts. What is
// known of a node is kept while its address stays.
func (p *Prober) SetTargets(targets []Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := make(map[string]bool, len(targets))
	for _, target := range targets {
		if wanted[target.Node] {
			continue
		}
		wanted[target.Node] = true
		known := p.nodes[target.Node]
		switch {
		case known == nil:
			p.add(target)
		case known.Address != target.Address || known.Self != target.Self:
			p.remove(known)
			p.add(target)
		case known.Carries != target.Carries:
			queued := p.dequeue(known)
			known.Carries = target.Carries
			if queued {
				p.enqueue(known)
			}
		}
	}
	for name, known := range p.nodes {
		if !wanted[name] {
			p.remove(known)
		}
	}
}

// add begins with a node somewhere in the next period, so that many at once are spread over it.
func (p *Prober) add(target Target) {
	n := newNode(target, time.Now().Add(rand.N(period)))
	p.nodes[target.Node] = n
	if n.probed() {
		p.inUse[n.Address]++
		p.enqueue(n)
	}
}

func (p *Prober) remove(n *node) {
	n.removed = true
	delete(p.nodes, n.Node)
	delete(p.suspects, n)
	p.dequeue(n)
	if n.state != Unknown {
		p.toAnnounce = append(p.toAnnounce, n.Node)
	}
	if n.probed() && !n.asking {
		p.release(n.Address)
	}
}

// release notes that one node less is asked at an address.
func (p *Prober) release(address netip.AddrPort) {
	p.inUse[address]--
	if p.inUse[address] == 0 {
		delete(p.inUse, address)
		p.unused = append(p.unused, address)
	}
}

func (p *Prober) queueOf(n *node) *queue {
	if n.Carries {
		return &p.carriers
	}
	return &p.others
}

func (p *Prober) enqueue(n *node) { heap.Push(p.queueOf(n), n) }

func (p *Prober) dequeue(n *node) (queued bool) {
	if n.position < 0 {
		return false
	}
	heap.Remove(p.queueOf(n), n.position)
	return true
}

// Observe returns what is observed of a node.
func (p *Prober) Observe(name string) Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.nodes[name]; n != nil {
		return n.observation()
	}
	return Observation{}
}

// Run probes until the context ends, once in the life of a Prober. It reads the Leases of silent nodes
// only.
func (p *Prober) Run(ctx context.Context, asker Asker, read ReadLease) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var inFlight sync.WaitGroup
	defer p.forgetAll(asker)
	defer inFlight.Wait()

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		due, suspect, unused := p.next(now)
		for _, address := range unused {
			asker.Forget(address)
		}
		if len(due) > 0 {
			inFlight.Go(func() { p.probe(ctx, asker, due, now) })
		}
		if suspect != nil {
			inFlight.Go(func() {
				within, cancel := context.WithTimeout(ctx, readTimeout)
				defer cancel()
				lease, err := read(within, suspect.Node)
				p.leaseWasRead(suspect, lease, err)
			})
		}
		p.announce()
	}
}

// probe asks nodes and notes their answers as they come.
func (p *Prober) probe(ctx context.Context, asker Asker, due []*node, now time.Time) {
	within, cancel := context.WithDeadline(ctx, now.Add(timeout))
	defer cancel()
	addresses := make([]netip.AddrPort, 0, len(due))
	for _, n := range due {
		addresses = append(addresses, n.Address)
	}
	asker.Ask(within, addresses, func(i int, answer Answer) { p.probed(due[i], answer) })
}

// next returns whom to probe now, whose Lease to read, if any, and which addresses the asker can forget.
func (p *Prober) next(now time.Time) (due []*node, suspect *node, unused []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.evaluate(now)

	// A tenth is left to the nodes that carry nothing, so that they are never starved.
	free := min(perTick, maxInFlight-p.asking)
	due = take(nil, &p.carriers, free-(free+9)/10, now)
	due = take(due, &p.others, free, now)
	due = take(due, &p.carriers, free, now)
	for _, n := range due {
		n.asking = true
		n.due = now.Add(period - period/20 + rand.N(period/10))
	}
	p.asking += len(due)

	if suspect = p.nextSuspect(now); suspect != nil {
		suspect.reading = true
		p.reading++
	}
	unused, p.unused = p.unused, nil
	return due, suspect, unused
}

// take moves nodes that are due from a queue, until there are `limit`.
func take(taken []*node, from *queue, limit int, now time.Time) []*node {
	for len(taken) < limit && len(*from) > 0 && !(*from)[0].due.After(now) {
		taken = append(taken, heap.Pop(from).(*node))
	}
	return taken
}

// nextSuspect returns the node whose Lease is to be read next, if any: first those that carry
// addresses, then in turn.
func (p *Prober) nextSuspect(now time.Time) *node {
	if p.reading >= maxReads {
		return nil
	}
	var next *node
	for n := range p.suspects {
		switch {
		case n.reading || n.readDue.After(now):
		case next == nil, n.Carries && !next.Carries,
			n.Carries == next.Carries && n.readDue.Before(next.readDue):
			next = n
		}
	}
	return next
}

// probed notes the result of a probe.
func (p *Prober) probed(n *node, answer Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	countProbe(answer)
	p.asking--
	n.asking = false
	if n.removed {
		p.release(n.Address)
		return
	}
	p.enqueue(n)
	before := n.observation()
	now := time.Now()
	if n.concluded(answer, answer == Silent && p.othersAnswer(n, now), now) && before.State == Unreachable {
		klog.InfoS("Node answers again", "node", n.Node)
	}
	if n.observation() != before {
		p.noteChange(n)
	}
	if n.suspect() {
		p.suspects[n] = struct{}{}
	} else {
		delete(p.suspects, n)
	}
}

// leaseWasRead notes the result of reading a Lease.
func (p *Prober) leaseWasRead(n *node, lease Lease, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.reading--
	n.reading = false
	if n.removed {
		return
	}
	before := n.observation()
	changed := n.leaseRead(lease, err, now)
	if n.observation() != before {
		p.noteChange(n)
	}
	switch {
	case !changed:
		return
	case n.state == Unreachable:
		klog.InfoS("Node is unreachable: it does not answer, and its Lease is overdue", "node", n.Node,
			"silent", now.Sub(n.answeredAt), "leaseAge", lease.Age)
	default:
		klog.InfoS("Node does not answer, but renews its Lease again", "node", n.Node)
	}
	p.evaluate(now)
}

func (p *Prober) noteChange(n *node) { p.toAnnounce = append(p.toAnnounce, n.Node) }

// announce reports the nodes of which something else is observed, without the lock: the callee may
// ask what.
func (p *Prober) announce() {
	p.mu.Lock()
	names := p.toAnnounce
	p.toAnnounce = nil
	if len(names) > 0 {
		p.setGauges()
	}
	p.mu.Unlock()
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		p.changed(name)
	}
}

// setGauges counts the nodes by state.
func (p *Prober) setGauges() {
	watchable, unreachable := 0, 0
	for _, n := range p.nodes {
		if n.watchable() {
			watchable++
		}
		if n.state == Unreachable {
			unreachable++
		}
	}
	watchableNodes.Set(float64(watchable))
	unreachableNodes.Set(float64(unreachable))
}

// forgetAll ends it: nothing is in flight any more.
func (p *Prober) forgetAll(asker Asker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address := range p.inUse {
		asker.Forget(address)
	}
	for _, address := range p.unused {
		asker.Forget(address)
	}
	p.unused = nil
	watchableNodes.Set(0)
	unreachableNodes.Set(0)
}
