// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func streamCases() []Case {
	none := needs{changes: true, features: sessions}
	return []Case{
		{Name: "session/malformed-items", run: malformedItems, needs: none, Contract: []string{
			"A malformed item, an item before `open`, a second `open` or `in_sync`, the end of the items " +
				"before " +
				"`in_sync`, and a load balancer of another scope end the stream with INVALID_REQUEST, and nothing " +
				"of that item is applied.",
		}},
		{Name: "session/wrong-sources", run: wrongSources, needs: none, Contract: []string{
			"What a user may have written wrongly is the problem of this load balancer alone, and no malformed " +
				"item: a name or an address in a source that cannot be one, or a port with the protocol SCTP.",
		}},
	}
}

func malformedItems(ctx context.Context, c *checker) {
	open := openItem(&backendv1.OpenSession{Scope: c.options.Scope})
	changed := func(change func(*backendv1.DesiredLoadBalancer)) *backendv1.SyncLoadBalancersRequest {
		lb := c.balancer("malformed")
		change(lb)
		return balancerItem(lb)
	}
	for what, items := range map[string][]*backendv1.SyncLoadBalancersRequest{
		"an item before open":    {candidateItem(readyCandidate(absentID))},
		"in_sync before open":    {inSyncItem()},
		"an item that is empty":  {open, {}},
		"a second open":          {open, open},
		"a second in_sync":       {open, inSyncItem(), inSyncItem()},
		"a scope that cannot be": {openItem(&backendv1.OpenSession{Scope: "a b"})},
		"no scope":               {openItem(&backendv1.OpenSession{})},
		"a candidate of no UUID": {open, candidateItem(readyCandidate("nonsense"))},
		"a load balancer of another scope": {open, changed(func(lb *backendv1.DesiredLoadBalancer) {
			lb.Key.Scope = c.secondScope()
		})},
		"no key":        {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.Key = nil })},
		"no owner":      {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.OwnerUid = "" })},
		"no generation": {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.Generation = 0 })},
		"no addresses":  {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.Addresses = nil })},
		"no ports":      {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.Ports = nil })},
		"the port 0":    {open, changed(func(lb *backendv1.DesiredLoadBalancer) { lb.Ports[0].Port = 0 })},
		"the port 65536": {open, changed(func(lb *backendv1.DesiredLoadBalancer) {
			lb.Ports[0].Port = 65536
		})},
		"an unknown source": {open, changed(func(lb *backendv1.DesiredLoadBalancer) {
			lb.Addresses[0].Source = nil
		})},
	} {
		s := c.stream(ctx, c.conn)
		s.scope = c.options.Scope
		for _, item := range items {
			s.send(item)
		}
		c.invalid(what, s.awaitEnd(ctx, what+" ends the stream"))
	}
	s := c.open(ctx, c.conn, open.GetOpen())
	s.sending.Lock()
	_ = s.stream.CloseSend()
	s.sending.Unlock()
	c.invalid("the end of the items before in_sync", s.awaitEnd(ctx, "it ends the stream"))
}

func wrongSources(ctx context.Context, c *checker) {
	s := c.acting(ctx, nil)
	for what, change := range map[string]func(*backendv1.DesiredLoadBalancer){
		"an address that is none": func(lb *backendv1.DesiredLoadBalancer) {
			lb.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Address{Address: "nonsense"}
		},
		"a pool that cannot be one": func(lb *backendv1.DesiredLoadBalancer) {
			lb.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Pool{Pool: "A.b"}
		},
		"a port with SCTP": func(lb *backendv1.DesiredLoadBalancer) {
			lb.Ports[0].Protocol = backendv1.Protocol_PROTOCOL_SCTP
		},
	} {
		lb := c.balancer("wrong")
		change(lb)
		name := lb.GetKey().GetName()
		s.want(lb)
		s.await(ctx, what+" is the problem of the load balancer", func(e *events) bool {
			return e.states[name].GetProblem().GetReason() ==
				backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
		})
		c.gone(ctx, lb.GetKey())
	}
	s.release(ctx)
}
