// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// invalidError says which field of a request is wrong.
type invalidError struct{ field, description string }

func (e *invalidError) Error() string { return e.field + " " + e.description }

func invalidf(field, format string, args ...any) error {
	return &invalidError{field: field, description: fmt.Sprintf(format, args...)}
}

var (
	tokenPattern    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)
	keyNamePattern  = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,253}$`)
	hostnamePattern = regexp.MustCompile(
		`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
)

const (
	maxPort     = 65535
	maxHostname = 253
)

func validateGetInstance(req *backendv1.GetInstanceRequest) error {
	switch selector := req.GetInstance().(type) {
	case *backendv1.GetInstanceRequest_Id:
		if err := validateID("id", selector.Id); err != nil {
			return err
		}
	case *backendv1.GetInstanceRequest_Name:
		if !oxide.ValidName(selector.Name) {
			return invalidf("name", "%q cannot be the name of an instance in Oxide", selector.Name)
		}
	case *backendv1.GetInstanceRequest_Hostname:
		if len(selector.Hostname) > maxHostname || !hostnamePattern.MatchString(selector.Hostname) {
			return invalidf("hostname", "%q is not a hostname", selector.Hostname)
		}
	default:
		return invalidf("instance", "is required: an id, a name or a hostname")
	}
	if _, known := backendv1.Freshness_name[int32(req.GetFreshness())]; !known {
		return invalidf("freshness", "%d is not known", req.GetFreshness())
	}
	if _, known := backendv1.InstanceView_name[int32(req.GetView())]; !known {
		return invalidf("view", "%d is not known", req.GetView())
	}
	return validateProof(req)
}

func validateProof(req *backendv1.GetInstanceRequest) error {
	proof := req.GetAbsenceProof()
	if proof == nil {
		return nil
	}
	if req.GetId() == "" {
		return invalidf("absence_proof", "needs the instance's id: a name or a hostname may pass to "+
			"another instance")
	}
	if err := validateID("absence_proof.silo_id", proof.GetSiloId()); err != nil {
		return err
	}
	if err := validateID("absence_proof.project_id", proof.GetProjectId()); err != nil {
		return err
	}
	for i, id := range proof.GetWitnessInstanceIds() {
		field := fmt.Sprintf("absence_proof.witness_instance_ids[%d]", i)
		if err := validateID(field, id); err != nil {
			return err
		}
	}
	return nil
}

// validateID accepts an id as Oxide writes it; other spellings of a UUID would not be found equal.
func validateID(field, s string) error {
	if id, err := uuid.Parse(s); err != nil || id.String() != s {
		return invalidf(field, "%q is not a UUID in lower-case hyphenated form", s)
	}
	return nil
}

func validateKey(field string, key *backendv1.LoadBalancerKey) error {
	if key == nil {
		return invalidf(field, "is required")
	}
	if err := validateToken(field+".scope", key.GetScope()); err != nil {
		return err
	}
	if !keyNamePattern.MatchString(key.GetName()) {
		return invalidf(field+".name", "%q is not 1 to 253 characters of A-Z a-z 0-9 . _ / -",
			key.GetName())
	}
	return nil
}

func validateToken(field, s string) error {
	if !tokenPattern.MatchString(s) {
		return invalidf(field, "%q is not 1 to 63 characters of A-Z a-z 0-9 . _ -", s)
	}
	return nil
}

func validateEnsure(req *backendv1.EnsureLoadBalancerRequest) error {
	if err := validateCluster(req.GetCluster()); err != nil {
		return err
	}
	return validateDesired(req.GetCluster(), req.GetLoadBalancer())
}

func validateCluster(cluster *backendv1.Cluster) error {
	if cluster == nil {
		return invalidf("cluster", "is required")
	}
	if err := validateToken("cluster.scope", cluster.GetScope()); err != nil {
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
	}
	return nil
}

func validateDesired(cluster *backendv1.Cluster, want *backendv1.DesiredLoadBalancer) error {
	if err := validateKey("load_balancer.key", want.GetKey()); err != nil {
		return err
	}
	if want.GetKey().GetScope() != cluster.GetScope() {
		return invalidf("load_balancer.key.scope", "%q is not the cluster's scope %q",
			want.GetKey().GetScope(), cluster.GetScope())
	}
	if err := validateToken("load_balancer.owner_uid", want.GetOwnerUid()); err != nil {
		return err
	}
	if len(want.GetAddresses()) == 0 {
		return invalidf("load_balancer.addresses", "needs at least one address")
	}
	seen := make(map[backendv1.IpFamily]bool)
	for i, address := range want.GetAddresses() {
		field := fmt.Sprintf("load_balancer.addresses[%d]", i)
		if err := validateWanted(field, address); err != nil {
			return err
		}
		if seen[address.GetFamily()] {
			return invalidf(field+".family", "is given twice")
		}
		seen[address.GetFamily()] = true
	}
	for i, id := range want.GetEligibleInstances().GetInstanceIds() {
		field := fmt.Sprintf("load_balancer.eligible_instances.instance_ids[%d]", i)
		if err := validateID(field, id); err != nil {
			return err
		}
	}
	return validatePorts(want.GetPorts())
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
		if !oxide.ValidName(selector.Pool) && !oxide.ValidID(selector.Pool) {
			return invalidf(field+".pool", "%q is neither a name nor an id", selector.Pool)
		}
	case *backendv1.FloatingIpSource_Existing:
		return &unofferedError{"floating IPs that a user owns"}
	}
	return nil
}

func validatePorts(ports []*backendv1.Port) error {
	if len(ports) == 0 {
		return invalidf("load_balancer.ports", "needs at least one port")
	}
	for i, port := range ports {
		field := fmt.Sprintf("load_balancer.ports[%d]", i)
		_, known := backendv1.Protocol_name[int32(port.GetProtocol())]
		if !known || port.GetProtocol() == backendv1.Protocol_PROTOCOL_UNSPECIFIED {
			return invalidf(field+".protocol", "is required")
		}
		if port.GetPort() < 1 || port.GetPort() > maxPort {
			return invalidf(field+".port", "%d is not from 1 to %d", port.GetPort(), maxPort)
		}
	}
	return nil
}
