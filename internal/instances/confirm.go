// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// maxConfirmed bounds the direct reads that follow one list. What is not read then stays what it was
// until the next list.
const maxConfirmed = 256

// confirm reads directly what an earlier list showed and the current one does not, by id, and returns
// what there still is: a list may miss some. What could not be read stays what it was, too: one that
// Oxide cannot show must not hide all others.
func confirm[T any](
	ctx context.Context, what string, missing map[string]T,
	read func(ctx context.Context, id string) (T, error),
) []T {
	ids := slices.Sorted(maps.Keys(missing))
	asked := ids[:min(len(ids), maxConfirmed)]
	gone := make([]bool, len(asked))
	now := make([]T, len(ids))
	var reads errgroup.Group
	reads.SetLimit(concurrentReads)
	for n, id := range ids {
		now[n] = missing[id]
		if n >= len(asked) {
			continue
		}
		reads.Go(func() error {
			item, err := read(ctx, id)
			switch {
			case err == nil:
				now[n] = item
			case oxide.IsKind(err, oxide.KindNotFound):
				gone[n] = true
			}
			return nil
		})
	}
	_ = reads.Wait() // none fails
	kept := slices.Clone(now[len(asked):])
	for n := range asked {
		if !gone[n] {
			kept = append(kept, now[n])
		}
	}
	if len(kept) > 0 {
		slog.WarnContext(ctx, "a list does not show some that exist, or could not be read one by one",
			"what", what, "missing", len(kept))
	}
	return kept
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
	return confirm(ctx, "instances", missing, i.api.InstanceByID)
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
	for _, nic := range confirm(ctx, "network interfaces", interfaces, i.api.NetworkInterface) {
		n.interfaces[nic.InstanceID] = append(n.interfaces[nic.InstanceID], nic)
	}
	for _, ip := range confirm(ctx, "floating IPs", floating, i.api.FloatingIPByID) {
		if ip.InstanceID != "" {
			n.floating[ip.InstanceID] = append(n.floating[ip.InstanceID], ip)
		}
	}
}
