// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxQuoted is how much of what a user wrote is quoted.
const maxQuoted = 100

// Value returns what an annotation of a Service says; empty if it is not there.
func Value(service *v1.Service, annotation string) string {
	return strings.TrimSpace(service.Annotations[annotation])
}

// mistake says what is wrong with an annotation.
func mistake(annotation, format string, args ...any) error {
	return fmt.Errorf("the annotation %s %s", annotation, fmt.Sprintf(format, args...))
}

// quoted quotes the beginning of what a user wrote.
func quoted(text string) string { return fmt.Sprintf("%.*q", maxQuoted, text) }

// OneLine joins errors in one line; nil if there are none.
func OneLine(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// Families returns the IP families that the address of a Service may be of, in its order, and
// whether one is required: so it is where the annotation or the Service names one alone. A Service
// that prefers both gets an address of the first that can be had. On an error there are none.
func Families(service *v1.Service) (families []backendv1.IpFamily, required bool, err error) {
	policy := service.Spec.IPFamilyPolicy
	if policy != nil && *policy == v1.IPFamilyPolicyRequireDualStack {
		return nil, true, fmt.Errorf("spec.ipFamilyPolicy RequireDualStack is not supported yet: use "+
			"PreferDualStack or SingleStack, which get one address; the annotation %s says of which IP "+
			"family, and %s of which pool", FloatingIPVersion, FloatingIPPool)
	}
	named := service.Spec.IPFamilies
	if len(named) == 0 {
		named = []v1.IPFamily{v1.IPv4Protocol}
	}
	version := Value(service, FloatingIPVersion)
	asked, known := map[string]v1.IPFamily{"v4": v1.IPv4Protocol, "v6": v1.IPv6Protocol}[version]
	switch {
	case version != "" && !known:
		return nil, true, mistake(FloatingIPVersion, "says %s: use v4 or v6", quoted(version))
	case known && !slices.Contains(named, asked):
		return nil, true, mistake(FloatingIPVersion, "says %s, but spec.ipFamilies is %s: change one of "+
			"them", version, named)
	case known:
		named = []v1.IPFamily{asked}
	case policy == nil || *policy != v1.IPFamilyPolicyPreferDualStack:
		named = named[:1]
	}
	for _, name := range named {
		family, known := familiesByName[name]
		if !known {
			return nil, true, fmt.Errorf("spec.ipFamilies names %q, which is neither IPv4 nor IPv6", name)
		}
		families = append(families, family)
	}
	return families, len(families) == 1, nil
}

var familiesByName = map[v1.IPFamily]backendv1.IpFamily{
	v1.IPv4Protocol: backendv1.IpFamily_IP_FAMILY_IPV4,
	v1.IPv6Protocol: backendv1.IpFamily_IP_FAMILY_IPV6,
}

// FamilyName returns the name of an IP family as a Service has it.
func FamilyName(family backendv1.IpFamily) string {
	if family == backendv1.IpFamily_IP_FAMILY_IPV6 {
		return string(v1.IPv6Protocol)
	}
	return string(v1.IPv4Protocol)
}

// Source returns which floating IP a Service asks for; family may be unspecified if it is not
// known.
func Source(service *v1.Service, family backendv1.IpFamily) (*backendv1.FloatingIpSource, error) {
	address, addressErr := requestedAddress(service, family)
	pool, poolErr := single(service, FloatingIPPool, "pool")
	existing, existingErr := single(service, ExistingFloatingIP, "floating IP")
	_, sourceErr := SourceOf(service)
	err := OneLine(sourceErr, addressErr, poolErr, existingErr)
	switch {
	case err != nil:
		return nil, err
	case address != "" && pool+existing != "", pool != "" && existing != "":
		return nil, fmt.Errorf("an address (annotation %s or spec.loadBalancerIP), a pool (%s) and an "+
			"existing floating IP (%s) exclude each other: give one of them",
			FloatingIP, FloatingIPPool, ExistingFloatingIP)
	}
	source := &backendv1.FloatingIpSource{}
	switch {
	case address != "":
		source.Selector = &backendv1.FloatingIpSource_Address{Address: address}
	case pool != "":
		source.Selector = &backendv1.FloatingIpSource_Pool{Pool: pool}
	case existing != "":
		source.Selector = &backendv1.FloatingIpSource_Existing{Existing: existing}
	}
	return source, nil
}

// requestedAddress returns the address that a Service asks for, in canonical form; empty: none.
func requestedAddress(service *v1.Service, family backendv1.IpFamily) (string, error) {
	annotated, err := addressOf(FloatingIP, Value(service, FloatingIP), family)
	field, fieldErr := addressOf("spec.loadBalancerIP", service.Spec.LoadBalancerIP, family)
	switch {
	case err != nil || fieldErr != nil:
		return "", OneLine(err, fieldErr)
	case annotated != "" && field != "" && annotated != field:
		return "", fmt.Errorf("the annotation %s says %s and spec.loadBalancerIP %s: make them agree, "+
			"or leave one of them out", FloatingIP, annotated, field)
	case annotated != "":
		return annotated, nil
	}
	return field, nil
}

// addressOf returns the address of a family in a list of addresses with at most one of each family.
func addressOf(where, list string, family backendv1.IpFamily) (string, error) {
	if list == "" {
		return "", nil
	}
	byFamily := make(map[backendv1.IpFamily]string)
	for text := range strings.SplitSeq(list, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || addr.Zone() != "" {
			return "", fmt.Errorf("%s: %s is not an IP address", where, quoted(strings.TrimSpace(text)))
		}
		of := backendv1.IpFamily_IP_FAMILY_IPV4
		if addr = addr.Unmap(); addr.Is6() {
			of = backendv1.IpFamily_IP_FAMILY_IPV6
		}
		if byFamily[of] != "" {
			return "", fmt.Errorf("%s: %s and %s are of one IP family: give at most one of each",
				where, byFamily[of], addr)
		}
		byFamily[of] = addr.String()
	}
	if family != backendv1.IpFamily_IP_FAMILY_UNSPECIFIED && byFamily[family] == "" {
		return "", fmt.Errorf("%s: %s is not of the IP family that the Service has, %s: change "+
			"spec.ipFamilies or the address", where, list, FamilyName(family))
	}
	return byFamily[family], nil
}

// single returns the one value of an annotation that may once have one for each IP family. Whether
// Oxide can have such a name is not known here.
func single(service *v1.Service, annotation, what string) (string, error) {
	text := Value(service, annotation)
	if strings.Contains(text, ",") {
		return "", mistake(annotation, "names more than one %s, but a Service gets an address of one "+
			"IP family only: name one", what)
	}
	return text, nil
}

// Retain reports whether the address of a Service is to be kept when it goes; true where that is
// not clear.
func Retain(service *v1.Service) (bool, error) {
	switch text := Value(service, RetainAddress); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return true, mistake(RetainAddress, "says %s: use true or false", quoted(text))
	}
}

// Selector returns which Nodes may carry the address of a Service; nil: all.
func Selector(service *v1.Service) (labels.Selector, error) {
	text := Value(service, NodeSelector)
	if text == "" {
		return nil, nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, mistake(NodeSelector, "says %s, which is not a label selector such as "+
			"\"pool=edge,zone in (a,b)\": %s", quoted(text), strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return selector, nil
}

// Remedy returns what a Service asks for in particular, and what to do if it cannot be had.
func Remedy(
	service *v1.Service, source *backendv1.FloatingIpSource,
) (requested, remedy string) {
	switch selector := source.GetSelector().(type) {
	case *backendv1.FloatingIpSource_Address:
		where := "spec.loadBalancerIP"
		if Value(service, FloatingIP) != "" {
			where = "the annotation " + FloatingIP
		}
		return selector.Address, "give a free address of a pool that is linked to the silo in " + where +
			", or leave it out"
	case *backendv1.FloatingIpSource_Pool:
		return selector.Pool, "name another pool in the annotation " + FloatingIPPool +
			", or leave it out"
	case *backendv1.FloatingIpSource_Existing:
		return selector.Existing, "name a floating IP of your own in the annotation " +
			ExistingFloatingIP + ", or leave it out"
	}
	return "", anotherPool(service)
}

// anotherPool says what a Service can do that gets no address of the silo's default pool.
func anotherPool(service *v1.Service) string {
	const operator = ", or ask the rack's operator for a default pool with free addresses"
	families, required, err := Families(service)
	if err != nil || !required {
		return "name another pool in the annotation " + FloatingIPPool + operator
	}
	where := "spec.ipFamilies"
	if Value(service, FloatingIPVersion) != "" {
		where = "the annotation " + FloatingIPVersion
	}
	return fmt.Sprintf("name another pool of %s addresses in the annotation %s, or another IP family in %s",
		FamilyName(families[0]), FloatingIPPool, where) + operator
}
