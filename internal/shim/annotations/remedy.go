// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Remedy says which field or annotation of a Service asks for what cannot be had, and what to write
// there, by what is said of it; empty: that is about nothing that the Service asks for. Where
// ofPool is set it is about a pool, and may be about one that the Service does not name.
func Remedy(service *v1.Service, message string, ofPool bool) string {
	addresses, err := Addresses(service)
	if err != nil {
		return ""
	}
	var found, remedy string
	var unnamed []*backendv1.DesiredAddress
	for _, address := range addresses {
		asked, what := remedyOf(service, address)
		switch {
		case asked == "":
			unnamed = append(unnamed, address)
		case strings.Contains(message, asked) && len(asked) > len(found):
			found, remedy = asked, what
		}
	}
	if found == "" && ofPool && len(unnamed) > 0 {
		return anotherPool(service, unnamed, message)
	}
	return remedy
}

// remedyOf returns what a Service asks for by one address, and what to do if it cannot be had;
// empty: it asks for none in particular.
func remedyOf(service *v1.Service, address *backendv1.DesiredAddress) (asked, remedy string) {
	switch selector := address.GetFloatingIp().GetSelector().(type) {
	case *backendv1.FloatingIpSource_Address:
		where := "spec.loadBalancerIP"
		if annotation, _, _ := explicitOf(service); slices.Contains(
			annotation.byFamily[address.GetFamily()], selector.Address) {
			where = annotation.where
		}
		return selector.Address, "give a free address of a pool that is linked to the silo in " + where +
			", or leave it out"
	case *backendv1.FloatingIpSource_Pool:
		return selector.Pool, inPlaceOf("name another pool", FloatingIPPool)
	case *backendv1.FloatingIpSource_Existing:
		return selector.Existing, inPlaceOf("name a floating IP of your own", ExistingFloatingIP)
	}
	switch selector := address.GetExternalSubnet().GetSelector().(type) {
	case *backendv1.ExternalSubnetSource_Pool:
		return selector.Pool, inPlaceOf("name another subnet pool", SubnetPool)
	case *backendv1.ExternalSubnetSource_Existing:
		return selector.Existing, inPlaceOf("name an external subnet of one address of your own",
			ExistingExternalSubnet)
	}
	return "", ""
}

func inPlaceOf(what, annotation string) string {
	return what + " in the annotation " + annotation + ", or leave it out"
}

// anotherPool says what a Service can do that gets no address of the silo's default pool. Where
// several addresses are of such, a message may name the IP family that it is about.
func anotherPool(service *v1.Service, unnamed []*backendv1.DesiredAddress, message string) string {
	w, _ := wantedOf(service)
	about := slices.IndexFunc(unnamed, func(address *backendv1.DesiredAddress) bool {
		return strings.Contains(message, familyName(address.GetFamily()))
	})
	address := unnamed[max(about, 0)]
	pool, annotation, operator := "pool", FloatingIPPool,
		", or ask the rack's operator for a default pool with free addresses"
	if address.GetExternalSubnet() != nil {
		pool, annotation, operator = "subnet pool", SubnetPool,
			", or ask the rack's operator for a default subnet pool with free subnets"
	}
	switch {
	case w.prefers:
		return fmt.Sprintf("name another %s in the annotation %s", pool, annotation) + operator
	case len(w.families) == 1:
		return fmt.Sprintf("name another %s of %s addresses in the annotation %s, or another IP family in %s",
			pool, familyName(w.families[0]), annotation, w.narrowedBy) + operator
	}
	position := cmp.Or(map[int]string{0: "first"}[slices.Index(w.families, address.GetFamily())], "second")
	return fmt.Sprintf("name another %s of %s addresses in the annotation %s (its %s value), or use "+
		"spec.ipFamilyPolicy PreferDualStack", pool, familyName(address.GetFamily()), annotation, position) +
		operator
}
