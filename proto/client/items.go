// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"cmp"
	"container/list"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// items are the latest items of a session, and which of them the server has yet to be sent: each
// object is queued at most once, so that neither fast changes nor a slow server cost memory.
// Session.mu guards them.
type items struct {
	// open is whether there is a stream. Without one nothing is queued: the next one begins with all.
	open  bool
	queue list.List

	// wake has an element when something was queued.
	wake chan struct{}

	candidates    map[string]*candidate
	reserved      *reservedPorts
	loadBalancers map[lbKey]*loadBalancer
	rebalance     *rebalance

	// generation is the greatest that was assigned, to whichever load balancer.
	generation int64
}

// clone copies a message. proto.CloneOf does it as well, and would force a newer protobuf on importers.
func clone[M proto.Message](message M) M { return proto.Clone(message).(M) }

func newItems() items {
	return items{
		wake:          make(chan struct{}, 1),
		candidates:    make(map[string]*candidate),
		loadBalancers: make(map[lbKey]*loadBalancer),
	}
}

// queued is something that the server can be sent.
type queued interface {
	// place is where its place in the queue is kept.
	place() *slot

	// requests are its items as of now, which are about to be sent.
	requests(i *items, now time.Time) []*backendv1.SyncLoadBalancersRequest
}

// slot is the place of an object in the queue; nil: it is not queued.
type slot struct{ element *list.Element }

func (s *slot) place() *slot { return s }

// enqueue has an object sent.
func (i *items) enqueue(q queued) {
	if !i.open || q.place().element != nil {
		return
	}
	q.place().element = i.queue.PushBack(q)
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// dequeue undoes enqueue.
func (i *items) dequeue(q queued) {
	if s := q.place(); s.element != nil {
		i.queue.Remove(s.element)
		s.element = nil
	}
}

// next returns the items of the object that is queued first; false: there is none.
func (i *items) next(now time.Time) ([]*backendv1.SyncLoadBalancersRequest, bool) {
	front := i.queue.Front()
	if front == nil {
		return nil, false
	}
	q := front.Value.(queued)
	i.dequeue(q)
	return q.requests(i, now), true
}

// begin queues a snapshot for a new stream.
func (i *items) begin() {
	i.open = true
	for _, id := range slices.Sorted(maps.Keys(i.candidates)) {
		i.enqueue(i.candidates[id])
	}
	if i.reserved != nil {
		i.enqueue(i.reserved)
	}
	for _, key := range slices.SortedFunc(maps.Keys(i.loadBalancers), lbKey.compare) {
		i.enqueue(i.loadBalancers[key])
	}
	if i.rebalance != nil {
		i.enqueue(i.rebalance)
	}
	i.enqueue(new(inSync))
}

// end forgets what was sent on a stream, and what was to be removed by it.
func (i *items) end() {
	i.open = false
	for front := i.queue.Front(); front != nil; front = i.queue.Front() {
		i.dequeue(front.Value.(queued))
	}
	for id, c := range i.candidates {
		c.sent = false
		if c.item == nil {
			delete(i.candidates, id)
		}
	}
	for key, lb := range i.loadBalancers {
		lb.stream = lbStream{}
		if lb.item == nil {
			delete(i.loadBalancers, key)
		}
	}
}

// candidate is the latest item of a candidate.
type candidate struct {
	slot

	// item has no durations; nil once the candidate was removed.
	item *backendv1.Candidate

	// readiness and reachability are since when they are observed; zero: not at all.
	readiness, reachability time.Time

	// sent is whether the server has it.
	sent bool
	id   string
}

func (i *items) setCandidate(item *backendv1.Candidate, readiness, reachability time.Time) {
	item = clone(item)
	item.ReadinessDuration, item.ReachabilityDuration = nil, nil
	c := i.candidates[item.GetInstanceId()]
	if c == nil {
		c = &candidate{id: item.GetInstanceId()}
		i.candidates[c.id] = c
	}
	if c.item != nil && proto.Equal(c.item, item) &&
		c.readiness.Equal(readiness) && c.reachability.Equal(reachability) {
		return
	}
	c.item, c.readiness, c.reachability = item, readiness, reachability
	i.enqueue(c)
}

func (i *items) removeCandidate(id string) {
	c := i.candidates[id]
	switch {
	case c == nil || c.item == nil:
	case c.sent:
		c.item = nil
		i.enqueue(c)
	default:
		i.dequeue(c)
		delete(i.candidates, id)
	}
}

func (c *candidate) requests(i *items, now time.Time) []*backendv1.SyncLoadBalancersRequest {
	if c.item == nil {
		delete(i.candidates, c.id)
		return []*backendv1.SyncLoadBalancersRequest{{
			Item: &backendv1.SyncLoadBalancersRequest_CandidateRemoved{
				CandidateRemoved: &backendv1.CandidateRemoved{InstanceId: c.id},
			},
		}}
	}
	c.sent = true
	item := clone(c.item)
	item.ReadinessDuration = since(c.readiness, now)
	item.ReachabilityDuration = since(c.reachability, now)
	return []*backendv1.SyncLoadBalancersRequest{{
		Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: item},
	}}
}

// since is how long ago something began; absent where that is not known.
func since(start, now time.Time) *durationpb.Duration {
	if start.IsZero() {
		return nil
	}
	return durationpb.New(max(0, now.Sub(start)))
}

// reservedPorts are all reserved ports.
type reservedPorts struct {
	slot
	item *backendv1.ReservedPortSet
}

func (i *items) setReservedPorts(ports []*backendv1.ReservedPorts) {
	item := clone(&backendv1.ReservedPortSet{Ports: ports})
	if i.reserved == nil {
		i.reserved = new(reservedPorts)
	} else if proto.Equal(i.reserved.item, item) {
		return
	}
	i.reserved.item = item
	i.enqueue(i.reserved)
}

func (r *reservedPorts) requests(*items, time.Time) []*backendv1.SyncLoadBalancersRequest {
	return []*backendv1.SyncLoadBalancersRequest{{
		Item: &backendv1.SyncLoadBalancersRequest_ReservedPorts{ReservedPorts: r.item},
	}}
}

// rebalance is the request of an operator that the server asked to remember.
type rebalance struct {
	slot
	item *backendv1.Rebalance
}

// remember keeps a request for the snapshots to come, until it expires.
func (i *items) remember(item *backendv1.Rebalance) {
	if i.rebalance != nil {
		i.dequeue(i.rebalance)
		i.rebalance = nil
	}
	if item.GetExpireTime() != nil {
		i.rebalance = &rebalance{item: item}
	}
}

func (r *rebalance) requests(i *items, now time.Time) []*backendv1.SyncLoadBalancersRequest {
	if !r.item.GetExpireTime().AsTime().After(now) {
		i.rebalance = nil
		return nil
	}
	return []*backendv1.SyncLoadBalancersRequest{{
		Item: &backendv1.SyncLoadBalancersRequest_Rebalance{Rebalance: r.item},
	}}
}

// inSync is the end of a snapshot.
type inSync struct{ slot }

func (*inSync) requests(*items, time.Time) []*backendv1.SyncLoadBalancersRequest {
	return []*backendv1.SyncLoadBalancersRequest{{
		Item: &backendv1.SyncLoadBalancersRequest_InSync{InSync: new(backendv1.InSync)},
	}}
}

// lbKey is a LoadBalancerKey that can be compared.
type lbKey struct{ scope, name string }

func keyOf(key *backendv1.LoadBalancerKey) lbKey {
	return lbKey{scope: key.GetScope(), name: key.GetName()}
}

func (k lbKey) compare(other lbKey) int {
	return cmp.Or(cmp.Compare(k.scope, other.scope), cmp.Compare(k.name, other.name))
}

func (k lbKey) proto() *backendv1.LoadBalancerKey {
	return &backendv1.LoadBalancerKey{Scope: k.scope, Name: k.name}
}
