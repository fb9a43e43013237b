// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxPerFamily is how many addresses of one IP family a Service gets at most.
const maxPerFamily = 8

const (
	ipv4 = backendv1.IpFamily_IP_FAMILY_IPV4
	ipv6 = backendv1.IpFamily_IP_FAMILY_IPV6
)

// wanted is which addresses a Service gets, wherever they come from.
type wanted struct {
	// named are the IP families in spec.ipFamilies, and families those of them of which the Service
	// gets addresses, both in its order.
	named, families []backendv1.IpFamily
	// each is how many addresses of each family it gets.
	each int
	// prefers: of two families one suffices.
	prefers bool
	// policy is spec.ipFamilyPolicy, and narrowedBy the field or annotation that says which family
	// it is where there is one.
	policy     v1.IPFamilyPolicy
	narrowedBy string
}

// wantedOf reads the IP families of a Service, and how many addresses of each it gets.
func wantedOf(service *v1.Service) (*wanted, error) {
	w := &wanted{policy: v1.IPFamilyPolicySingleStack, narrowedBy: "spec.ipFamilies"}
	if policy := service.Spec.IPFamilyPolicy; policy != nil {
		w.policy = *policy
	}
	familiesErr := w.readFamilies(service)
	each, eachErr := perFamily(service)
	w.each = each
	return w, OneLine(familiesErr, eachErr)
}

func (w *wanted) readFamilies(service *v1.Service) error {
	for _, name := range service.Spec.IPFamilies {
		family, known := familiesByName[name]
		if !known {
			return fmt.Errorf("spec.ipFamilies names %s, which is neither IPv4 nor IPv6", quoted(string(name)))
		}
		if !slices.Contains(w.named, family) {
			w.named = append(w.named, family)
		}
	}
	if len(w.named) == 0 {
		w.named = []backendv1.IpFamily{ipv4}
	}
	w.families = w.named
	version := Value(service, FloatingIPVersion)
	asked, known := map[string]backendv1.IpFamily{
		"v4": ipv4, "v6": ipv6,
	}[version]
	switch {
	case version != "" && !known:
		return mistake(FloatingIPVersion, "says %s: use v4 or v6", quoted(version))
	case known && w.policy == v1.IPFamilyPolicyRequireDualStack:
		return mistake(FloatingIPVersion, "says %s, but spec.ipFamilyPolicy is RequireDualStack, which asks "+
			"for both IP families: leave the annotation out, or use PreferDualStack or SingleStack", version)
	case known && !slices.Contains(w.named, asked):
		return mistake(FloatingIPVersion, "says %s, but spec.ipFamilies is %s: change one of them", version,
			familyNames(w.named))
	case known:
		w.families, w.narrowedBy = []backendv1.IpFamily{asked}, "the annotation "+FloatingIPVersion
	case w.policy == v1.IPFamilyPolicyRequireDualStack && len(w.named) < 2:
		return fmt.Errorf("spec.ipFamilyPolicy is RequireDualStack, but spec.ipFamilies is %s alone: name "+
			"both IP families there, or use PreferDualStack or SingleStack", familyNames(w.named))
	case w.policy == v1.IPFamilyPolicySingleStack:
		w.families = w.named[:1]
	}
	w.prefers = w.policy == v1.IPFamilyPolicyPreferDualStack && len(w.families) > 1
	return nil
}

// perFamily returns how many addresses of each IP family a Service gets.
func perFamily(service *v1.Service) (int, error) {
	switch text := Value(service, AddressesPerFamily); {
	case text == "":
		return 1, nil
	case len(text) == 1 && '1' <= text[0] && text[0] <= '0'+maxPerFamily:
		return int(text[0] - '0'), nil
	default:
		return 1, mistake(AddressesPerFamily, "says %s: use a number from 1 to %d", quoted(text), maxPerFamily)
	}
}

var familiesByName = map[v1.IPFamily]backendv1.IpFamily{
	v1.IPv4Protocol: ipv4,
	v1.IPv6Protocol: ipv6,
}

// familyName returns the name of an IP family as a Service has it.
func familyName(family backendv1.IpFamily) string {
	if family == ipv6 {
		return string(v1.IPv6Protocol)
	}
	return string(v1.IPv4Protocol)
}

// familyNames names IP families, "IPv4 and IPv6" for example.
func familyNames(families []backendv1.IpFamily) string {
	var names []string
	for _, family := range families {
		names = append(names, familyName(family))
	}
	return strings.Join(names, " and ")
}
