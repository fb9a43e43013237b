// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// receiver is the receiving side of a session.
type receiver struct {
	scope string
	// inSync: the snapshot is complete.
	inSync bool
	items  *ledger
}

// open receives the first item.
func (r *receiver) open(stream syncStream) (session.Opening, error) {
	req, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return session.Opening{}, invalidf("item", "is required: a session begins with open")
	}
	if err != nil {
		return session.Opening{}, err
	}
	if err := checkSkew(req); err != nil {
		return session.Opening{}, err
	}
	if err := validateOpen("open", req.GetOpen()); err != nil {
		return session.Opening{}, err
	}
	r.scope = req.GetOpen().GetScope()
	return openingOf(req.GetOpen()), nil
}

// run hands items on until the client closes its side, or does something wrong. It waits while the
// session has many to take.
func (r *receiver) run(ctx context.Context, stream syncStream, opened *session.Session) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !r.inSync {
				return invalidf("in_sync", "is required before the end of the items: nothing is done without it")
			}
			opened.CloseSend()
			return nil
		}
		if err != nil {
			return err
		}
		item, err := r.item(req)
		if err != nil {
			return err
		}
		item.TraceParent = req.GetTraceParent()
		if err := opened.Send(ctx, item); err != nil {
			return err
		}
	}
}

// item validates and converts one item after the first.
func (r *receiver) item(req *backendv1.SyncLoadBalancersRequest) (session.Item, error) {
	if err := checkSkew(req); err != nil {
		return session.Item{}, err
	}
	size := weigh(req)
	switch item := req.GetItem().(type) {
	case *backendv1.SyncLoadBalancersRequest_Open:
		return session.Item{}, invalidf("open", "is only for the first item: a session is opened once")
	case *backendv1.SyncLoadBalancersRequest_Candidate:
		return r.candidate(item.Candidate, size)
	case *backendv1.SyncLoadBalancersRequest_CandidateRemoved:
		id := item.CandidateRemoved.GetInstanceId()
		if err := validateID("candidate_removed.instance_id", id); err != nil {
			return session.Item{}, err
		}
		r.items.removeCandidate(id)
		return session.Item{CandidateRemoved: id}, nil
	case *backendv1.SyncLoadBalancersRequest_ReservedPorts:
		return r.reservedPorts(item.ReservedPorts.GetPorts(), size)
	case *backendv1.SyncLoadBalancersRequest_LoadBalancer:
		return r.loadBalancer(item.LoadBalancer, size)
	case *backendv1.SyncLoadBalancersRequest_LoadBalancerRemoved:
		return r.removed(item.LoadBalancerRemoved)
	case *backendv1.SyncLoadBalancersRequest_InSync:
		if r.inSync {
			return session.Item{}, invalidf("in_sync", "was sent already")
		}
		r.inSync = true
		return session.Item{InSync: true}, nil
	case *backendv1.SyncLoadBalancersRequest_Rebalance:
		expires := item.Rebalance.GetExpireTime()
		if err := validateTime("rebalance.expire_time", expires); err != nil {
			return session.Item{}, err
		}
		return session.Item{Rebalance: &session.Rebalance{Expires: timeOf(expires)}}, nil
	}
	return session.Item{}, invalidf("item", "is required")
}

func (r *receiver) candidate(c *backendv1.Candidate, size int) (session.Item, error) {
	if err := validateCandidate("candidate", c); err != nil {
		return session.Item{}, err
	}
	if err := r.items.addCandidate(c.GetInstanceId(), size); err != nil {
		return session.Item{}, err
	}
	observation := observationOf(c, time.Now())
	return session.Item{Candidate: &observation}, nil
}

func (r *receiver) reservedPorts(
	ranges []*backendv1.ReservedPorts, size int,
) (session.Item, error) {
	if err := validateReservedPorts("reserved_ports.ports", ranges); err != nil {
		return session.Item{}, err
	}
	if err := r.items.setReserved(size); err != nil {
		return session.Item{}, err
	}
	reserved := reservedOf(ranges)
	return session.Item{Reserved: &reserved}, nil
}

func (r *receiver) loadBalancer(
	lb *backendv1.DesiredLoadBalancer, size int,
) (session.Item, error) {
	if err := validateLoadBalancer("load_balancer", r.scope, lb); err != nil {
		return session.Item{}, err
	}
	if err := r.items.add(keyOf(lb.GetKey()), lb.GetOwnerUid(), size); err != nil {
		return session.Item{}, err
	}
	desired := desiredOf(lb)
	return session.Item{LoadBalancer: &desired}, nil
}

func (r *receiver) removed(removed *backendv1.LoadBalancerRemoved) (session.Item, error) {
	if err := validateRemoved("load_balancer_removed", r.scope, removed); err != nil {
		return session.Item{}, err
	}
	removal := session.Removal{Key: keyOf(removed.GetKey()), OwnerUID: removed.GetOwnerUid()}
	r.items.remove(removal.Key, removal.OwnerUID)
	return session.Item{Removed: &removal}, nil
}
