// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// fact is a floating IP and what its marker says.
type fact struct {
	oxide.FloatingIP
	Marker Marker
	// Marked is whether the marker can be believed. A description that was copied from one address
	// to another of the other family cannot.
	Marked bool
}

func newFact(ip oxide.FloatingIP) fact {
	marker, ok := ParseMarker(ip.Description)
	return fact{FloatingIP: ip, Marker: marker, Marked: ok && marker.Family == familyOf(ip.Addr)}
}

// family is that of the address.
func (f *fact) family() Family { return familyOf(f.Addr) }

// facts are what a plan is made of: what Oxide says, read for this plan or lately.
type facts struct {
	// ips are all floating IPs of the project, by id.
	ips map[string]*fact
	// endpoints are where packets arrive, by instance: candidates, and instances that carry an
	// address.
	endpoints map[string]instances.Endpoint
	// pools are those that wishes name, by the name or id in the wish.
	pools map[string]oxide.IPPool
	// poolErrors say why a pool that a wish names is not there, poolDoubts why nothing is known of it.
	poolErrors, poolDoubts map[string]error
	// firewalls are the rules by VPC, as far as they could be read.
	firewalls map[string][]oxide.FirewallRule
}

// sorted returns the floating IPs ordered by id, so that a plan does not depend on chance.
func (f facts) sorted() []*fact {
	list := make([]*fact, 0, len(f.ips))
	for _, ip := range f.ips {
		list = append(list, ip)
	}
	slices.SortFunc(list, func(a, b *fact) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// of returns the addresses that are marked as a load balancer's own, in one of the scopes.
func (f facts) of(scopes map[string]bool, name string) []*fact {
	var owned []*fact
	for _, ip := range f.sorted() {
		if ip.Marked && scopes[ip.Marker.Key.Scope] && ip.Marker.Key.Name == name {
			owned = append(owned, ip)
		}
	}
	return owned
}

// find returns the floating IP with a name or an id.
func (f facts) find(nameOrID string) *fact {
	if ip, ok := f.ips[nameOrID]; ok {
		return ip
	}
	return f.named(nameOrID)
}

func (f facts) named(name string) *fact {
	for _, ip := range f.ips {
		if ip.Name == name {
			return ip
		}
	}
	return nil
}

func (f facts) withAddr(addr netip.Addr) *fact {
	for _, ip := range f.ips {
		if ip.Addr == addr {
			return ip
		}
	}
	return nil
}

// privateAddr returns where packets arrive on an instance; invalid if it is not known.
func (f facts) privateAddr(instanceID string, family Family) netip.Addr {
	return f.endpoints[instanceID].Addr(family.Bits())
}

// isPrivate reports whether packets arrive on an instance at an address.
func (f facts) isPrivate(addr netip.Addr) bool {
	for _, endpoint := range f.endpoints {
		if slices.Contains(endpoint.Addrs, addr) {
			return true
		}
	}
	return false
}

// listing is one list of the floating IPs.
type listing struct {
	ips []oxide.FloatingIP
	// began is when it began: what was changed later may be missing in it.
	began time.Time
}

// list reads the floating IPs, together with everybody who wants to read them now.
func (m *Manager) list(ctx context.Context) (listing, error) {
	r, err := m.listings.After(ctx)
	if err != nil {
		return listing{}, err
	}
	return listing{ips: r.Facts, began: r.Began}, nil
}

// around reads what else is to be known for a plan. A firewall that cannot be read hinders nothing.
func (m *Manager) around(
	ctx context.Context, l listing, cluster Cluster, set []Desired,
) (facts, error) {
	var ids []string
	seen := make(map[string]bool)
	add := func(id string) {
		if id != "" && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, c := range cluster.Candidates {
		add(c.InstanceID)
	}
	for _, ip := range l.ips {
		add(ip.InstanceID)
	}
	endpoints, err := m.inventory.Endpoints(ctx, ids)
	if err != nil {
		return facts{}, err
	}
	f := facts{
		endpoints: endpoints,
		firewalls: make(map[string][]oxide.FirewallRule),
		pools:     make(map[string]oxide.IPPool), poolErrors: make(map[string]error),
		poolDoubts: make(map[string]error),
	}
	for _, want := range set {
		for _, w := range want.Wanted {
			if err := m.addPool(ctx, &f, w.Source.Pool); err != nil {
				return facts{}, err
			}
		}
	}
	for _, c := range cluster.Candidates {
		m.addFirewall(ctx, &f, endpoints[c.InstanceID].VPCID)
	}
	return f, nil
}

// addPool reads a pool that a wish names, unless that was done lately. A pool that is not there is a
// fact, too; one that cannot be read concerns those alone who need a new address from it.
func (m *Manager) addPool(ctx context.Context, f *facts, nameOrID string) error {
	if nameOrID == "" || f.hasAsked(nameOrID) {
		return nil
	}
	pool, err := m.pools.get(ctx, nameOrID, m.api.IPPool)
	switch {
	case err == nil:
		f.pools[nameOrID] = pool
	case oxide.IsKind(err, oxide.KindNotFound):
		f.poolErrors[nameOrID] = err
	case ctx.Err() != nil:
		return err
	default:
		f.poolDoubts[nameOrID] = err
	}
	return nil
}

// hasAsked reports whether a pool was read, or could not be.
func (f *facts) hasAsked(pool string) bool {
	_, read := f.pools[pool]
	_, missing := f.poolErrors[pool]
	_, doubtful := f.poolDoubts[pool]
	return read || missing || doubtful
}

func (m *Manager) addFirewall(ctx context.Context, f *facts, vpcID string) {
	if _, known := f.firewalls[vpcID]; known || vpcID == "" {
		return
	}
	rules, err := m.firewalls.get(ctx, vpcID, m.api.FirewallRules)
	if err != nil {
		slog.WarnContext(ctx, "the firewall could not be read: nothing is told of closed ports",
			"vpc", vpcID, "error", err)
	}
	f.firewalls[vpcID] = rules
}
