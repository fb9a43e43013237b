// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"time"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// loadBalancer is the latest item of a load balancer, and the latest state.
type loadBalancer struct {
	slot
	key lbKey

	// item has its generation; nil once the load balancer was removed.
	item *backendv1.DesiredLoadBalancer

	// released is whether the owner of the item is ending and has nothing any more.
	released bool

	// stream is what is known of it on the stream that is open.
	stream lbStream
}

// lbStream is what passed for one load balancer on one stream.
type lbStream struct {
	// owner is the one whose item was sent last; empty: the server has none. removed is whether the
	// load balancer was removed since.
	owner   string
	removed bool

	// sent and sentAt are the latest generation that was sent. pending and pendingAt are the oldest
	// one that the server has not taken into account as far as is known; zero: there is none.
	sent, pending     int64
	sentAt, pendingAt time.Time

	// state is the latest state of the item's owner.
	state *backendv1.LoadBalancerState
}

func (i *items) setLoadBalancer(item *backendv1.DesiredLoadBalancer) int64 {
	key := keyOf(item.GetKey())
	item = clone(item)
	lb := i.loadBalancers[key]
	if lb == nil {
		lb = &loadBalancer{key: key}
		i.loadBalancers[key] = lb
	}
	if lb.item != nil {
		item.Generation = lb.item.GetGeneration()
		if proto.Equal(lb.item, item) {
			return item.GetGeneration()
		}
	}
	i.generation++
	item.Generation = i.generation
	if lb.item.GetOwnerUid() != item.GetOwnerUid() {
		lb.stream.pending, lb.stream.state = 0, nil
		lb.released = false
	}
	if item.GetEnding() == backendv1.Ending_ENDING_UNSPECIFIED {
		lb.released = false
	}
	lb.item = item
	i.enqueue(lb)
	return item.GetGeneration()
}

func (i *items) removeLoadBalancer(key lbKey, ownerUID string) {
	lb := i.loadBalancers[key]
	if lb == nil || lb.item == nil || lb.item.GetOwnerUid() != ownerUID {
		return
	}
	lb.item, lb.released = nil, false
	lb.stream.pending, lb.stream.state = 0, nil
	if lb.stream.owner == "" {
		i.dequeue(lb)
		delete(i.loadBalancers, key)
		return
	}
	// The server may still have an earlier owner, which this one has replaced.
	lb.stream.removed = true
	i.enqueue(lb)
}

func (lb *loadBalancer) requests(i *items, now time.Time) []*backendv1.SyncLoadBalancersRequest {
	var out []*backendv1.SyncLoadBalancersRequest
	stream := &lb.stream
	if stream.removed && stream.owner != lb.item.GetOwnerUid() {
		out = append(out, &backendv1.SyncLoadBalancersRequest{
			Item: &backendv1.SyncLoadBalancersRequest_LoadBalancerRemoved{
				LoadBalancerRemoved: &backendv1.LoadBalancerRemoved{
					Key: lb.key.proto(), OwnerUid: stream.owner,
				},
			},
		})
	}
	if lb.item == nil {
		delete(i.loadBalancers, lb.key)
		return out
	}
	stream.owner, stream.removed = lb.item.GetOwnerUid(), false
	stream.sent, stream.sentAt = lb.item.GetGeneration(), now
	if stream.pending == 0 {
		stream.pending, stream.pendingAt = stream.sent, now
	}
	return append(out, &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb.item},
	})
}

// accept keeps a state of the item's owner. It reports false for one that is older than what is
// known already, or about something else than what was sent.
func (lb *loadBalancer) accept(state *backendv1.LoadBalancerState) bool {
	stream, generation := &lb.stream, state.GetGeneration()
	if lb.item == nil || lb.item.GetOwnerUid() != state.GetOwnerUid() ||
		stream.owner != state.GetOwnerUid() ||
		generation > stream.sent || generation < stream.state.GetGeneration() {
		return false
	}
	stream.state = state
	if stream.pending != 0 && generation >= stream.pending {
		stream.pending = 0
		if generation < stream.sent {
			stream.pending, stream.pendingAt = stream.sent, stream.sentAt
		}
	}
	return true
}
