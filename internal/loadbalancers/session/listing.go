// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// AddressFilter says which addresses are asked for: those that fit all that is set.
type AddressFilter struct {
	// Scope is that of the marker.
	Scope string
	// Kinds are those that are asked for; none: all.
	Kinds []ownership.Kind
	// Attached: only those that are, or only those that are not; nil: both.
	Attached   *bool
	InstanceID string
	// Names are those that are asked for; none: all.
	Names []string
}

func (f *AddressFilter) admits(ip *plan.Address) bool {
	switch {
	case f.Scope != "" && (!ip.Marked || ip.Marker.Key.Scope != f.Scope),
		f.Attached != nil && *f.Attached != (ip.InstanceID != ""),
		f.InstanceID != "" && ip.InstanceID != f.InstanceID,
		len(f.Names) > 0 && !slices.Contains(f.Names, ip.Name):
		return false
	}
	return true
}

// Addresses returns the addresses of the project that a filter admits and whose ids follow the given
// one, ordered by id, at most limit of them, as lists of the given age show them, with what was changed
// here since. It reports whether there are more.
func (m *Manager) Addresses(
	ctx context.Context, filter AddressFilter, maxAge time.Duration, after string, limit int,
) ([]plan.Address, bool, error) {
	asked := filter.Kinds
	if len(asked) == 0 {
		asked = kinds
	}
	known := make([]map[string]knownAddress, len(asked))
	group, listCtx := errgroup.WithContext(ctx)
	for i, kind := range asked {
		group.Go(func() (err error) {
			known[i], err = m.addresses[kind].within(listCtx, maxAge)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	var found []plan.Address
	for _, ofKind := range known {
		for ip := range maps.Values(ofKind) {
			if ip.ID <= after {
				continue
			}
			if ip.ReadMarker(); filter.admits(&ip.Address) {
				found = append(found, ip.Address)
			}
		}
	}
	slices.SortFunc(found, func(a, b plan.Address) int { return strings.Compare(a.ID, b.ID) })
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	return found, more, nil
}

// within returns what is known, after a list that began at most so long ago.
func (l *addressList) within(
	ctx context.Context, maxAge time.Duration,
) (map[string]knownAddress, error) {
	l.mu.Lock()
	fresh := !l.listedAt.IsZero() && time.Since(l.listedAt) <= maxAge
	l.mu.Unlock()
	if !fresh {
		if err := l.listNow(ctx); err != nil {
			return nil, err
		}
	}
	return l.since(0).known, nil
}

// get returns an address as it was last read or changed.
func (l *addressList) get(id string) (plan.Address, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.known[id]
	known.ReadMarker()
	return known.Address, ok
}

// countAt returns how many addresses were last seen on an instance.
func (l *addressList) countAt(instance string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for _, known := range l.known {
		if known.InstanceID == instance {
			count++
		}
	}
	return count
}
