// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// listingMaxAge bounds the age of run states, and of existence (never of absence).
	listingMaxAge = 10 * time.Second
	// networksMaxAge bounds the age of private addresses and floating IPs. Interfaces change only
	// while their instance is stopped.
	networksMaxAge = time.Minute
	// missingMaxAge is how often facts are read anew for an instance that is not in them.
	missingMaxAge = 5 * time.Second
	// subnetsMaxAge bounds the age of the list of subnets.
	subnetsMaxAge = 10 * time.Minute
	// ephemeralMaxAge bounds the age of ephemeral addresses, which only a request per instance
	// shows, from below; up to as much again is added, so that instances that came together are
	// not read again together.
	ephemeralMaxAge = 3 * time.Hour
	// concurrentReads bounds the requests that one call has in flight.
	concurrentReads = 8
)

// listing is what one list of the project's instances says.
type listing struct {
	identity   oxide.Identity
	byID       map[string]oxide.Instance
	byHostname map[string][]oxide.Instance
	byName     map[string]oxide.Instance
}

// networks is what the lists of interfaces and floating IPs say, by instance.
type networks struct {
	interfaces map[string][]oxide.NetworkInterface
	floating   map[string][]oxide.ExternalIP
}

// ephemeral is what the list of external IPs of one instance says.
type ephemeral struct {
	ips    []oxide.ExternalIP
	readAt time.Time
}

// Inventory keeps what Oxide says of the project's instances, read with few lists for all of them.
// Nobody reads for himself what somebody else is reading. It is safe for concurrent use.
type Inventory struct {
	api            API
	ofLoadBalancer func(description string) bool

	listings coalescer[*listing]
	networks coalescer[*networks]
	hub      hub

	mu            sync.Mutex
	subnets       []string
	subnetsReadAt time.Time
	ephemerals    map[string]ephemeral
	told          map[string]bool
}

// NewInventory returns an empty Inventory. The function tells by a floating IP's description whether
// it is the address of a load balancer, which is no address of the instance that carries it for now.
func NewInventory(api API, ofLoadBalancer func(description string) bool) *Inventory {
	i := &Inventory{
		api: api, ofLoadBalancer: ofLoadBalancer,
		ephemerals: make(map[string]ephemeral), told: make(map[string]bool),
	}
	i.listings.read = i.readListing
	i.networks.read = i.readNetworks
	i.hub.inventory = i
	return i
}

// Age returns how old the list of instances is, and whether there is one.
func (i *Inventory) Age() (time.Duration, bool) {
	last := i.listings.latest()
	if last == nil {
		return 0, false
	}
	return time.Since(last.began), true
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
	l := &listing{
		identity:   identity,
		byID:       make(map[string]oxide.Instance, len(all)),
		byName:     make(map[string]oxide.Instance, len(all)),
		byHostname: make(map[string][]oxide.Instance, len(all)),
	}
	for _, instance := range all {
		hostname := strings.ToLower(instance.Hostname)
		l.byID[instance.ID] = instance
		l.byName[instance.Name] = instance
		l.byHostname[hostname] = append(l.byHostname[hostname], instance)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for id := range i.ephemerals {
		if _, listed := l.byID[id]; !listed {
			delete(i.ephemerals, id)
		}
	}
	return l, nil
}

func (i *Inventory) readNetworks(ctx context.Context) (*networks, error) {
	subnets, err := i.knownSubnets(ctx)
	if err != nil {
		return nil, err
	}
	n := &networks{
		interfaces: make(map[string][]oxide.NetworkInterface),
		floating:   make(map[string][]oxide.ExternalIP),
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentReads)
	group.Go(func() error {
		ips, err := i.api.FloatingIPs(ctx)
		mu.Lock()
		defer mu.Unlock()
		for _, ip := range ips {
			if ip.InstanceID != "" && !i.ofLoadBalancer(ip.Description) {
				n.floating[ip.InstanceID] = append(n.floating[ip.InstanceID], oxide.ExternalIP{
					Kind: oxide.ExternalIPFloating, Addr: ip.Addr, Description: ip.Description,
				})
			}
		}
		return err
	})
	for _, subnet := range subnets {
		group.Go(func() error {
			nics, err := i.api.SubnetInterfaces(ctx, subnet)
			if oxide.IsKind(err, oxide.KindNotFound) {
				// Deleted since the list of subnets was read; it had no interfaces then.
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, nic := range nics {
				n.interfaces[nic.InstanceID] = append(n.interfaces[nic.InstanceID], nic)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, nics := range n.interfaces {
		sortInterfaces(nics)
	}
	return n, nil
}

func (i *Inventory) knownSubnets(ctx context.Context) ([]string, error) {
	i.mu.Lock()
	subnets, readAt := i.subnets, i.subnetsReadAt
	i.mu.Unlock()
	if time.Since(readAt) < subnetsMaxAge {
		return subnets, nil
	}
	began := time.Now()
	subnets, err := i.api.SubnetIDs(ctx)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.subnets, i.subnetsReadAt = subnets, began
	return subnets, nil
}

// forgetSubnets lets the subnets be read again, for an instance whose interfaces are in none that is
// known, and reports whether that is worth it.
func (i *Inventory) forgetSubnets() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.subnetsReadAt) < missingMaxAge {
		return false
	}
	i.subnetsReadAt = time.Time{}
	return true
}

// networksOf returns network facts that show an instance. One that has no interface at all causes a
// reading every few seconds at most.
func (i *Inventory) networksOf(ctx context.Context, id string) (*networks, error) {
	r, err := i.networks.within(ctx, networksMaxAge)
	if err != nil || r.facts.interfaces[id] != nil {
		return factsOf(r, err)
	}
	if r, err = i.networks.within(ctx, missingMaxAge); err != nil || r.facts.interfaces[id] != nil {
		return factsOf(r, err)
	}
	if i.forgetSubnets() {
		r, err = i.networks.after(ctx)
	}
	return factsOf(r, err)
}

func factsOf[T any](r *reading[T], err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return r.facts, nil
}

// ephemeralOf returns the ephemeral addresses of an instance. They are read when it is seen for the
// first time, so no address is published without them, and then rarely.
func (i *Inventory) ephemeralOf(ctx context.Context, id string) ([]oxide.ExternalIP, error) {
	i.mu.Lock()
	known, ok := i.ephemerals[id]
	i.mu.Unlock()
	if ok && time.Since(known.readAt) < ephemeralMaxAge+jitter(id) {
		return known.ips, nil
	}
	began := time.Now()
	all, err := i.api.ExternalIPs(ctx, id)
	if err != nil {
		if ok && !oxide.IsKind(err, oxide.KindNotFound) {
			return known.ips, nil
		}
		return nil, err
	}
	fresh := ephemeral{readAt: began}
	for _, ip := range all {
		switch ip.Kind {
		case oxide.ExternalIPEphemeral:
			fresh.ips = append(fresh.ips, ip)
		case oxide.ExternalIPFloating, oxide.ExternalIPSNAT:
		default:
			i.tellOnce("kind "+string(ip.Kind), "Oxide lists an external IP of a kind that this "+
				"release does not know; it is left out", "kind", ip.Kind, "instance", id)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ephemerals[id] = fresh
	return fresh.ips, nil
}

// jitter is a fixed share of ephemeralMaxAge for each instance.
func jitter(id string) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(id))
	return time.Duration(float64(ephemeralMaxAge) * float64(hash.Sum32()) / (1 << 32))
}

// errUnreadable marks an instance of which something essential cannot be understood.
var errUnreadable = errors.New("update the Oxide Cloud Controller Manager")

// assemble makes the instance of the facts about it.
func (i *Inventory) assemble(
	identity oxide.Identity, base oxide.Instance, n *networks, ephemerals []oxide.ExternalIP,
) (Instance, error) {
	found := Instance{Instance: base, SiloID: identity.SiloID, Interfaces: n.interfaces[base.ID]}
	for _, nic := range found.Interfaces {
		if nic.Unreadable {
			i.tellOnce("interface "+nic.ID, "Oxide lists a network interface of a kind that this "+
				"release does not know", "interface", nic.ID, "instance", base.ID)
			return Instance{}, fmt.Errorf("instance %s has a network interface of a kind that this "+
				"release does not know: %w", base.Name, errUnreadable)
		}
	}
	found.ExternalIPs = append(found.ExternalIPs, ephemerals...)
	found.ExternalIPs = append(found.ExternalIPs, n.floating[base.ID]...)
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
