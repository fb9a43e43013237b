// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// validateLoadBalancer refuses what no client may send. What is only wrong with the values that a
// user chose for this load balancer is its own problem, and sourceProblem's business.
func validateLoadBalancer(at, scope string, lb *backendv1.DesiredLoadBalancer) error {
	if err := validateKeyIn(at+".key", scope, lb.GetKey()); err != nil {
		return err
	}
	if err := validateToken(at+".owner_uid", lb.GetOwnerUid()); err != nil {
		return err
	}
	if lb.GetGeneration() < 1 {
		return invalidf(at+".generation", "%d is below 1", lb.GetGeneration())
	}
	if _, known := endings[lb.GetEnding()]; !known {
		return invalidf(at+".ending", "%d is not known", lb.GetEnding())
	}
	if err := validateTime(at+".create_time", lb.GetCreateTime()); err != nil {
		return err
	}
	if err := validateDesiredAddresses(at, lb); err != nil {
		return err
	}
	if err := atMost(at+".ports", len(lb.GetPorts()), maxPorts); err != nil {
		return err
	}
	if err := validatePorts(at+".ports", lb.GetPorts()); err != nil {
		return err
	}
	if err := validateEligible(at+".eligible_instances", lb.GetEligibleInstances()); err != nil {
		return err
	}
	published := at + ".published_addresses"
	if err := atMost(published, len(lb.GetPublishedAddresses()), maxPublished); err != nil {
		return err
	}
	if err := validateAddresses(published, lb.GetPublishedAddresses()); err != nil {
		return err
	}
	return validateText(at+".preserve_reason", lb.GetPreserveReason(), maxDescription)
}

func validateDesiredAddresses(at string, lb *backendv1.DesiredLoadBalancer) error {
	at += ".addresses"
	if len(lb.GetAddresses()) == 0 && lb.GetPreserveReason() == "" {
		return invalidf(at, "needs at least one address")
	}
	count := make(map[backendv1.IpFamily]int)
	first := make(map[backendv1.IpFamily]*backendv1.DesiredAddress)
	for i, address := range lb.GetAddresses() {
		field := fmt.Sprintf("%s[%d]", at, i)
		if _, known := families[address.GetFamily()]; !known {
			return invalidf(field+".family", "is required")
		}
		if address.GetSource() == nil {
			return invalidf(field+".source", "is required")
		}
		if count[address.GetFamily()]++; count[address.GetFamily()] > maxPerFamily {
			return invalidf(field, "is one of more than %d addresses of its IP family", maxPerFamily)
		}
		if first[address.GetFamily()] == nil {
			first[address.GetFamily()] = address
		}
		if err := validateAlike(field, address, first[address.GetFamily()], lb.GetEnding()); err != nil {
			return err
		}
	}
	return nil
}

// validateAlike refuses an address that differs from the first one of its IP family in what all of them
// have in common.
func validateAlike(
	field string, address, first *backendv1.DesiredAddress, ending backendv1.Ending,
) error {
	_, isSubnet := address.GetSource().(*backendv1.DesiredAddress_ExternalSubnet)
	_, isFirstSubnet := first.GetSource().(*backendv1.DesiredAddress_ExternalSubnet)
	switch {
	case ending != backendv1.Ending_ENDING_UNSPECIFIED:
		return nil // it names whatever there may be
	case isSubnet != isFirstSubnet:
		return invalidf(field+".source", "is of another kind than that of an address of its IP family")
	case address.GetOptional() != first.GetOptional():
		return invalidf(field+".optional", "differs from that of an address of its IP family")
	}
	return nil
}

func validateEligible(at string, eligible *backendv1.EligibleInstances) error {
	if err := atMost(at+".instances", len(eligible.GetInstances()), maxCandidates); err != nil {
		return err
	}
	seen := make(map[string]bool, len(eligible.GetInstances()))
	for i, instance := range eligible.GetInstances() {
		field := fmt.Sprintf("%s.instances[%d]", at, i)
		id := instance.GetInstanceId()
		if err := validateID(field+".instance_id", id); err != nil {
			return err
		}
		if seen[id] {
			return invalidf(field+".instance_id", "%s is given twice", id)
		}
		seen[id] = true
		if _, known := servings[instance.GetState()]; !known {
			return invalidf(field+".state", "%d is not known", instance.GetState())
		}
	}
	return validateText(at+".description", eligible.GetDescription(), maxDescription)
}

// sourceProblem returns what is wrong with where an address is to come from: a name that cannot be
// one in Oxide. Clients pass on what users wrote, and do not know.
func sourceProblem(at string, address *backendv1.DesiredAddress) error {
	if subnet := address.GetExternalSubnet(); subnet != nil {
		return validateExternalSubnet(at+".external_subnet", subnet)
	}
	return validateFloatingIP(
		at+".floating_ip", address.GetFloatingIp(), families[address.GetFamily()].Bits())
}

// portProblem returns what is wrong with a port that is well-formed: Oxide does not carry it.
func portProblem(at string, port *backendv1.Port) error {
	if port.GetProtocol() == backendv1.Protocol_PROTOCOL_SCTP {
		return invalidf(at+".protocol", "is SCTP, which Oxide does not carry: use TCP or UDP")
	}
	return nil
}

func validatePlan(req *backendv1.PlanLoadBalancersRequest) error {
	switch input := req.GetInput().(type) {
	case *backendv1.PlanLoadBalancersRequest_Scope:
		if err := validateToken("scope", input.Scope); err != nil {
			return err
		}
	case *backendv1.PlanLoadBalancersRequest_Set:
		if err := validateLoadBalancerSet("set", input.Set); err != nil {
			return err
		}
	default:
		return invalidf("input", "is required: a scope or a set")
	}
	for field, ids := range map[string][]string{
		"without_instance_ids": req.GetWithoutInstanceIds(),
		"cordon_instance_ids":  req.GetCordonInstanceIds(),
	} {
		if err := atMost(field, len(ids), maxWhatIf); err != nil {
			return err
		}
		for i, id := range ids {
			if err := validateID(fmt.Sprintf("%s[%d]", field, i), id); err != nil {
				return err
			}
		}
	}
	if err := atMost("explain_names", len(req.GetExplainNames()), maxExplained); err != nil {
		return err
	}
	for i, name := range req.GetExplainNames() {
		if err := validateKeyName(fmt.Sprintf("explain_names[%d]", i), name); err != nil {
			return err
		}
	}
	return nil
}

func validateLoadBalancerSet(at string, set *backendv1.LoadBalancerSet) error {
	if err := validateOpen(at+".open", set.GetOpen()); err != nil {
		return err
	}
	if err := atMost(at+".candidates", len(set.GetCandidates()), maxCandidates); err != nil {
		return err
	}
	seen := make(map[string]bool, len(set.GetCandidates()))
	for i, candidate := range set.GetCandidates() {
		field := fmt.Sprintf("%s.candidates[%d]", at, i)
		if err := validateCandidate(field, candidate); err != nil {
			return err
		}
		if seen[candidate.GetInstanceId()] {
			return invalidf(field+".instance_id", "%s is given twice", candidate.GetInstanceId())
		}
		seen[candidate.GetInstanceId()] = true
	}
	if err := validateReservedPorts(at+".reserved_ports", set.GetReservedPorts()); err != nil {
		return err
	}
	balancers := at + ".load_balancers"
	if err := atMost(balancers, len(set.GetLoadBalancers()), maxPlannedBalancer); err != nil {
		return err
	}
	named := make(map[string]bool, len(set.GetLoadBalancers()))
	for i, lb := range set.GetLoadBalancers() {
		field := fmt.Sprintf("%s[%d]", balancers, i)
		if err := validateLoadBalancer(field, set.GetOpen().GetScope(), lb); err != nil {
			return err
		}
		name := lb.GetKey().GetName()
		if named[name] {
			return invalidf(field+".key", "%s is given twice", quote(name))
		}
		named[name] = true
	}
	return nil
}
