// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// loadBalancerName is the name of a Service's load balancer in the scope of the cluster.
func loadBalancerName(service *v1.Service) string {
	return service.Namespace + "/" + service.Name
}

// desiredLoadBalancer translates a Service. Its errors are about what the user wrote: one line that
// names the field and the remedy, all mistakes together.
func desiredLoadBalancer(scope string, service *v1.Service,
) (*backendv1.DesiredLoadBalancer, error) {
	family, familyErr := wantedFamily(service)
	source, sourceErr := wantedFloatingIP(service, family)
	ports, portsErr := wantedPorts(service)
	err := joinOneLine(familyErr, sourceErr, portsErr, checkTrafficPolicy(service))
	if err != nil {
		return nil, err
	}
	desired := &backendv1.DesiredLoadBalancer{
		Key: &backendv1.LoadBalancerKey{
			Scope: scope, Name: loadBalancerName(service),
		},
		OwnerUid:   string(service.UID),
		CreateTime: timestamppb.New(service.CreationTimestamp.Time),
		Addresses: []*backendv1.WantedAddress{{
			Family: family,
			Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: source},
		}},
		Ports: ports,
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IP != "" {
			desired.PublishedAddresses = append(desired.PublishedAddresses, ingress.IP)
		}
	}
	return desired, nil
}

// wantedFamily returns the IP family of the address. A Service that prefers both families gets its
// first one.
func wantedFamily(service *v1.Service) (backendv1.IpFamily, error) {
	policy := service.Spec.IPFamilyPolicy
	if policy != nil && *policy == v1.IPFamilyPolicyRequireDualStack {
		return 0, errors.New("spec.ipFamilyPolicy RequireDualStack is not supported yet: " +
			"use PreferDualStack or SingleStack, which get an address of the first family")
	}
	if len(service.Spec.IPFamilies) == 0 {
		return backendv1.IpFamily_IP_FAMILY_IPV4, nil
	}
	switch family := service.Spec.IPFamilies[0]; family {
	case v1.IPv4Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV4, nil
	case v1.IPv6Protocol:
		return backendv1.IpFamily_IP_FAMILY_IPV6, nil
	default:
		return 0, fmt.Errorf("spec.ipFamilies names %q, which is neither IPv4 nor IPv6", family)
	}
}

// wantedFloatingIP returns which floating IP the Service wants; family may be unspecified if it is
// not known.
func wantedFloatingIP(service *v1.Service, family backendv1.IpFamily,
) (*backendv1.FloatingIpSource, error) {
	wanted := service.Spec.LoadBalancerIP
	if wanted == "" {
		return &backendv1.FloatingIpSource{}, nil
	}
	address, err := netip.ParseAddr(wanted)
	if err != nil || address.Zone() != "" {
		return nil, fmt.Errorf("spec.loadBalancerIP %q is not an IP address", wanted)
	}
	address = address.Unmap()
	switch {
	case family == backendv1.IpFamily_IP_FAMILY_IPV4 && !address.Is4(),
		family == backendv1.IpFamily_IP_FAMILY_IPV6 && !address.Is6():
		return nil, fmt.Errorf("spec.loadBalancerIP %s is not of the first family in "+
			"spec.ipFamilies, %s: change one of them", wanted, service.Spec.IPFamilies)
	}
	return &backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Address{Address: address.String()},
	}, nil
}

// wantedPorts returns the ports of the Service, in its order.
func wantedPorts(service *v1.Service) ([]*backendv1.Port, error) {
	var ports []*backendv1.Port
	for _, port := range service.Spec.Ports {
		var protocol backendv1.Protocol
		switch port.Protocol {
		case v1.ProtocolTCP, "":
			protocol = backendv1.Protocol_PROTOCOL_TCP
		case v1.ProtocolUDP:
			protocol = backendv1.Protocol_PROTOCOL_UDP
		case v1.ProtocolSCTP:
			protocol = backendv1.Protocol_PROTOCOL_SCTP
		default:
			return nil, fmt.Errorf("spec.ports: port %d has the protocol %q, which Oxide does "+
				"not carry: use TCP or UDP", port.Port, port.Protocol)
		}
		ports = append(ports, &backendv1.Port{Protocol: protocol, Port: port.Port})
	}
	if len(ports) == 0 {
		return nil, errors.New("spec.ports is empty: a load balancer serves at least one port")
	}
	return ports, nil
}

// checkTrafficPolicy refuses what would silently lose traffic: with the policy Local a node without
// an endpoint of the Service drops what arrives, and placement does not follow endpoints yet.
func checkTrafficPolicy(service *v1.Service) error {
	if service.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal {
		return errors.New("spec.externalTrafficPolicy Local is not supported yet: the address " +
			"could be on a node without an endpoint, which drops all traffic: use Cluster")
	}
	return nil
}

// exclusion says why a node can carry no address.
type exclusion struct {
	node string
	why  string
}

// candidates translates nodes into the instances that may carry addresses: those of nodes that are
// ready, and as unhealthy those of nodes that are not. Nodes that name no Oxide instance are none.
// Every node that is no healthy candidate is told in the second result.
func candidates(nodes []*v1.Node) ([]*backendv1.Candidate, []exclusion) {
	var (
		list     []*backendv1.Candidate
		excluded []exclusion
		byID     = make(map[string]*backendv1.Candidate)
	)
	for _, node := range nodes {
		id, kind, err := parseProviderID(node.Spec.ProviderID)
		switch {
		case err != nil:
			excluded = append(excluded, exclusion{node.Name, "has a malformed provider ID"})
			continue
		case kind == idForeign:
			excluded = append(excluded, exclusion{node.Name, "is of another cloud provider"})
			continue
		case kind == idAbsent:
			excluded = append(excluded, exclusion{node.Name, "has no provider ID yet"})
			continue
		}
		health := backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY
		if !isReady(node) {
			excluded = append(excluded, exclusion{node.Name, "is not Ready"})
			health = backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY
		}
		if other, ok := byID[id]; ok {
			// Two nodes name one instance, as after a node was renamed: the healthier one counts.
			other.Health = min(other.Health, health)
			continue
		}
		byID[id] = &backendv1.Candidate{InstanceId: id, Health: health}
		list = append(list, byID[id])
	}
	slices.SortFunc(list, func(a, b *backendv1.Candidate) int {
		return cmp.Compare(a.GetInstanceId(), b.GetInstanceId())
	})
	slices.SortFunc(excluded, func(a, b exclusion) int { return cmp.Compare(a.node, b.node) })
	return list, excluded
}

// maxExclusions is how many nodes a message names.
const maxExclusions = 5

// explainNoCandidate says why no node can carry an address.
func explainNoCandidate(excluded []exclusion) string {
	if len(excluded) == 0 {
		return "no node can carry the address: there is none, or all are excluded from load balancers"
	}
	var parts []string
	for i, e := range excluded {
		if i == maxExclusions {
			parts = append(parts, fmt.Sprintf("and %d more", len(excluded)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s", e.node, e.why))
	}
	return "no node can carry the address: " + strings.Join(parts, ", ")
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
