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

	maxMachineAddresses = 64
	maxClaims           = 20_000

	maxInstanceFilter = 1000
	maxGroups         = 100
	maxBatch          = 100
)

func validateGetInstance(req *backendv1.GetInstanceRequest) error {
	switch selector := req.GetInstance().(type) {
	case *backendv1.GetInstanceRequest_Id:
		if err := validateID("id", selector.Id); err != nil {
			return err
		}
	case *backendv1.GetInstanceRequest_Name:
		if !oxide.ValidName(selector.Name) {
			return invalidf("name", "%s cannot be the name of an instance in Oxide",
				quote(selector.Name))
		}
	case *backendv1.GetInstanceRequest_Hostname:
		if len(selector.Hostname) > maxHostname || !hostnamePattern.MatchString(selector.Hostname) {
			return invalidf("hostname", "%s is not a hostname", quote(selector.Hostname))
		}
	case *backendv1.GetInstanceRequest_Machine:
		if err := validateMachine(selector.Machine); err != nil {
			return err
		}
	default:
		return invalidf("instance", "is required: an id, a name, a hostname or a machine")
	}
	if _, known := backendv1.Freshness_name[int32(req.GetFreshness())]; !known {
		return invalidf("freshness", "%d is not known", req.GetFreshness())
	}
	if err := validateView(req.GetView()); err != nil {
		return err
	}
	return validateProof(req)
}

func validateView(view backendv1.InstanceView) error {
	if _, known := backendv1.InstanceView_name[int32(view)]; !known {
		return invalidf("view", "%d is not known", view)
	}
	return nil
}

func validateListInstances(req *backendv1.ListInstancesRequest) error {
	if err := validateIDs("ids", req.GetIds(), maxInstanceFilter); err != nil {
		return err
	}
	if err := validateNames("names", req.GetNames(), maxInstanceFilter); err != nil {
		return err
	}
	groups := req.GetAntiAffinityGroups()
	if err := validateNames("anti_affinity_groups", groups, maxGroups); err != nil {
		return err
	}
	if err := validateView(req.GetView()); err != nil {
		return err
	}
	return validateMaxAge(req.GetMaxAge())
}

func validateBatch(req *backendv1.BatchGetInstancesRequest) error {
	switch n := len(req.GetInstances()); {
	case n == 0:
		return invalidf("instances", "is required: at least one id or name")
	case n > maxBatch:
		return invalidf("instances", "has more than %d items", maxBatch)
	}
	for i, selector := range req.GetInstances() {
		at := fmt.Sprintf("instances[%d]", i)
		var err error
		switch is := selector.GetSelector().(type) {
		case *backendv1.InstanceSelector_Id:
			err = validateID(at+".id", is.Id)
		case *backendv1.InstanceSelector_Name:
			err = validateName(at+".name", is.Name)
		default:
			err = invalidf(at, "needs an id or a name")
		}
		if err != nil {
			return err
		}
	}
	if err := validateView(req.GetView()); err != nil {
		return err
	}
	return validateMaxAge(req.GetMaxAge())
}

func validateMachine(m *backendv1.Machine) error {
	if m.GetId() != "" {
		if err := validateID("machine.id", m.GetId()); err != nil {
			return err
		}
	}
	switch {
	case m.GetId() == "" && m.GetSystemUuid() == "" && m.GetName() == "":
		return invalidf("machine", "needs an id, a system UUID or a name")
	case len(m.GetName()) > maxHostname:
		return invalidf("machine.name", "has more than %d bytes", maxHostname)
	case len(m.GetAddresses()) > maxMachineAddresses:
		return invalidf("machine.addresses", "has more than %d items", maxMachineAddresses)
	case len(m.GetClaims()) > maxClaims:
		return invalidf("machine.claims", "has more than %d items", maxClaims)
	}
	for i, text := range m.GetAddresses() {
		if addr, err := netip.ParseAddr(text); err != nil || addr.Zone() != "" {
			return invalidf(fmt.Sprintf("machine.addresses[%d]", i), "%s is not an IP address",
				quote(text))
		}
	}
	for i, claim := range m.GetClaims() {
		if len(claim.GetClaimant()) > maxHostname {
			return invalidf(fmt.Sprintf("machine.claims[%d].claimant", i), "has more than %d bytes",
				maxHostname)
		}
	}
	return nil
}

func validateProof(req *backendv1.GetInstanceRequest) error {
	proof := req.GetAbsenceProof()
	if proof == nil {
		return nil
	}
	if req.GetId() == "" && req.GetMachine().GetId() == "" {
		return invalidf("absence_proof", "needs the instance's id: a name or a hostname may pass to "+
			"another instance")
	}
	if err := validateID("absence_proof.silo_id", proof.GetSiloId()); err != nil {
		return err
	}
	if err := validateID("absence_proof.project_id", proof.GetProjectId()); err != nil {
		return err
	}
	if len(proof.GetWitnessInstanceIds()) == 0 {
		return invalidf("absence_proof.witness_instance_ids", "is required: without another instance that is "+
			"still visible no absence can be proven")
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
	if !isID(s) {
		return invalidf(field, "%s is not a UUID in lower-case hyphenated form", quote(s))
	}
	return nil
}

func isID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// validateList returns the parts of the key after which a page begins.
func validateList(req *backendv1.ListLoadBalancersRequest) ([]string, error) {
	scope := req.GetScope()
	if scope != "" {
		if err := validateToken("scope", scope); err != nil {
			return nil, err
		}
	}
	return decodePageToken(req, func(part string) bool {
		return tokenPattern.MatchString(part) && (scope == "" || part == scope)
	}, keyNamePattern.MatchString)
}

func validateKey(field string, key *backendv1.LoadBalancerKey) error {
	if key == nil {
		return invalidf(field, "is required")
	}
	if err := validateToken(field+".scope", key.GetScope()); err != nil {
		return err
	}
	return validateKeyName(field+".name", key.GetName())
}

func validateKeyName(field, name string) error {
	if !keyNamePattern.MatchString(name) {
		return invalidf(field, "%s is not 1 to 253 characters of A-Z a-z 0-9 . _ / -", quote(name))
	}
	return nil
}

func validateToken(field, s string) error {
	if !tokenPattern.MatchString(s) {
		return invalidf(field, "%s is not 1 to 63 characters of A-Z a-z 0-9 . _ -", quote(s))
	}
	return nil
}
