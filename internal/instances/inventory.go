// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// listingMaxAge bounds the age of run states, and of existence (never of absence).
	listingMaxAge = 10 * time.Second
	// networksMaxAge bounds the age of private addresses and floating IPs. Interfaces change only
	// while their instance is stopped.
	networksMaxAge = time.Minute
	// missingMaxAge is how long an instance that was in no reading of the network facts is taken
	// to have no interface.
	missingMaxAge = 5 * time.Second
	// endpointMissingMaxAge is the same where only the placement of addresses hangs on it: a Node
	// whose instance is gone may stay for long.
	endpointMissingMaxAge = 30 * time.Second
	// subnetsMaxAge bounds the age of the list of subnets.
	subnetsMaxAge = 10 * time.Minute
	// concurrentReads bounds the requests that one call has in flight.
	concurrentReads = 8
	// spacing is the least time from the beginning of one shared reading to that of the next: a
	// thousand nodes that join together make few lists.
	spacing = 250 * time.Millisecond
	// floatingSpacing is the same for the floating IPs, and floatingMaxAge bounds the age of their list
	// when the network facts take it over: load balancers have them listed, too.
	floatingSpacing = time.Second / 2
	floatingMaxAge  = 5 * time.Second
)

// listing is what one list of the project's instances says.
type listing struct {
	identity   oxide.Identity
	byID       map[string]oxide.Instance
	byHostname map[string][]oxide.Instance
	byName     map[string]oxide.Instance
	// byShortHostname are those whose hostnames have a domain, by what is before its first dot.
	byShortHostname map[string][]oxide.Instance
}

// Inventory keeps what Oxide says of the project's instances, read with few lists for all of them.
// Nobody reads for himself what somebody else is reading. It is safe for concurrent use.
type Inventory struct {
	api       API
	addresses Addresses

	listings coalesce.Reader[*listing]
	networks coalesce.Reader[*networks]
	floating coalesce.Reader[[]oxide.FloatingIP]
	// groups are the anti-affinity groups by instance.
	groups extra[map[string][]string]
	// racks are the ids of racks by instance, if somebody wants them.
	racks   extra[map[string]string]
	flights singleflight.Group
	hub     hub

	// unread are the objects that no list shows and whose direct read failed.
	unread struct{ instances, interfaces, floatingIPs pauses }

	mu sync.Mutex
	// subnets are those that were listed at subnetsReadAt; they must be listed at subnetsWanted or
	// later.
	subnets                      []oxide.Subnet
	subnetsReadAt, subnetsWanted time.Time
	// missing tells when a reading of the network facts began that an instance was not in.
	missing    map[string]time.Time
	ephemerals map[string]ephemeral
	told       map[string]bool

	reported *reportedIDs
}

// Addresses knows which floating IPs are the addresses of load balancers: they are no addresses of
// the instance that carries them for now.
type Addresses interface {
	// IsLoadBalancerAddress reports whether a floating IP is the address of a load balancer, as far
	// as that is known.
	IsLoadBalancerAddress(id, name, description string, addr netip.Addr) bool
	// Complete reports whether that is known of every floating IP.
	Complete() bool
}

// NewInventory returns an inventory, which reads nothing before it is asked.
func NewInventory(api API, addresses Addresses) *Inventory {
	i := &Inventory{
		api: api, addresses: addresses,
		missing:    make(map[string]time.Time),
		ephemerals: make(map[string]ephemeral),
		told:       make(map[string]bool),
		reported:   newReportedIDs(),
	}
	i.listings.Doing, i.listings.Read = "list the instances", i.readListing
	i.networks.Doing, i.networks.Read = "list the network interfaces", i.readNetworks
	i.floating.Doing, i.floating.Read = "list the floating IPs", api.FloatingIPs
	i.racks.Doing, i.racks.Read = "read which rack instances run on", api.InstanceRacks
	i.groups.Doing, i.groups.Read = "list the anti-affinity groups", i.readGroups
	i.listings.Spacing, i.networks.Spacing, i.floating.Spacing = spacing, spacing, floatingSpacing
	i.racks.Spacing, i.groups.Spacing = spacing, spacing
	i.hub.inventory = i
	return i
}

// FloatingIPs returns the readings of the floating IPs of the project: whoever needs them shares those.
func (i *Inventory) FloatingIPs() *coalesce.Reader[[]oxide.FloatingIP] { return &i.floating }

// Age returns how old the list of instances is, and whether there is one.
func (i *Inventory) Age() (time.Duration, bool) {
	last := i.listings.Latest()
	if last == nil {
		return 0, false
	}
	return time.Since(last.Began), true
}

func (i *Inventory) readListing(ctx context.Context) (*listing, error) {
	identity, err := i.api.Identity(ctx)
	if err != nil {
		return nil, err
	}
	all, err := i.api.Instances(ctx)
	if err != nil {
		return nil, err
	}
	// What is listed comes last: an instance that was recreated has the name of the one before, of which it
	// may not be known yet that it is gone.
	all = append(i.unlistedInstances(ctx, identity, all), all...)
	l := &listing{
		identity:   identity,
		byID:       make(map[string]oxide.Instance, len(all)),
		byName:     make(map[string]oxide.Instance, len(all)),
		byHostname: make(map[string][]oxide.Instance, len(all)),

		byShortHostname: make(map[string][]oxide.Instance),
	}
	for _, instance := range all {
		hostname := strings.ToLower(instance.Hostname)
		l.byID[instance.ID] = instance
		l.byName[instance.Name] = instance
		l.byHostname[hostname] = append(l.byHostname[hostname], instance)
		if short, _, long := strings.Cut(hostname, "."); long {
			l.byShortHostname[short] = append(l.byShortHostname[short], instance)
		}
	}
	i.forget(l)
	return l, nil
}

// forget drops what is remembered of instances that are not listed.
func (i *Inventory) forget(l *listing) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id := range i.ephemerals {
		if _, listed := l.byID[id]; !listed {
			delete(i.ephemerals, id)
		}
	}
}

// assemble makes the instance of the facts about it. Errors: KindBadResponse if one of its
// interfaces cannot be understood; the other instances do not suffer from that.
func (i *Inventory) assemble(
	identity oxide.Identity, base oxide.Instance, n *networks, ephemerals []oxide.ExternalIP,
) (Instance, error) {
	found := bare(identity, base)
	found.Interfaces = n.interfaces[base.ID]
	if nic, ok := unreadable(found.Interfaces); ok {
		i.tellOnce("interface "+nic.ID, "Oxide lists a network interface of a kind that this "+
			"release does not know", "interface", nic.ID, "instance", base.ID)
		return Instance{}, unreadableError(nic)
	}
	found.ExternalIPs = append(found.ExternalIPs, ephemerals...)
	for _, ip := range n.floating[base.ID] {
		if !i.addresses.IsLoadBalancerAddress(ip.ID, ip.Name, ip.Description, ip.Addr) {
			found.ExternalIPs = append(found.ExternalIPs, oxide.ExternalIP{
				Kind: oxide.ExternalIPFloating, Addr: ip.Addr, Description: ip.Description,
			})
		}
	}
	found.ExternalIPsProvisional = !i.addresses.Complete()
	sortExternalIPs(found.ExternalIPs)
	return found, nil
}

// tellOnce logs something that would otherwise be told at every reading.
func (i *Inventory) tellOnce(key, message string, args ...any) {
	i.mu.Lock()
	told := i.told[key]
	i.told[key] = true
	i.mu.Unlock()
	if !told {
		slog.Warn(message, args...)
	}
}
