// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// loadBalancerName is the name of a Service's load balancer in the scope of the cluster.
func loadBalancerName(service *v1.Service) string {
	return service.Namespace + "/" + service.Name
}

// wanted tells whether a Service is to have a load balancer of this provider.
func wanted(service *v1.Service) bool {
	return service.DeletionTimestamp.IsZero() &&
		service.Spec.Type == v1.ServiceTypeLoadBalancer &&
		service.Spec.LoadBalancerClass == nil
}

// desired translates a Service. Its errors are about what the user wrote: one line that names field or
// annotation and the remedy, all mistakes together; or errEndpointsUnknown.
func (f facts) desired(service *v1.Service) (*backendv1.DesiredLoadBalancer, error) {
	address, addressErr := desiredAddress(service)
	ports, portsErr := wantedPorts(service)
	retain, retainErr := retains(service)
	selector, selectorErr := nodeSelector(service)
	err := joinOneLine(checkSource(service), addressErr, portsErr, retainErr, selectorErr)
	if err != nil {
		return nil, err
	}
	d := describe(f.scope, service)
	d.Addresses = []*backendv1.WantedAddress{address}
	d.Ports, d.RetainAddresses = ports, retain
	if d.EligibleInstances, err = f.eligible(service, selector); err != nil {
		return nil, err
	}
	return d, nil
}

// eligible returns the instances of the Nodes that a Service admits; nil: it admits all.
func (f facts) eligible(
	service *v1.Service, selector labels.Selector,
) (*backendv1.InstanceSet, error) {
	if selector == nil && !isLocal(service) {
		return nil, nil
	}
	var local map[string]bool
	if isLocal(service) {
		var err error
		if local, err = f.endpoints(service); err != nil {
			return nil, err
		}
	}
	return instancesOf(f.nodes, func(node *v1.Node) bool {
		return (selector == nil || selector.Matches(labels.Set(node.Labels))) &&
			(!isLocal(service) || local[node.Name])
	}), nil
}

// held translates a Service that desired refuses, as far as it can be told: what it has is to stay.
// It returns nil if none of its ports is known.
func (f facts) held(service *v1.Service) *backendv1.DesiredLoadBalancer {
	ports, _ := wantedPorts(service)
	if len(ports) == 0 {
		return nil
	}
	d := describe(f.scope, service)
	if selector, err := nodeSelector(service); err == nil {
		d.EligibleInstances, _ = f.eligible(service, selector)
	}
	d.Ports, d.RetainAddresses, d.HoldAddresses = ports, true, true
	for _, family := range []backendv1.IpFamily{
		backendv1.IpFamily_IP_FAMILY_IPV4, backendv1.IpFamily_IP_FAMILY_IPV6,
	} {
		d.Addresses = append(d.Addresses, floatingIP(family, &backendv1.FloatingIpSource{}))
	}
	return d
}

// describe says which load balancer a Service has, and what it publishes.
func describe(scope string, service *v1.Service) *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key:                key(scope, service),
		OwnerUid:           string(service.UID),
		CreateTime:         timestamppb.New(service.CreationTimestamp.Time),
		PublishedAddresses: published(service),
	}
}

func key(scope string, service *v1.Service) *backendv1.LoadBalancerKey {
	return &backendv1.LoadBalancerKey{Scope: scope, Name: loadBalancerName(service)}
}

// published returns the addresses in the status of a Service.
func published(service *v1.Service) []string {
	var addresses []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil && addr.Zone() == "" {
			addresses = append(addresses, addr.Unmap().String())
		}
	}
	return addresses
}

func floatingIP(
	family backendv1.IpFamily, source *backendv1.FloatingIpSource,
) *backendv1.WantedAddress {
	return &backendv1.WantedAddress{
		Family: family, Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: source},
	}
}

// desiredAddress translates what a Service says of its address.
func desiredAddress(service *v1.Service) (*backendv1.WantedAddress, error) {
	family, familyErr := wantedFamily(service)
	source, sourceErr := wantedFloatingIP(service, family)
	return floatingIP(family, source), joinOneLine(familyErr, sourceErr)
}

// wantedFamily returns the IP family of the address: the first one of the Service, or the one that
// the annotation says. A Service that prefers both families gets one.
func wantedFamily(service *v1.Service) (backendv1.IpFamily, error) {
	policy := service.Spec.IPFamilyPolicy
	if policy != nil && *policy == v1.IPFamilyPolicyRequireDualStack {
		return 0, errors.New("spec.ipFamilyPolicy RequireDualStack is not supported yet: " +
			"use PreferDualStack or SingleStack, which get an address of one family")
	}
	families := service.Spec.IPFamilies
	if len(families) == 0 {
		families = []v1.IPFamily{v1.IPv4Protocol}
	}
	family := families[0]
	switch version := value(service, annotations.FloatingIPVersion); version {
	case "":
	case "v4", "v6":
		family = v1.IPv4Protocol
		if version == "v6" {
			family = v1.IPv6Protocol
		}
		if !slices.Contains(families, family) {
			return 0, mistake(annotations.FloatingIPVersion, "says %s, but spec.ipFamilies is %s: "+
				"change one of them", version, families)
		}
	default:
		return 0, mistake(annotations.FloatingIPVersion, "says %q: use v4 or v6", version)
	}
	switch family {
	case v1.IPv4Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV4, nil
	case v1.IPv6Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV6, nil
	}
	return 0, fmt.Errorf("spec.ipFamilies names %q, which is neither IPv4 nor IPv6", family)
}

var protocols = map[v1.Protocol]backendv1.Protocol{
	v1.ProtocolTCP:  backendv1.Protocol_PROTOCOL_TCP,
	v1.ProtocolUDP:  backendv1.Protocol_PROTOCOL_UDP,
	v1.ProtocolSCTP: backendv1.Protocol_PROTOCOL_SCTP,
}

// wantedPorts returns the ports of the Service that Oxide carries, in its order, and an error if that is
// not all of them.
func wantedPorts(service *v1.Service) ([]*backendv1.Port, error) {
	var (
		ports    []*backendv1.Port
		mistakes []error
	)
	for _, port := range service.Spec.Ports {
		protocol, known := protocols[orTCP(port.Protocol)]
		if !known {
			mistakes = append(mistakes, fmt.Errorf("spec.ports: port %d has the protocol %q, which "+
				"Oxide does not carry: use TCP or UDP", port.Port, port.Protocol))
			continue
		}
		ports = append(ports, &backendv1.Port{Protocol: protocol, Port: port.Port})
	}
	if len(service.Spec.Ports) == 0 {
		mistakes = append(mistakes,
			errors.New("spec.ports is empty: a load balancer serves at least one port"))
	}
	return ports, joinOneLine(mistakes...)
}

// joinOneLine joins errors in one line; nil if there are none.
func joinOneLine(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}
