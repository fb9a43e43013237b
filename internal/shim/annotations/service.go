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

// Family returns the IP family of a Service's address: the first one of the Service, or the one
// that the annotation says. A Service that prefers both families gets one. On an error it is
// unspecified.
func Family(service *v1.Service) (backendv1.IpFamily, error) {
	policy := service.Spec.IPFamilyPolicy
	if policy != nil && *policy == v1.IPFamilyPolicyRequireDualStack {
		return 0, errors.New("spec.ipFamilyPolicy RequireDualStack is not supported yet: " +
			"use PreferDualStack or SingleStack, which get an address of one family")
	}
	families := service.Spec.IPFamilies
	if len(families) == 0 {
		families = []v1.IPFamily{v1.IPv4Protocol}
	}
	family, version := families[0], Value(service, FloatingIPVersion)
	switch version {
	case "":
	case "v4":
		family = v1.IPv4Protocol
	case "v6":
		family = v1.IPv6Protocol
	default:
		return 0, mistake(FloatingIPVersion, "says %s: use v4 or v6", quoted(version))
	}
	switch {
	case !slices.Contains(families, family):
		return 0, mistake(FloatingIPVersion, "says %s, but spec.ipFamilies is %s: change one of them",
			version, families)
	case family == v1.IPv4Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV4, nil
	case family == v1.IPv6Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV6, nil
	}
	return 0, fmt.Errorf("spec.ipFamilies names %q, which is neither IPv4 nor IPv6", family)
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
	err := OneLine(checkSource(service), addressErr, poolErr, existingErr)
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

// checkSource refuses sources of addresses that are not supported, or unknown.
func checkSource(service *v1.Service) error {
	switch source := Value(service, AddressSource); source {
	case "", "floating-ip":
		return nil
	case "external-subnet":
		return mistake(AddressSource, "says external-subnet, which is not supported yet: use "+
			"floating-ip, or leave it out")
	default:
		return mistake(AddressSource, "says %s: use floating-ip, or leave it out", quoted(source))
	}
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
	return "", "name another pool in the annotation " + FloatingIPPool +
		", or ask the rack's operator for a default pool with free addresses"
}
