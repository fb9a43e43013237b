// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// legacyNamePattern is what the beginning of a name in Oxide may be.
var legacyNamePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func validateEnsure(req *backendv1.EnsureLoadBalancerRequest) error {
	if err := validateCluster(req.GetCluster()); err != nil {
		return err
	}
	return validateDesired("load_balancer", req.GetCluster(), req.GetLoadBalancer())
}

func validateReconcile(req *backendv1.ReconcileLoadBalancersRequest) error {
	err := validateSet(req.GetCluster(), req.GetLoadBalancers(), req.GetTerminating())
	if err != nil {
		return err
	}
	for i, name := range req.GetOnly().GetNames() {
		if err := validateKeyName(fmt.Sprintf("only.names[%d]", i), name); err != nil {
			return err
		}
	}
	return nil
}

// validateSet validates what the calls on a full set have in common.
func validateSet(
	cluster *backendv1.Cluster, set, terminating []*backendv1.DesiredLoadBalancer,
) error {
	if err := validateCluster(cluster); err != nil {
		return err
	}
	seen := make(map[string]bool)
	validate := func(field string, want *backendv1.DesiredLoadBalancer) error {
		if err := validateDesired(field, cluster, want); err != nil {
			return err
		}
		name := want.GetKey().GetName()
		if seen[name] {
			return invalidf(field+".key", "%q is given twice", name)
		}
		seen[name] = true
		return nil
	}
	for i, want := range set {
		if err := validate(fmt.Sprintf("load_balancers[%d]", i), want); err != nil {
			return err
		}
	}
	for i, want := range terminating {
		if err := validate(fmt.Sprintf("terminating[%d]", i), want); err != nil {
			return err
		}
	}
	return nil
}

func validateDelete(req *backendv1.DeleteLoadBalancerRequest) error {
	if err := validateKey("key", req.GetKey()); err != nil {
		return err
	}
	if req.GetOwnerUid() != "" {
		if err := validateToken("owner_uid", req.GetOwnerUid()); err != nil {
			return err
		}
	}
	if cluster := req.GetCluster(); cluster != nil {
		if err := validateCluster(cluster); err != nil {
			return err
		}
		if cluster.GetScope() != req.GetKey().GetScope() {
			return invalidf("cluster.scope", "%q is not that of the key", cluster.GetScope())
		}
	}
	if err := validateAllWanted("addresses", req.GetAddresses()); err != nil {
		return err
	}
	return validateAddresses("published_addresses", req.GetPublishedAddresses())
}

func validateAdopt(req *backendv1.AdoptAddressRequest) error {
	if err := validateResource(req.GetSource(), req.GetResource()); err != nil {
		return err
	}
	if err := validateKey("key", req.GetKey()); err != nil {
		return err
	}
	return validateToken("owner_uid", req.GetOwnerUid())
}

func validateResource(source backendv1.AddressSource, nameOrID string) error {
	switch source {
	case backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:
	case backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET:
		return &unofferedError{"addresses from external subnets"}
	default:
		return invalidf("source", "is required")
	}
	return validateNameOrID("resource", nameOrID)
}

func validateNameOrID(field, s string) error {
	if !oxide.ValidName(s) && !oxide.ValidID(s) {
		return invalidf(field, "%q is neither a name nor an id", s)
	}
	return nil
}

func validateAddresses(field string, texts []string) error {
	for i, text := range texts {
		if addr, err := netip.ParseAddr(text); err != nil || addr.Zone() != "" {
			return invalidf(fmt.Sprintf("%s[%d]", field, i), "%q is not an IP address", text)
		}
	}
	return nil
}

func validateCluster(cluster *backendv1.Cluster) error {
	if cluster == nil {
		return invalidf("cluster", "is required")
	}
	if err := validateToken("cluster.scope", cluster.GetScope()); err != nil {
		return err
	}
	for i, scope := range cluster.GetAdoptedScopes() {
		if err := validateToken(fmt.Sprintf("cluster.adopted_scopes[%d]", i), scope); err != nil {
			return err
		}
	}
	if cluster.GetLegacyName() != "" && !legacyNamePattern.MatchString(cluster.GetLegacyName()) {
		return invalidf("cluster.legacy_name", "%q cannot begin the name of a floating IP",
			cluster.GetLegacyName())
	}
	if err := validateReserved(cluster.GetReservedPorts()); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for i, candidate := range cluster.GetCandidates() {
		field := fmt.Sprintf("cluster.candidates[%d]", i)
		id := candidate.GetInstanceId()
		if err := validateID(field+".instance_id", id); err != nil {
			return err
		}
		if seen[id] {
			return invalidf(field+".instance_id", "%s is given twice", id)
		}
		if _, ok := toHealth[candidate.GetHealth()]; !ok {
			return invalidf(field+".health", "is required")
		}
		seen[id] = true
		for n, used := range candidate.GetUsedPorts() {
			err := validatePort(fmt.Sprintf("%s.used_ports[%d]", field, n), used.GetProtocol(),
				used.GetPort())
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func validateReserved(ranges []*backendv1.ReservedPorts) error {
	for i, r := range ranges {
		field := fmt.Sprintf("cluster.reserved_ports[%d]", i)
		if _, known := backendv1.Protocol_name[int32(r.GetProtocol())]; !known {
			return invalidf(field+".protocol", "%d is not known", r.GetProtocol())
		}
		first, last := r.GetFirstPort(), r.GetLastPort()
		if first < 1 || first > maxPort {
			return invalidf(field+".first_port", "%d is not from 1 to %d", first, maxPort)
		}
		if last != 0 && (last < first || last > maxPort) {
			return invalidf(field+".last_port", "%d is not from %d to %d", last, first, maxPort)
		}
	}
	return nil
}

func validateDesired(
	at string, cluster *backendv1.Cluster, want *backendv1.DesiredLoadBalancer,
) error {
	if err := validateKey(at+".key", want.GetKey()); err != nil {
		return err
	}
	if want.GetKey().GetScope() != cluster.GetScope() {
		return invalidf(at+".key.scope", "%q is not the cluster's scope %q",
			want.GetKey().GetScope(), cluster.GetScope())
	}
	if err := validateToken(at+".owner_uid", want.GetOwnerUid()); err != nil {
		return err
	}
	if len(want.GetAddresses()) == 0 {
		return invalidf(at+".addresses", "needs at least one address")
	}
	if err := validateAllWanted(at+".addresses", want.GetAddresses()); err != nil {
		return err
	}
	for i, id := range want.GetEligibleInstances().GetInstanceIds() {
		field := fmt.Sprintf("%s.eligible_instances.instance_ids[%d]", at, i)
		if err := validateID(field, id); err != nil {
			return err
		}
	}
	err := validateAddresses(at+".published_addresses", want.GetPublishedAddresses())
	if err != nil {
		return err
	}
	return validatePorts(at+".ports", want.GetPorts())
}

func validateAllWanted(at string, addresses []*backendv1.WantedAddress) error {
	seen := make(map[backendv1.IpFamily]bool)
	for i, address := range addresses {
		field := fmt.Sprintf("%s[%d]", at, i)
		if err := validateWanted(field, address); err != nil {
			return err
		}
		if seen[address.GetFamily()] {
			return invalidf(field+".family", "is given twice")
		}
		seen[address.GetFamily()] = true
	}
	return nil
}

func validateWanted(field string, address *backendv1.WantedAddress) error {
	family, ok := toFamily[address.GetFamily()]
	if !ok {
		return invalidf(field+".family", "is required")
	}
	switch source := address.GetSource().(type) {
	case *backendv1.WantedAddress_FloatingIp:
		return validateFloatingIP(field+".floating_ip", source.FloatingIp, family.Bits())
	case *backendv1.WantedAddress_ExternalSubnet:
		return &unofferedError{"addresses from external subnets"}
	}
	return invalidf(field+".source", "is required")
}

func validateFloatingIP(field string, source *backendv1.FloatingIpSource, bits int) error {
	switch selector := source.GetSelector().(type) {
	case *backendv1.FloatingIpSource_Address:
		addr, err := netip.ParseAddr(selector.Address)
		switch {
		case err != nil || addr.Zone() != "":
			return invalidf(field+".address", "%q is not an IP address", selector.Address)
		case addr.Unmap().BitLen() != bits:
			return invalidf(field+".address", "%s is of the other IP family", selector.Address)
		}
	case *backendv1.FloatingIpSource_Pool:
		return validateNameOrID(field+".pool", selector.Pool)
	case *backendv1.FloatingIpSource_Existing:
		return validateNameOrID(field+".existing", selector.Existing)
	}
	return nil
}

func validatePorts(at string, ports []*backendv1.Port) error {
	if len(ports) == 0 {
		return invalidf(at, "needs at least one port")
	}
	for i, port := range ports {
		err := validatePort(fmt.Sprintf("%s[%d]", at, i), port.GetProtocol(), port.GetPort())
		if err != nil {
			return err
		}
	}
	return nil
}

func validatePort(field string, protocol backendv1.Protocol, number int32) error {
	if _, known := toProtocol[protocol]; !known {
		return invalidf(field+".protocol", "is required")
	}
	if number < 1 || number > maxPort {
		return invalidf(field+".port", "%d is not from 1 to %d", number, maxPort)
	}
	return nil
}
