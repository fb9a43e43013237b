// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// fact is a floating IP, and whose it is.
type fact struct {
	oxide.FloatingIP
	Marker Marker
	// Marked is whether the marker can be believed. A description that was copied from one address
	// to another of the other family cannot.
	Marked bool
}

// facts are all floating IPs of the project, ordered by id.
type facts []fact

// gather reads the facts, with one list.
func (m *Manager) gather(ctx context.Context) (facts, error) {
	ips, err := m.api.FloatingIPs(ctx)
	if err != nil {
		return nil, err
	}
	result := make(facts, 0, len(ips))
	for _, ip := range ips {
		result = append(result, newFact(ip))
	}
	slices.SortFunc(result, func(a, b fact) int { return strings.Compare(a.ID, b.ID) })
	return result, nil
}

func newFact(ip oxide.FloatingIP) fact {
	marker, ok := ParseMarker(ip.Description)
	return fact{FloatingIP: ip, Marker: marker, Marked: ok && marker.Family == familyOf(ip.Addr)}
}

// of returns the addresses that are marked with a key.
func (f facts) of(key Key) facts {
	var owned facts
	for _, ip := range f {
		if ip.Marked && ip.Marker.Key == key {
			owned = append(owned, ip)
		}
	}
	return owned
}

// loads counts the floating IPs on each instance, the users' own included: they count towards
// Oxide's limit, too.
func (f facts) loads() map[string]int {
	loads := make(map[string]int)
	for _, ip := range f {
		if ip.InstanceID != "" {
			loads[ip.InstanceID]++
		}
	}
	return loads
}
