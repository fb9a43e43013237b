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

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
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

func portName(port firewall.Port) string { return "port " + port.String() }

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
	interfaces, firewalls, err := p.network(ctx)
	for _, port := range p.opts.Ports {
		if err != nil {
			p.checks = append(p.checks, failed(portName(port), err, ""))
			continue
		}
		p.port(port, interfaces, firewalls)
	}
	return true
}

// network reads where packets arrive at the instances, and the firewalls of their VPCs.
func (p *preflight) network(ctx context.Context) (
	interfaces map[string]firewall.Interface, firewalls map[string][]firewall.Rule, err error,
) {
	names := make(map[string]string, len(p.instances))
	for _, instance := range p.instances {
		names[instance.ID] = instance.Name
	}
	subnets, err := p.client.Subnets(ctx)
	if err != nil {
		return nil, nil, err
	}
	interfaces = make(map[string]firewall.Interface)
	firewalls = make(map[string][]firewall.Rule)
	for _, subnet := range subnets {
		nics, err := p.client.SubnetInterfaces(ctx, subnet.ID)
		if err != nil {
			return nil, nil, err
		}
		for _, nic := range nics {
			name, known := names[nic.InstanceID]
			if !known || !nic.Primary {
				continue
			}
			interfaces[nic.InstanceID] = firewall.Interface{
				InstanceName: name, Addrs: nic.Addrs,
				VPCID: subnet.VPCID, VPCName: subnet.VPCName, SubnetName: subnet.Name,
			}
			firewalls[subnet.VPCID] = nil
		}
	}
	for vpc := range firewalls {
		firewalls[vpc], err = p.client.FirewallRules(ctx, vpc)
		if err != nil {
			return nil, nil, err
		}
	}
	return interfaces, firewalls, nil
}

// port checks one port at all instances.
func (p *preflight) port(
	port firewall.Port, interfaces map[string]firewall.Interface,
	firewalls map[string][]firewall.Rule,
) {
	var names []string
	denied := make(map[string]bool)
	closedIn := make(map[string]firewall.ClosedPort)
	for _, instance := range p.instances {
		nic, reachable := interfaces[instance.ID]
		if !reachable {
			continue
		}
		for _, addr := range nic.Addrs {
			closed := firewall.ClosedPorts(firewalls[nic.VPCID], nic, addr, []firewall.Port{port})
			if len(closed) == 0 {
				continue
			}
			if !slices.Contains(names, instance.Name) {
				names = append(names, instance.Name)
			}
			closedIn[nic.VPCName] = closed[0]
			if closed[0].DeniedBy != "" {
				denied[closed[0].DeniedBy] = true
			}
		}
	}
	name := portName(port)
	switch {
	case len(interfaces) == 0:
		p.add(name, Skipped, "not checked, since no instance has a network interface", "")
	case len(names) == 0:
		p.add(name, OK, fmt.Sprintf("the firewall lets it through to %d instances",
			len(interfaces)), "")
	default:
		detail := fmt.Sprintf("the firewall closes it at %d of %d instances: %s",
			len(names), len(interfaces), shorten(names))
		if len(denied) > 0 {
			detail += "; denied by the rule " + strings.Join(slices.Sorted(maps.Keys(denied)), ", ")
		}
		p.add(name, Failed, detail, openingRemedy(closedIn))
	}
}

// openingRemedy says which rule to add in each VPC.
func openingRemedy(closedIn map[string]firewall.ClosedPort) string {
	var remedies []string
	for _, vpc := range slices.Sorted(maps.Keys(closedIn)) {
		rules := firewall.OpeningRules(ruleName, vpc, []firewall.ClosedPort{closedIn[vpc]})
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
