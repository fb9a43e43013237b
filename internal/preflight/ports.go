// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// ruleName is the name of the firewall rule that is recommended.
const ruleName = "kubernetes-services"

func (p *preflight) portNames() []string {
	names := make([]string, 0, len(p.opts.Ports))
	for _, port := range p.opts.Ports {
		names = append(names, portName(port))
	}
	return names
}

func portName(port loadbalancers.Port) string { return "port " + port.String() }

// ports checks that the firewalls of the instances' VPCs let the ports through from outside.
func (p *preflight) ports(ctx context.Context) bool {
	if len(p.opts.Ports) == 0 {
		return true
	}
	if len(p.instances) == 0 {
		for _, port := range p.opts.Ports {
			p.add(portName(port), Skipped, "not checked, since there is no instance to reach", "")
		}
		return true
	}
	endpoints, firewalls, err := p.network(ctx)
	for _, port := range p.opts.Ports {
		if err != nil {
			p.checks = append(p.checks, failed(portName(port), err, ""))
			continue
		}
		p.port(port, endpoints, firewalls)
	}
	return true
}

// network reads where packets arrive at the instances, and the firewalls of their VPCs.
func (p *preflight) network(ctx context.Context) (
	endpoints map[string]instances.Endpoint, firewalls map[string][]oxide.FirewallRule, err error,
) {
	names := make(map[string]string, len(p.instances))
	for _, instance := range p.instances {
		names[instance.ID] = instance.Name
	}
	subnets, err := p.client.Subnets(ctx)
	if err != nil {
		return nil, nil, err
	}
	endpoints = make(map[string]instances.Endpoint)
	firewalls = make(map[string][]oxide.FirewallRule)
	for _, subnet := range subnets {
		interfaces, err := p.client.SubnetInterfaces(ctx, subnet.ID)
		if err != nil {
			return nil, nil, err
		}
		for _, nic := range interfaces {
			name, known := names[nic.InstanceID]
			if !known || !nic.Primary {
				continue
			}
			endpoints[nic.InstanceID] = instances.Endpoint{
				InstanceID: nic.InstanceID, Name: name, Addrs: nic.Addrs,
				VPCID: subnet.VPCID, VPCName: subnet.VPCName, SubnetName: subnet.Name,
			}
			firewalls[subnet.VPCID] = nil
		}
	}
	for vpc := range firewalls {
		if firewalls[vpc], err = p.client.FirewallRules(ctx, vpc); err != nil {
			return nil, nil, err
		}
	}
	return endpoints, firewalls, nil
}

// port checks one port at all instances.
func (p *preflight) port(
	port loadbalancers.Port, endpoints map[string]instances.Endpoint,
	firewalls map[string][]oxide.FirewallRule,
) {
	var names []string
	denied := make(map[string]bool)
	closedIn := make(map[string]loadbalancers.ClosedPort)
	for _, instance := range p.instances {
		endpoint, reachable := endpoints[instance.ID]
		if !reachable {
			continue
		}
		for _, family := range []loadbalancers.Family{loadbalancers.IPv4, loadbalancers.IPv6} {
			if !endpoint.Addr(family.Bits()).IsValid() {
				continue
			}
			closed := loadbalancers.ClosedPorts(firewalls[endpoint.VPCID], endpoint, family,
				[]loadbalancers.Port{port})
			if len(closed) == 0 {
				continue
			}
			if !slices.Contains(names, instance.Name) {
				names = append(names, instance.Name)
			}
			closedIn[endpoint.VPCName] = closed[0]
			if closed[0].DeniedBy != "" {
				denied[closed[0].DeniedBy] = true
			}
		}
	}
	name := portName(port)
	switch {
	case len(endpoints) == 0:
		p.add(name, Skipped, "not checked, since no instance has a network interface", "")
	case len(names) == 0:
		p.add(name, OK, fmt.Sprintf("the firewall lets it through to %d instances",
			len(endpoints)), "")
	default:
		detail := fmt.Sprintf("the firewall closes it at %d of %d instances: %s",
			len(names), len(endpoints), shorten(names))
		if len(denied) > 0 {
			detail += "; denied by the rule " + strings.Join(slices.Sorted(maps.Keys(denied)), ", ")
		}
		p.add(name, Failed, detail, openingRemedy(closedIn))
	}
}

// openingRemedy says which rule to add in each VPC.
func openingRemedy(closedIn map[string]loadbalancers.ClosedPort) string {
	var remedies []string
	for _, vpc := range slices.Sorted(maps.Keys(closedIn)) {
		rules := loadbalancers.OpeningRules(ruleName, vpc,
			[]loadbalancers.ClosedPort{closedIn[vpc]})
		remedies = append(remedies, fmt.Sprintf("add to the firewall of the VPC %s, for all of its "+
			"instances, the rule %s", vpc, strings.Join(rules, " and ")))
	}
	return strings.Join(remedies, "; ")
}

// maxNames is how many instances are named.
const maxNames = 5

func shorten(names []string) string {
	slices.Sort(names)
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}
