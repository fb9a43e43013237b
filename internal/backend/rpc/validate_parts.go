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
	if _, known := resourceKinds[source]; !known {
		return invalidf("source", "is required")
	}
	return validateNameOrID("resource", nameOrID)
}

func validateNameOrID(field, s string) error {
	if !oxide.ValidName(s) && !oxide.ValidID(s) {
		return invalidf(field, "%s is neither a name nor an id", quote(s))
	}
	return nil
}

func validateAddresses(field string, texts []string) error {
	for i, text := range texts {
		if err := validateAddress(fmt.Sprintf("%s[%d]", field, i), text); err != nil {
			return err
		}
	}
	return nil
}

func validateAddress(field, text string) error {
	if addr, err := netip.ParseAddr(text); err != nil || addr.Zone() != "" {
		return invalidf(field, "%s is not an IP address", quote(text))
	}
	return nil
}

// validateOptionalAddress accepts none, too.
func validateOptionalAddress(field, text string) error {
	if text == "" {
		return nil
	}
	return validateAddress(field, text)
}

func validateFloatingIP(field string, source *backendv1.FloatingIpSource, bits int) error {
	switch selector := source.GetSelector().(type) {
	case *backendv1.FloatingIpSource_Address:
		addr, err := netip.ParseAddr(selector.Address)
		switch {
		case err != nil || addr.Zone() != "":
			return invalidf(field+".address", "%s is not an IP address", quote(selector.Address))
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

func validateExternalSubnet(field string, source *backendv1.ExternalSubnetSource) error {
	switch selector := source.GetSelector().(type) {
	case *backendv1.ExternalSubnetSource_Pool:
		return validateNameOrID(field+".pool", selector.Pool)
	case *backendv1.ExternalSubnetSource_Existing:
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
	if _, known := protocols[protocol]; !known {
		return invalidf(field+".protocol", "is required")
	}
	if number < 1 || number > maxPort {
		return invalidf(field+".port", "%d is not from 1 to %d", number, maxPort)
	}
	return nil
}
