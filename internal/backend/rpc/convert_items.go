// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var families = map[backendv1.IpFamily]ownership.Family{
	backendv1.IpFamily_IP_FAMILY_IPV4: ownership.IPv4,
	backendv1.IpFamily_IP_FAMILY_IPV6: ownership.IPv6,
}

var protocols = map[backendv1.Protocol]firewall.Protocol{
	backendv1.Protocol_PROTOCOL_TCP:  firewall.TCP,
	backendv1.Protocol_PROTOCOL_UDP:  firewall.UDP,
	backendv1.Protocol_PROTOCOL_SCTP: firewall.SCTP,
}

var readinesses = map[backendv1.Readiness]health.Readiness{
	backendv1.Readiness_READINESS_UNSPECIFIED: health.Unknown,
	backendv1.Readiness_READINESS_READY:       health.Ready,
	backendv1.Readiness_READINESS_NOT_READY:   health.NotReady,
	backendv1.Readiness_READINESS_UNKNOWN:     health.Unknown,
}

var resourceKinds = map[backendv1.AddressSource]ownership.Kind{
	backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:     ownership.FloatingIP,
	backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET: ownership.ExternalSubnet,
}

var endings = map[backendv1.Ending]plan.Ending{
	backendv1.Ending_ENDING_UNSPECIFIED: plan.NotEnding,
	backendv1.Ending_ENDING_RELEASE:     plan.EndRelease,
	backendv1.Ending_ENDING_RETAIN:      plan.EndRetain,
}

var servings = map[backendv1.ServingState]plan.Serving{
	backendv1.ServingState_SERVING_STATE_UNSPECIFIED: plan.IsServing,
	backendv1.ServingState_SERVING_STATE_SERVING:     plan.IsServing,
	backendv1.ServingState_SERVING_STATE_LEAVING:     plan.IsLeaving,
}

// The functions below convert messages that were validated.

func keyOf(key *backendv1.LoadBalancerKey) ownership.Key {
	return ownership.Key{Scope: key.GetScope(), Name: key.GetName()}
}

func openingOf(open *backendv1.OpenSession) session.Opening {
	return session.Opening{
		Scope: open.GetScope(), Adopted: open.GetAdoptedScopes(), LegacyName: open.GetLegacyName(),
		ObserveOnly: open.GetObserveOnly(),
	}
}

func observationOf(c *backendv1.Candidate, receivedAt time.Time) health.Observation {
	o := health.Observation{
		InstanceID: c.GetInstanceId(), Name: c.GetDisplayName(),
		Readiness:      readinesses[c.GetReadiness()],
		ReadinessFor:   c.GetReadinessDuration().AsDuration(),
		Unreachable:    c.GetReachability() == backendv1.Reachability_REACHABILITY_UNREACHABLE,
		UnreachableFor: c.GetReachabilityDuration().AsDuration(),
		Silent:         c.GetReachability() == backendv1.Reachability_REACHABILITY_SILENT,
		InDoubt:        c.GetReachabilityInDoubt(),
		Exclusion:      oneLine(c.GetExclusionReason()),
		OutOfService:   oneLine(c.GetOutOfServiceReason()),
		Cordoned:       c.GetCordoned(), CordonObserved: c.GetCordonObserved(),
		ShuttingDown: c.GetShuttingDown(), LeastPreferred: c.GetLeastPreferred(),
		ReceivedAt: receivedAt,
	}
	for _, used := range c.GetUsedPorts() {
		o.Used = append(o.Used, plan.UsedPort{
			Port:   portOf(used.GetProtocol(), used.GetPort()),
			Holder: used.GetHolder(), Serves: used.GetServes(), On: addrOf(used.GetAddress()),
		})
	}
	return o
}

func portOf(protocol backendv1.Protocol, number int32) plan.Port {
	return plan.Port{Protocol: protocols[protocol], Number: int(number)}
}

// addrOf returns an address; an invalid one where there is none.
func addrOf(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(text).Unmap()
}

func reservedOf(ranges []*backendv1.ReservedPorts) []plan.ReservedPorts {
	reserved := make([]plan.ReservedPorts, 0, len(ranges))
	for _, r := range ranges {
		reserved = append(reserved, plan.ReservedPorts{
			Protocol: protocols[r.GetProtocol()],
			First:    int(r.GetFirstPort()),
			Last:     int(cmp.Or(r.GetLastPort(), r.GetFirstPort())),
			Purpose:  cmp.Or(r.GetPurpose(), "the client"), Serves: r.GetServes(),
			On: addrOf(r.GetAddress()),
		})
	}
	return reserved
}

func desiredOf(lb *backendv1.DesiredLoadBalancer) session.Desired {
	desired := session.Desired{
		Key: keyOf(lb.GetKey()), OwnerUID: lb.GetOwnerUid(), Generation: lb.GetGeneration(),
		Ending: endings[lb.GetEnding()], Created: timeOf(lb.GetCreateTime()),
		Eligible: eligibleOf(lb.GetEligibleInstances()), Retain: lb.GetRetainAddresses(),
		Published:     addrsOf(lb.GetPublishedAddresses()),
		NoPublication: lb.GetNoPublication(), PreserveReason: oneLine(lb.GetPreserveReason()),
		OpenFirewall: lb.GetOpenFirewall(), Sources: ruleset.ParseSources(lb.GetSourceRanges()),
	}
	// What is wrong is this load balancer's own problem: what it has stays as it is. One that is
	// ending goes without what it could never have had.
	preserve := func(problem error) {
		if desired.Ending == plan.NotEnding && desired.PreserveReason == "" {
			desired.PreserveReason = oneLine(problem.Error())
		}
	}
	if problem := atMost("source_ranges", len(lb.GetSourceRanges()), maxSourceRanges); problem != nil {
		preserve(problem)
	}
	for i, port := range lb.GetPorts() {
		desired.Ports = append(desired.Ports, portOf(port.GetProtocol(), port.GetPort()))
		if problem := portProblem(fmt.Sprintf("ports[%d]", i), port); problem != nil {
			preserve(problem)
		}
	}
	for i, address := range lb.GetAddresses() {
		if problem := sourceProblem(fmt.Sprintf("addresses[%d]", i), address); problem != nil {
			preserve(problem)
			continue
		}
		desired.Addresses = append(desired.Addresses, desiredAddressOf(address))
	}
	return desired
}

func desiredAddressOf(address *backendv1.DesiredAddress) plan.Desired {
	source := ownership.Source{
		Pool:     nameOrID(address.GetFloatingIp().GetPool()),
		Existing: nameOrID(address.GetFloatingIp().GetExisting()),
	}
	if subnet := address.GetExternalSubnet(); subnet != nil {
		source = ownership.Source{
			Kind: ownership.ExternalSubnet, Pool: nameOrID(subnet.GetPool()),
			Existing: nameOrID(subnet.GetExisting()),
		}
	}
	if text := address.GetFloatingIp().GetAddress(); text != "" {
		source.Addr = netip.MustParseAddr(text).Unmap()
	}
	return plan.Desired{
		Family: families[address.GetFamily()], Source: source, Optional: address.GetOptional(),
	}
}

// namedOf returns a resource by what a user calls it.
func namedOf(source backendv1.AddressSource, text string) plan.Named {
	return plan.Named{Kind: resourceKinds[source], NameOrID: nameOrID(text)}
}

// nameOrID writes an id as Oxide does, so that it is found equal to that.
func nameOrID(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return text
}

func eligibleOf(eligible *backendv1.EligibleInstances) *plan.Eligible {
	if eligible == nil {
		return nil
	}
	out := &plan.Eligible{
		Instances:   make(map[string]plan.Serving, len(eligible.GetInstances())),
		Description: oneLine(eligible.GetDescription()), FollowsServing: eligible.GetFollowsServing(),
	}
	for _, instance := range eligible.GetInstances() {
		out.Instances[instance.GetInstanceId()] = servings[instance.GetState()]
	}
	return out
}

func addrsOf(texts []string) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text).Unmap())
	}
	return addrs
}

func planRequestOf(
	req *backendv1.PlanLoadBalancersRequest, receivedAt time.Time,
) session.PlanRequest {
	out := session.PlanRequest{
		Scope: req.GetScope(), Without: req.GetWithoutInstanceIds(), Cordon: req.GetCordonInstanceIds(),
		Explain: req.GetExplainNames(), Rebalance: req.GetRebalance(),
	}
	if set := req.GetSet(); set != nil {
		out.Set = &session.Set{
			Opening: openingOf(set.GetOpen()), Reserved: reservedOf(set.GetReservedPorts()),
		}
		for _, candidate := range set.GetCandidates() {
			out.Set.Candidates = append(out.Set.Candidates, observationOf(candidate, receivedAt))
		}
		for _, lb := range set.GetLoadBalancers() {
			out.Set.LoadBalancers = append(out.Set.LoadBalancers, desiredOf(lb))
		}
	}
	return out
}
