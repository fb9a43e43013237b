// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
)

// Sources are who may send to a load balancer; the zero value: anybody.
type Sources struct {
	// Restricted: only Ranges may, and if there are none nobody may.
	Restricted bool
	// Ranges are in order, and none contains another one or makes a larger one together with it.
	Ranges []netip.Prefix
	// Wrong are those that are no networks, as they were given.
	Wrong []string
}

// ParseSources reads networks in CIDR notation, and single addresses; none at all means anybody. What is
// neither lets nobody in.
func ParseSources(texts []string) Sources {
	s := Sources{Restricted: len(texts) > 0}
	for _, text := range texts {
		if network, ok := firewall.ParseNetwork(strings.TrimSpace(text)); ok {
			s.Ranges = append(s.Ranges, network)
		} else {
			s.Wrong = append(s.Wrong, text)
		}
	}
	s.Ranges = mergeNetworks(s.Ranges)
	return s
}

// mergeNetworks returns the fewest networks that contain the same addresses, in order.
func mergeNetworks(networks []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(networks), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var merged []netip.Prefix
	for _, network := range sorted {
		if last := len(merged) - 1; last >= 0 && merged[last].Overlaps(network) {
			continue // networks overlap only if one contains the other, and the larger one comes first
		}
		merged = append(merged, network)
		for len(merged) > 1 {
			last := len(merged) - 1
			both, ok := joined(merged[last-1], merged[last])
			if !ok {
				break
			}
			merged = append(merged[:last-1], both)
		}
	}
	return merged
}

// joined returns the network whose halves two networks are.
func joined(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a.Addr().Is4() != b.Addr().Is4() {
		return netip.Prefix{}, false
	}
	both := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return both, both.Contains(b.Addr())
}
