// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// maxConfirmed bounds the direct reads that follow one list. What is not read then stays what it was
// until the next list.
const maxConfirmed = 256

// After a direct read that failed the next one of the same object waits, for as long as Oxide can make
// of it: from firstPause, doubled each time, to lastPause.
const (
	firstPause = 5 * time.Second
	lastPause  = 30 * time.Second
)

// pauses are those of the objects of one kind whose last direct read failed. The zero value is ready for
// use.
type pauses struct {
	mu   sync.Mutex
	byID map[string]pause
}

type pause struct {
	length time.Duration
	until  time.Time
}

// eligible returns those of some objects that may be read now, and forgets all others than these.
func (p *pauses) eligible(ids []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, kept := time.Now(), make(map[string]pause)
	for _, id := range ids {
		if before, ok := p.byID[id]; ok {
			kept[id] = before
		}
	}
	p.byID = kept
	return slices.DeleteFunc(ids, func(id string) bool { return now.Before(kept[id].until) })
}

// failed makes the next read of an object wait; without an error none does.
func (p *pauses) failed(id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	length := min(max(firstPause, 2*p.byID[id].length), lastPause)
	if delete(p.byID, id); err != nil {
		p.byID[id] = pause{length, time.Now().Add(length)}
	}
}

// confirm reads directly what an earlier list showed and the current one does not, by id, and returns
// what there still is: a list may miss some. What could not be read stays what it was, too: one that
// Oxide cannot show must not hide all others.
func confirm[T any](
	ctx context.Context, what string, unread *pauses, missing map[string]T,
	read func(ctx context.Context, id string) (T, error),
) []T {
	kept := maps.Clone(missing)
	var mu sync.Mutex
	var reads errgroup.Group
	reads.SetLimit(concurrentReads)
	due := unread.eligible(slices.Sorted(maps.Keys(missing)))
	for _, id := range due[:min(len(due), maxConfirmed)] {
		reads.Go(func() error {
			item, err := read(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				kept[id] = item
			case oxide.IsKind(err, oxide.KindNotFound):
				delete(kept, id)
				err = nil
			}
			unread.failed(id, err)
			return nil
		})
	}
	_ = reads.Wait() // none fails
	if len(kept) > 0 {
		slog.WarnContext(ctx, "a list does not show some that exist, or could not be read one by one",
			"what", what, "missing", len(kept))
	}
	return slices.Collect(maps.Values(kept))
}

// unlistedInstances returns the instances that the last list showed, all does not show, and there
// still are.
func (i *Inventory) unlistedInstances(
	ctx context.Context, identity oxide.Identity, all []oxide.Instance,
) []oxide.Instance {
	last := i.listings.Latest()
	if last == nil || last.Facts.identity.ProjectID != identity.ProjectID {
		return nil
	}
	missing := maps.Clone(last.Facts.byID)
	for _, instance := range all {
		delete(missing, instance.ID)
	}
	return confirm(ctx, "instances", &i.unread.instances, missing, i.api.InstanceByID)
}

// addUnlisted adds the interfaces and floating IPs that the last reading showed, this one does not
// show, and there still are. Interfaces of instances that are gone are gone, too.
func (i *Inventory) addUnlisted(ctx context.Context, n *networks, listed map[string]bool) {
	last := i.networks.Latest()
	if last == nil {
		return
	}
	listing := i.listings.Latest()
	interfaces := make(map[string]oxide.NetworkInterface)
	for instance, nics := range last.Facts.interfaces {
		if listing != nil {
			if _, exists := listing.Facts.byID[instance]; !exists {
				continue
			}
		}
		for _, nic := range nics {
			if !listed[nic.ID] {
				interfaces[nic.ID] = nic
			}
		}
	}
	floating := make(map[string]oxide.FloatingIP)
	for _, ips := range last.Facts.floating {
		for _, ip := range ips {
			if !listed[ip.ID] {
				floating[ip.ID] = ip
			}
		}
	}
	nics := confirm(ctx, "network interfaces", &i.unread.interfaces, interfaces, i.api.NetworkInterface)
	for _, nic := range nics {
		n.interfaces[nic.InstanceID] = append(n.interfaces[nic.InstanceID], nic)
		// The interface proves that its subnet exists, which may be missing in a list as well.
		if subnet, known := last.Facts.subnets[nic.SubnetID]; known && n.subnets[nic.SubnetID].ID == "" {
			n.subnets[nic.SubnetID] = subnet
		}
	}
	ips := confirm(ctx, "floating IPs", &i.unread.floatingIPs, floating, i.api.FloatingIPByID)
	for _, ip := range ips {
		if ip.InstanceID != "" {
			n.floating[ip.InstanceID] = append(n.floating[ip.InstanceID], ip)
		}
	}
}
