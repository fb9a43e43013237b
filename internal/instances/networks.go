// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// networks is what the lists of interfaces and floating IPs say, by instance.
type networks struct {
	// interfaces are in the order in which they are published.
	interfaces map[string][]oxide.NetworkInterface
	// floating are the attached floating IPs by instance, those of load balancers among them.
	floating map[string][]oxide.FloatingIP
	// subnets are those of the project, by id.
	subnets map[string]oxide.Subnet
}

// networksOf returns network facts that show instances. If those at hand do not, they are read anew,
// subnets included; after that an instance that is still missing has no interface, which is believed
// for the given time.
func (i *Inventory) networksOf(
	ctx context.Context, believed time.Duration, ids ...string,
) (*networks, error) {
	known, err := coalesce.Facts(i.networks.Within(ctx, networksMaxAge))
	if err != nil || !i.wantsAgain(known, believed, ids) {
		return known, err
	}
	r, err := i.networks.After(ctx)
	if err == nil {
		i.remember(r.Facts, r.Began, ids)
	}
	return coalesce.Facts(r, err)
}

// wantsAgain reports whether an instance is missing that was not so lately. Then the subnets must be
// listed anew for the next reading.
func (i *Inventory) wantsAgain(n *networks, believed time.Duration, ids []string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, id := range ids {
		if n.interfaces[id] != nil {
			continue
		}
		if since, known := i.missing[id]; !known || time.Since(since) >= believed {
			i.subnetsWanted = time.Now()
			return true
		}
	}
	return false
}

// remember notes instances that are missing in a reading, and forgets those of long ago.
func (i *Inventory) remember(n *networks, began time.Time, ids []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for other, since := range i.missing {
		if time.Since(since) >= max(missingMaxAge, endpointMissingMaxAge) {
			delete(i.missing, other)
		}
	}
	for _, id := range ids {
		if n.interfaces[id] == nil {
			i.missing[id] = began
		}
	}
}

// readNetworks reads the interfaces of all subnets, and the floating IPs. Oxide answers 404 for a
// subnet that was deleted since the subnets were listed, and for one that the token may not read any
// more: a new list of the subnets tells which.
func (i *Inventory) readNetworks(ctx context.Context) (*networks, error) {
	n, err := i.readNetworksOnce(ctx)
	if oxide.IsKind(err, oxide.KindNotFound) {
		i.mu.Lock()
		i.subnetsWanted = time.Now()
		i.mu.Unlock()
		return i.readNetworksOnce(ctx)
	}
	return n, err
}

func (i *Inventory) readNetworksOnce(ctx context.Context) (*networks, error) {
	subnets, err := i.knownSubnets(ctx)
	if err != nil {
		return nil, err
	}
	n := &networks{
		interfaces: make(map[string][]oxide.NetworkInterface),
		floating:   make(map[string][]oxide.FloatingIP),
		subnets:    make(map[string]oxide.Subnet),
	}
	listed := make(map[string]bool)
	isWhole := i.hasEveryInstance()
	var mu sync.Mutex
	group, listCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentReads)
	for _, subnet := range subnets {
		n.subnets[subnet.ID] = subnet
		group.Go(func() error {
			nics, err := i.api.SubnetInterfaces(listCtx, subnet.ID, isWhole)
			mu.Lock()
			defer mu.Unlock()
			for _, nic := range nics {
				listed[nic.ID] = true
				n.interfaces[nic.InstanceID] = append(n.interfaces[nic.InstanceID], nic)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	ips, err := coalesce.Facts(i.floating.Within(ctx, min(floatingMaxAge, i.sinceMissing())))
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		listed[ip.ID] = true
		if ip.InstanceID != "" {
			n.floating[ip.InstanceID] = append(n.floating[ip.InstanceID], ip)
		}
	}
	i.addUnlisted(ctx, n, listed)
	for _, nics := range n.interfaces {
		sortInterfaces(nics)
	}
	return n, nil
}

// hasEveryInstance returns a function that reports whether the interfaces of one subnet are all that
// there are, because each instance has one: Oxide puts each interface of an instance in another
// subnet. One that came after the list of the instances is missing in the network facts, and has them
// read again. It is nil if there is no list of the instances.
func (i *Inventory) hasEveryInstance() func(nics []oxide.NetworkInterface) bool {
	last := i.listings.Latest()
	if last == nil {
		return nil
	}
	return func(nics []oxide.NetworkInterface) bool {
		with := make(map[string]bool, len(nics))
		for _, nic := range nics {
			with[nic.InstanceID] = true
		}
		for id := range with {
			if _, listed := last.Facts.byID[id]; !listed {
				return false
			}
		}
		return len(with) == len(last.Facts.byID)
	}
}

// sinceMissing is how long ago an instance was missing in the network facts.
func (i *Inventory) sinceMissing() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Since(i.subnetsWanted)
}

func (i *Inventory) knownSubnets(ctx context.Context) ([]oxide.Subnet, error) {
	i.mu.Lock()
	subnets, readAt, wanted := i.subnets, i.subnetsReadAt, i.subnetsWanted
	i.mu.Unlock()
	if readAt.After(wanted) && time.Since(readAt) < subnetsMaxAge {
		return subnets, nil
	}
	began := time.Now()
	subnets, err := i.api.Subnets(ctx)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.subnets, i.subnetsReadAt = subnets, began
	return subnets, nil
}

// unreadable returns the first interface that cannot be understood.
func unreadable(nics []oxide.NetworkInterface) (oxide.NetworkInterface, bool) {
	for _, nic := range nics {
		if nic.Unreadable {
			return nic, true
		}
	}
	return oxide.NetworkInterface{}, false
}

func unreadableError(nic oxide.NetworkInterface) error {
	return &oxide.Error{
		Operation: "read the network interfaces of instance " + nic.InstanceID,
		Kind:      oxide.KindBadResponse,
		Detail: "the interface " + nic.ID + " is of a kind that this release does not know; " +
			"update the Oxide Cloud Controller Manager",
	}
}
