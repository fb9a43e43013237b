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
	network, err := p.network(ctx)
	if err != nil {
		for _, port := range p.opts.Ports {
			p.checks = append(p.checks, failed(portName(port), err, ""))
		}
		return true
	}
	remedy := ""
	for _, port := range p.opts.Ports {
		switch detail, closed := p.port(port, network); {
		case !closed:
			continue
		case p.opts.ManageFirewall && p.opens(port, network):
			p.add(portName(port), OK, detail+"; with --manage-firewall it is opened for each Service that has it",
				"")
		case p.opts.ManageFirewall:
			p.add(portName(port), Failed, detail+fmt.Sprintf(", which comes before the rules of "+
				"--manage-firewall, with the priority %d", p.opts.FirewallPriority),
				"give that rule a greater number as priority, or set a lower one by --firewall-priority")
		case remedy == "":
			// One rule for all of the ports: names are unique, so two could not have the same.
			remedy = p.openingRemedy(network)
			p.add(portName(port), Failed, detail, remedy)
		default:
			p.add(portName(port), Failed, detail, "the rule above opens it, too")
		}
	}
	return true
}

// network is where packets arrive at the instances, and the firewalls of their VPCs.
type network struct {
	// interfaces are by instance, stored and names by VPC.
	interfaces map[string]firewall.Interface
	stored     map[string][]firewall.Stored
	names      map[string]string
}

// of returns the interfaces in a VPC, in the order of the instances' ids.
func (n *network) of(vpc string) []firewall.Interface {
	var in []firewall.Interface
	for _, id := range slices.Sorted(maps.Keys(n.interfaces)) {
		if n.interfaces[id].VPCID == vpc {
			in = append(in, n.interfaces[id])
		}
	}
	return in
}

// network reads it, once.
func (p *preflight) network(ctx context.Context) (*network, error) {
	if p.known == nil {
		known, err := p.readNetwork(ctx)
		if err != nil {
			return nil, err
		}
		p.known = known
	}
	return p.known, nil
}

func (p *preflight) readNetwork(ctx context.Context) (*network, error) {
	names := make(map[string]string, len(p.instances))
	for _, instance := range p.instances {
		names[instance.ID] = instance.Name
	}
	subnets, err := p.client.Subnets(ctx)
	if err != nil {
		return nil, err
	}
	n := &network{
		interfaces: make(map[string]firewall.Interface), stored: make(map[string][]firewall.Stored),
		names: make(map[string]string),
	}
	for _, subnet := range subnets {
		nics, err := p.client.SubnetInterfaces(ctx, subnet.ID, nil)
		if err != nil {
			return nil, err
		}
		for _, nic := range nics {
			name, known := names[nic.InstanceID]
			if !known || !nic.Primary {
				continue
			}
			n.interfaces[nic.InstanceID] = firewall.Interface{
				InstanceName: name, Addrs: nic.Addrs,
				VPCID: subnet.VPCID, VPCName: subnet.VPCName, SubnetName: subnet.Name,
			}
			n.names[subnet.VPCID] = subnet.VPCName
		}
	}
	for vpc := range n.names {
		if n.stored[vpc], err = p.client.Firewall(ctx, vpc); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// port checks one port at all instances. If it is closed, it says so without adding the check.
func (p *preflight) port(port firewall.Port, network *network) (detail string, isClosed bool) {
	var names []string
	denied := make(map[string]bool)
	for _, instance := range p.instances {
		nic, reachable := network.interfaces[instance.ID]
		if !reachable {
			continue
		}
		for _, addr := range nic.Addrs {
			closed := firewall.ClosedPorts(rulesOf(network.stored[nic.VPCID]), nic, addr,
				[]firewall.Port{port})
			if len(closed) == 0 {
				continue
			}
			if !slices.Contains(names, instance.Name) {
				names = append(names, instance.Name)
			}
			if closed[0].DeniedBy != "" {
				denied[closed[0].DeniedBy] = true
			}
		}
	}
	switch {
	case len(network.interfaces) == 0:
		p.add(portName(port), Skipped, "not checked, since no instance has a network interface", "")
		return "", false
	case len(names) == 0:
		p.add(portName(port), OK, fmt.Sprintf("the firewall lets it through to %d instances",
			len(network.interfaces)), "")
		return "", false
	}
	detail = fmt.Sprintf("the firewall closes it at %d of %d instances: %s",
		len(names), len(network.interfaces), shorten(names))
	if len(denied) > 0 {
		detail += "; denied by the rule " + strings.Join(slices.Sorted(maps.Keys(denied)), ", ")
	}
	return detail, true
}

// openingRemedy says what to change in the firewall of each VPC that closes a port.
func (p *preflight) openingRemedy(network *network) string {
	places := make(map[string][]firewall.Place)
	closed := make(map[string][]firewall.ClosedPort)
	for _, id := range slices.Sorted(maps.Keys(network.interfaces)) {
		nic := network.interfaces[id]
		for _, addr := range nic.Addrs {
			places[nic.VPCID] = append(places[nic.VPCID], firewall.Place{At: nic, Addr: addr})
			closed[nic.VPCID] = append(closed[nic.VPCID],
				firewall.ClosedPorts(rulesOf(network.stored[nic.VPCID]), nic, addr, p.opts.Ports)...)
		}
	}
	var remedies []string
	for _, vpc := range slices.Sorted(maps.Keys(closed)) {
		if len(closed[vpc]) == 0 {
			continue
		}
		changes := firewall.Open(ruleName, network.names[vpc], rulesOf(network.stored[vpc]),
			places[vpc], p.opts.Ports)
		remedies = append(remedies, fmt.Sprintf("in the firewall of the VPC %s, for all of its instances, "+
			"%s%s", network.names[vpc], firewall.Before(closed[vpc]), firewall.Describe(changes)))
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
