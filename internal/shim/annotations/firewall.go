// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
)

// FirewallOff reports whether no firewall rule is to be kept for a Service. On an error, which is one
// line, that is not clear.
func FirewallOff(service *v1.Service) (bool, error) {
	switch text := Value(service, Firewall); text {
	case "":
		return false, nil
	case "off":
		return true, nil
	default:
		return false, mistake(Firewall, "says %s: use \"off\", or leave it out", quoted(text))
	}
}

// maxSourceRanges is how many networks the API takes.
const maxSourceRanges = 1_000

// SourceRanges returns the networks whose clients may use a Service, in canonical form and in order,
// read as Kubernetes reads them: from spec.loadBalancerSourceRanges, or where that is empty from the
// annotation that came before it. None: all clients may. Beside an error, which is one line, there is
// what the Service says, or a part of it: it is not all clients that may.
func SourceRanges(service *v1.Service) ([]string, error) {
	where, given := "spec.loadBalancerSourceRanges", service.Spec.LoadBalancerSourceRanges
	if len(given) == 0 {
		text := Value(service, v1.AnnotationLoadBalancerSourceRangesKey)
		if text == "" {
			return nil, nil // where Kubernetes says 0.0.0.0/0, which is of one IP family
		}
		where = "the annotation " + v1.AnnotationLoadBalancerSourceRangesKey
		given = strings.Split(text, ",")
	}
	ranges, err := servicehelpers.GetLoadBalancerSourceRanges(service)
	if err != nil {
		wrong := slices.IndexFunc(given, func(text string) bool {
			_, err := servicehelpers.GetLoadBalancerSourceRanges(&v1.Service{
				Spec: v1.ServiceSpec{LoadBalancerSourceRanges: []string{text}},
			})
			return err != nil
		})
		return given[:1], fmt.Errorf("%s has %s, which is no network: write it as 203.0.113.0/24 or "+
			"2001:db8::/64", where, quoted(strings.TrimSpace(given[max(wrong, 0)])))
	}
	if len(ranges) > maxSourceRanges {
		return given[:1], fmt.Errorf("%s has %d networks: give at most %d", where, len(ranges),
			maxSourceRanges)
	}
	networks := make([]netip.Prefix, 0, len(ranges))
	for text := range maps.Keys(ranges) {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return given[:1], fmt.Errorf("%s has %s, which is no network: %w", where, quoted(text), err)
		}
		networks = append(networks, network)
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	texts := make([]string, len(networks))
	for i, network := range networks {
		texts[i] = network.String()
	}
	return texts, nil
}
