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
// what there still is: a list may miss some. An error means that this is not known of all.
func confirm[T any](
	ctx context.Context, what string, missing map[string]T,
	read func(ctx context.Context, id string) (T, error),
) ([]T, error) {
	if len(missing) == 0 {
		return nil, nil
	}
	ids := slices.Sorted(maps.Keys(missing))
	asked := ids[:min(len(ids), maxConfirmed)]
	found := make([]*T, len(asked))
	reads, readCtx := errgroup.WithContext(ctx)
	reads.SetLimit(concurrentReads)
	for n, id := range asked {
		reads.Go(func() error {
			item, err := read(readCtx, id)
			switch {
			case oxide.IsKind(err, oxide.KindNotFound):
				return nil
			case err == nil:
				found[n] = &item
			}
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	var kept []T
	for _, item := range found {
		if item != nil {
			kept = append(kept, *item)
		}
	}
	for _, id := range ids[len(asked):] {
		kept = append(kept, missing[id])
	}
	if len(kept) > 0 {
		slog.WarnContext(ctx, "a list does not show some that exist, or were not read one by one yet",
			"what", what, "missing", len(kept))
	}
	return kept, nil
}

// unlistedInstances returns the instances that the last list showed, all does not show, and there
// still are.
func (i *Inventory) unlistedInstances(
	ctx context.Context, identity oxide.Identity, all []oxide.Instance,
) ([]oxide.Instance, error) {
	last := i.listings.Latest()
	if last == nil || last.Facts.identity.ProjectID != identity.ProjectID {
		return nil, nil
	}
	missing := maps.Clone(last.Facts.byID)
	for _, instance := range all {
		delete(missing, instance.ID)
	}
	return confirm(ctx, "instances", missing, i.api.InstanceByID)
}

// addUnlisted adds the interfaces and floating IPs that the last reading showed, this one does not
// show, and there still are. Interfaces of instances that are gone are gone, too.
func (i *Inventory) addUnlisted(ctx context.Context, n *networks, listed map[string]bool) error {
	last := i.networks.Latest()
	if last == nil {
		return nil
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
	nics, err := confirm(ctx, "network interfaces", interfaces, i.api.NetworkInterface)
	if err != nil {
		return err
	}
	for _, nic := range nics {
		n.interfaces[nic.InstanceID] = append(n.interfaces[nic.InstanceID], nic)
	}
	ips, err := confirm(ctx, "floating IPs", floating, i.api.FloatingIPByID)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if ip.InstanceID != "" {
			n.floating[ip.InstanceID] = append(n.floating[ip.InstanceID], ip)
		}
	}
	return nil
}
