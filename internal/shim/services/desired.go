// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Bounds of the API on what an item may hold.
const (
	maxText      = 400
	maxPublished = 64
	maxPorts     = 1_000
	maxUsedPorts = 1_000
	maxReserved  = 10_000
)

// keyOf is "NAMESPACE/NAME", the name of a Service's load balancer in the scope of the cluster.
func keyOf(service *v1.Service) string { return service.Namespace + "/" + service.Name }

// item is a Service as it is sent.
type item struct {
	*backendv1.DesiredLoadBalancer
	// mistakes are what its user wrote wrongly.
	mistakes error
	// waits: where its endpoints are is not known yet.
	waits bool
}

// desired translates a Service that is to have a load balancer. What its user wrote wrongly is not
// sent: the backend keeps what the load balancer has, for the reason that names fields, annotations
// and remedies, all of them in one line. The caller holds pushing.
func (c *Controller) desired(service *v1.Service) *item {
	d := c.describe(service)
	addresses, addressErr := annotations.Addresses(service)
	retain, retainErr := annotations.Retain(service)
	selector, selectorErr := annotations.Selector(service)
	ports, portsErr := desiredPorts(service)
	firewallErr := setFirewall(d, service)
	eligible, waits := c.eligible(service, selector)
	mistakes := annotations.OneLine(addressErr, portsErr, retainErr, selectorErr, firewallErr)
	d.Ports, d.RetainAddresses, d.EligibleInstances = ports, retain, eligible
	d.Addresses = addresses
	if reason := annotations.OneLine(mistakes, waits); reason != nil {
		d.PreserveReason = client.Text(reason.Error(), maxText)
	}
	return &item{d, mistakes, waits != nil}
}

// ending translates a Service that is to have no load balancer any more. Where it is not clear
// whether its addresses are to be retained, they are. Nothing is allocated for it, so where it is
// not clear which addresses it asked for, all that it may have are named.
func (c *Controller) ending(service *v1.Service) *item {
	d := c.describe(service)
	d.Ending = backendv1.Ending_ENDING_RELEASE
	if retain, _ := annotations.Retain(service); retain {
		d.Ending = backendv1.Ending_ENDING_RETAIN
	}
	d.Ports, _ = desiredPorts(service)
	d.Addresses = endingAddresses(service)
	_ = setFirewall(d, service) // it is not opened any more
	return &item{DesiredLoadBalancer: d}
}

// setFirewall says whom the firewall is to let in, and fails if that is not clear.
func setFirewall(d *backendv1.DesiredLoadBalancer, service *v1.Service) error {
	off, offErr := annotations.FirewallOff(service)
	ranges, rangesErr := annotations.SourceRanges(service)
	d.OpenFirewall, d.SourceRanges = !off, ranges
	return annotations.OneLine(offErr, rangesErr)
}

// describe says whose load balancer it is, and what its Service publishes.
func (c *Controller) describe(service *v1.Service) *backendv1.DesiredLoadBalancer {
	d := &backendv1.DesiredLoadBalancer{
		Key: c.lbKey(keyOf(service)), OwnerUid: string(service.UID),
		CreateTime: timestamppb.New(service.CreationTimestamp.Time),
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err == nil && addr.Zone() == "" && len(d.GetPublishedAddresses()) < maxPublished {
			d.PublishedAddresses = append(d.PublishedAddresses, addr.Unmap().String())
		}
	}
	return d
}

// eligible returns the instances of the Nodes that a Service admits; nil: it admits all. It fails
// if its endpoints are not known.
func (c *Controller) eligible(
	service *v1.Service, selector labels.Selector,
) (*backendv1.EligibleInstances, error) {
	var what []string
	var serving map[string]backendv1.ServingState
	local := servicehelpers.RequestsOnlyLocalTraffic(service)
	if selector == nil {
		selector = labels.Everything()
	} else {
		what = append(what, fmt.Sprintf("has labels that the annotation %s selects (%s)",
			annotations.NodeSelector, client.Text(selector.String(), maxText/2)))
	}
	if local {
		var err error
		if serving, err = c.serving(service); err != nil {
			return nil, err
		}
		what = append(what,
			"has a ready endpoint of the Service, which spec.externalTrafficPolicy Local asks for")
	}
	if len(what) == 0 {
		return nil, nil
	}
	states := make(map[string]backendv1.ServingState)
	for _, node := range c.allNodes() {
		state, serves := serving[node.Name]
		id, ok := provider.InstanceID(node)
		if !ok || local && !serves || !selector.Matches(labels.Set(node.Labels)) {
			continue
		}
		if had, twice := states[id]; !twice || state < had { // SERVING counts over LEAVING
			states[id] = state
		}
	}
	eligible := &backendv1.EligibleInstances{
		Description: strings.Join(what, " and "), FollowsServing: local,
	}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		eligible.Instances = append(eligible.Instances,
			&backendv1.EligibleInstance{InstanceId: id, State: states[id]})
	}
	return eligible, nil
}

// endingAddresses returns what a Service that ends may have. What has had a class of this provider and
// has it no more may have addresses from either source, unless its annotations are for one of them.
func endingAddresses(service *v1.Service) []*backendv1.DesiredAddress {
	was := []*v1.Service{service}
	if hasOwnFinalizer(service) && !annotations.IsOurClass(service) {
		was = nil
		for _, class := range []string{annotations.ClassFloatingIP, annotations.ClassExternalSubnet} {
			classed := service.DeepCopy()
			classed.Spec.LoadBalancerClass = &class
			was = append(was, classed)
		}
	}
	var known [][]*backendv1.DesiredAddress
	for _, each := range was {
		if addresses, err := annotations.Addresses(each); err == nil {
			known = append(known, addresses)
		}
	}
	if len(known) == 1 {
		return known[0]
	}
	return anyAddresses()
}

// anyAddresses name one address of each IP family from each source, so that whatever a load
// balancer has is found.
func anyAddresses() (addresses []*backendv1.DesiredAddress) {
	for _, family := range []backendv1.IpFamily{
		backendv1.IpFamily_IP_FAMILY_IPV4, backendv1.IpFamily_IP_FAMILY_IPV6,
	} {
		addresses = append(addresses, &backendv1.DesiredAddress{
			Family: family,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}, &backendv1.DesiredAddress{
			Family: family,
			Source: &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: &backendv1.ExternalSubnetSource{}},
		})
	}
	return addresses
}

var protocols = map[v1.Protocol]backendv1.Protocol{
	v1.ProtocolTCP:  backendv1.Protocol_PROTOCOL_TCP,
	v1.ProtocolUDP:  backendv1.Protocol_PROTOCOL_UDP,
	v1.ProtocolSCTP: backendv1.Protocol_PROTOCOL_SCTP,
}

// desiredPorts returns the ports of the Service that have a protocol of the API, in its order, and
// an error if that is not all of them.
func desiredPorts(service *v1.Service) (ports []*backendv1.Port, err error) {
	for _, port := range service.Spec.Ports {
		protocol, known := protocols[orTCP(port.Protocol)]
		if !known {
			err = annotations.OneLine(err, fmt.Errorf("spec.ports: port %d has the protocol %q, which "+
				"Oxide does not carry: use TCP or UDP", port.Port, port.Protocol))
			continue
		}
		ports = append(ports, &backendv1.Port{Protocol: protocol, Port: port.Port})
	}
	if n := len(service.Spec.Ports); n == 0 || n > maxPorts {
		err = annotations.OneLine(err, fmt.Errorf("spec.ports has %d entries: a load balancer serves at "+
			"least one port, and at most %d", n, maxPorts))
	}
	return ports[:min(len(ports), maxPorts)], err
}
