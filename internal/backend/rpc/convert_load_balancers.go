// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"cmp"
	"net/netip"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var toHealth = map[backendv1.CandidateHealth]loadbalancers.Health{
	backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY:   loadbalancers.Healthy,
	backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT:   loadbalancers.Suspect,
	backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY: loadbalancers.Unhealthy,
}

var toFamily = map[backendv1.IpFamily]loadbalancers.Family{
	backendv1.IpFamily_IP_FAMILY_IPV4: loadbalancers.IPv4,
	backendv1.IpFamily_IP_FAMILY_IPV6: loadbalancers.IPv6,
}

var fromFamily = map[loadbalancers.Family]backendv1.IpFamily{
	loadbalancers.IPv4: backendv1.IpFamily_IP_FAMILY_IPV4,
	loadbalancers.IPv6: backendv1.IpFamily_IP_FAMILY_IPV6,
}

var toProtocol = map[backendv1.Protocol]loadbalancers.Protocol{
	backendv1.Protocol_PROTOCOL_TCP:  loadbalancers.TCP,
	backendv1.Protocol_PROTOCOL_UDP:  loadbalancers.UDP,
	backendv1.Protocol_PROTOCOL_SCTP: loadbalancers.SCTP,
}

var fromCondition = map[loadbalancers.ConditionType]backendv1.ConditionType{
	loadbalancers.NoCandidate:    backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE,
	loadbalancers.PortConflict:   backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT,
	loadbalancers.PortRefused:    backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED,
	loadbalancers.FirewallClosed: backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED,
	loadbalancers.Degraded:       backendv1.ConditionType_CONDITION_TYPE_DEGRADED,
	loadbalancers.NotOwned:       backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED,
	loadbalancers.ForeignAttachment: backendv1.
		ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT,
}

var fromActionType = map[loadbalancers.ActionType]backendv1.ActionType{
	loadbalancers.Create: backendv1.ActionType_ACTION_TYPE_CREATE,
	loadbalancers.Mark:   backendv1.ActionType_ACTION_TYPE_MARK,
	loadbalancers.Attach: backendv1.ActionType_ACTION_TYPE_ATTACH,
	loadbalancers.Detach: backendv1.ActionType_ACTION_TYPE_DETACH,
	loadbalancers.Delete: backendv1.ActionType_ACTION_TYPE_DELETE,
}

func toKey(key *backendv1.LoadBalancerKey) loadbalancers.Key {
	return loadbalancers.Key{Scope: key.GetScope(), Name: key.GetName()}
}

func fromKey(key loadbalancers.Key) *backendv1.LoadBalancerKey {
	if key == (loadbalancers.Key{}) {
		return nil
	}
	return &backendv1.LoadBalancerKey{Scope: key.Scope, Name: key.Name}
}

// The functions to… convert messages that were validated.

func toCluster(cluster *backendv1.Cluster) loadbalancers.Cluster {
	out := loadbalancers.Cluster{
		Scope: cluster.GetScope(), Adopted: cluster.GetAdoptedScopes(),
		LegacyName: cluster.GetLegacyName(),
	}
	for _, c := range cluster.GetCandidates() {
		candidate := loadbalancers.Candidate{
			InstanceID: c.GetInstanceId(), Health: toHealth[c.GetHealth()], Avoid: c.GetAvoid(),
		}
		for _, used := range c.GetUsedPorts() {
			candidate.Used = append(candidate.Used, loadbalancers.UsedPort{
				Port:   toPort(used.GetProtocol(), used.GetPort()),
				Holder: used.GetHolder(), Serves: used.GetServes(),
			})
		}
		out.Candidates = append(out.Candidates, candidate)
	}
	for _, r := range cluster.GetReservedPorts() {
		reserved := loadbalancers.ReservedPorts{
			Protocol: toProtocol[r.GetProtocol()],
			First:    int(r.GetFirstPort()), Last: int(r.GetLastPort()),
			Purpose: cmp.Or(r.GetPurpose(), "the cluster itself"), Serves: r.GetServes(),
		}
		reserved.Last = cmp.Or(reserved.Last, reserved.First)
		out.Reserved = append(out.Reserved, reserved)
	}
	return out
}

func toPort(protocol backendv1.Protocol, number int32) loadbalancers.Port {
	return loadbalancers.Port{Protocol: toProtocol[protocol], Number: int(number)}
}

func toSet(wants []*backendv1.DesiredLoadBalancer) []loadbalancers.Desired {
	set := make([]loadbalancers.Desired, 0, len(wants))
	for _, want := range wants {
		set = append(set, toDesired(want))
	}
	return set
}

func toSetOptions(req *backendv1.ReconcileLoadBalancersRequest) loadbalancers.SetOptions {
	options := loadbalancers.SetOptions{
		DryRun: req.GetDryRun(), Terminating: toSet(req.GetTerminating()),
	}
	if only := req.GetOnly(); only != nil {
		options.Only = make(map[string]bool, len(only.GetNames()))
		for _, name := range only.GetNames() {
			options.Only[name] = true
		}
	}
	return options
}

func toDesired(want *backendv1.DesiredLoadBalancer) loadbalancers.Desired {
	out := loadbalancers.Desired{
		Key: toKey(want.GetKey()), OwnerUID: want.GetOwnerUid(),
		Retain: want.GetRetainAddresses(), Hold: want.GetHoldAddresses(),
		Published: toAddrs(want.GetPublishedAddresses()),
	}
	if want.GetCreateTime() != nil {
		out.Created = want.GetCreateTime().AsTime()
	}
	out.Wanted = toWanted(want.GetAddresses())
	for _, port := range want.GetPorts() {
		out.Ports = append(out.Ports, toPort(port.GetProtocol(), port.GetPort()))
	}
	if want.GetEligibleInstances() != nil {
		out.Eligible = make(map[string]bool)
		for _, id := range want.GetEligibleInstances().GetInstanceIds() {
			out.Eligible[id] = true
		}
	}
	return out
}

func toWanted(addresses []*backendv1.WantedAddress) []loadbalancers.Wanted {
	var all []loadbalancers.Wanted
	for _, address := range addresses {
		wanted := loadbalancers.Wanted{
			Family: toFamily[address.GetFamily()],
			Source: loadbalancers.Source{
				Pool:     toNameOrID(address.GetFloatingIp().GetPool()),
				Existing: toNameOrID(address.GetFloatingIp().GetExisting()),
			},
		}
		if text := address.GetFloatingIp().GetAddress(); text != "" {
			wanted.Source.Addr = netip.MustParseAddr(text).Unmap()
		}
		all = append(all, wanted)
	}
	return all
}

// toNameOrID writes an id as Oxide does, so that it is found equal to that.
func toNameOrID(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return text
}

func toAddrs(texts []string) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text).Unmap())
	}
	return addrs
}

func fromResults(results []loadbalancers.Result) (
	msgs []*backendv1.LoadBalancerResult, actions []*backendv1.Action,
) {
	for _, r := range results {
		msgs = append(msgs, &backendv1.LoadBalancerResult{
			LoadBalancer: fromLoadBalancer(r.LoadBalancer), Problem: toProblem(r.Err),
		})
		actions = append(actions, fromActions(r.Actions)...)
	}
	return msgs, actions
}

func fromLoadBalancers(lbs []loadbalancers.LoadBalancer) []*backendv1.LoadBalancer {
	msgs := make([]*backendv1.LoadBalancer, 0, len(lbs))
	for _, lb := range lbs {
		msgs = append(msgs, fromLoadBalancer(lb))
	}
	return msgs
}

func fromLoadBalancer(lb loadbalancers.LoadBalancer) *backendv1.LoadBalancer {
	msg := &backendv1.LoadBalancer{Key: fromKey(lb.Key), OwnerUid: lb.OwnerUID}
	for _, a := range lb.Addresses {
		msg.Addresses = append(msg.Addresses, fromAddress(a))
	}
	for _, c := range lb.Conditions {
		msg.Conditions = append(msg.Conditions, &backendv1.Condition{
			Type: fromCondition[c.Type], Message: oneLine(c.Message),
		})
	}
	return msg
}

func fromAddress(a loadbalancers.Address) *backendv1.LoadBalancerAddress {
	return &backendv1.LoadBalancerAddress{
		Family:            fromFamily[a.Family],
		Source:            backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
		Address:           fromAddr(a.Addr),
		ResourceId:        a.ID,
		ResourceName:      a.Name,
		Managed:           a.Managed,
		Retained:          a.Retained,
		Attachment:        fromAttachment(a.Attached),
		PlannedAttachment: fromAttachment(a.Planned),
	}
}

func fromAttachment(a loadbalancers.Attachment) *backendv1.Attachment {
	if a.InstanceID == "" {
		return nil
	}
	return &backendv1.Attachment{
		InstanceId: a.InstanceID, PrivateAddress: fromAddr(a.PrivateAddr),
	}
}

func fromAddr(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func fromActions(actions []loadbalancers.Action) []*backendv1.Action {
	msgs := make([]*backendv1.Action, 0, len(actions))
	for _, a := range actions {
		msgs = append(msgs, &backendv1.Action{
			Type:         fromActionType[a.Type],
			Key:          fromKey(a.Key),
			Source:       backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			ResourceId:   a.ID,
			ResourceName: a.Name,
			Address:      fromAddr(a.Addr),
			InstanceId:   a.InstanceID,
			Why:          oneLine(a.Why),
			EndTime:      fromTime(a.EndTime),
		})
	}
	return msgs
}
