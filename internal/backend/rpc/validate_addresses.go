// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// maxOwnText bounds a description that a client gives, in characters: the longest line that is added
	// to it fits as well.
	maxOwnText = 380
	// maxMaxAge bounds how old an answer may be asked to be.
	maxMaxAge = 10 * time.Minute

	maxAddressNames = 100
)

func validateListAddresses(req *backendv1.ListAddressesRequest) error {
	if req.GetScope() != "" {
		if err := validateToken("scope", req.GetScope()); err != nil {
			return err
		}
	}
	if req.GetInstanceId() != "" {
		if err := validateID("instance_id", req.GetInstanceId()); err != nil {
			return err
		}
		if req.Attached != nil && !req.GetAttached() {
			return invalidf("attached", "is false, so there is no instance_id that an address could be "+
				"attached to")
		}
	}
	if err := validateNames("names", req.GetNames(), maxAddressNames); err != nil {
		return err
	}
	return validateMaxAge(req.GetMaxAge())
}

func validateNames(field string, names []string, most int) error {
	if len(names) > most {
		return invalidf(field, "has more than %d items", most)
	}
	for i, name := range names {
		if err := validateName(fmt.Sprintf("%s[%d]", field, i), name); err != nil {
			return err
		}
	}
	return nil
}

func validateName(field, name string) error {
	if !oxide.ValidName(name) {
		return invalidf(field, "%s cannot be a name in Oxide", quote(name))
	}
	return nil
}

func validateIDs(field string, ids []string, most int) error {
	if len(ids) > most {
		return invalidf(field, "has more than %d items", most)
	}
	for i, id := range ids {
		if err := validateID(fmt.Sprintf("%s[%d]", field, i), id); err != nil {
			return err
		}
	}
	return nil
}

func validateMaxAge(maxAge *durationpb.Duration) error {
	if maxAge == nil {
		return nil
	}
	if age := maxAge.AsDuration(); maxAge.CheckValid() != nil || age < 0 || age > maxMaxAge {
		return invalidf("max_age", "is not from 0 to %s", maxMaxAge)
	}
	return nil
}

func validateReserve(req *backendv1.ReserveAddressRequest) error {
	if err := validateName("name", req.GetName()); err != nil {
		return err
	}
	if ownership.IsGeneratedName(req.GetName()) {
		return invalidf("name", "%s is like the names that addresses of load balancers are given: choose "+
			"another one", quote(req.GetName()))
	}
	if _, known := resourceKinds[req.GetSource()]; !known {
		return invalidf("source", "is required")
	}
	family, known := families[req.GetFamily()]
	switch selector := req.GetSelector().(type) {
	case *backendv1.ReserveAddressRequest_Address:
		addr, err := netip.ParseAddr(selector.Address)
		switch {
		case err != nil || addr.Zone() != "":
			return invalidf("address", "%s is not an IP address", quote(selector.Address))
		case known && ownership.FamilyOf(addr.Unmap()) != family:
			return invalidf("address", "%s is of the other IP family", selector.Address)
		}
		known = known || req.GetFamily() == backendv1.IpFamily_IP_FAMILY_UNSPECIFIED
	case *backendv1.ReserveAddressRequest_Pool:
		if err := validateNameOrID("pool", selector.Pool); err != nil {
			return err
		}
	}
	if !known {
		return invalidf("family", "is required")
	}
	return validateOwnText(req.GetDescription())
}

// validateOwnText accepts a description that leaves room for the backend's own lines, and has none.
func validateOwnText(text string) error {
	if n := utf8.RuneCountInString(text); n > maxOwnText {
		return invalidf("description", "has %d characters, more than %d", n, maxOwnText)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ownership.LinePrefix) {
			return invalidf("description", "has a line that begins with %q, which is for this backend to "+
				"write", ownership.LinePrefix)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
		return invalidf("description", "has a control character other than a line feed")
	}
	return nil
}

func validateResourceID(source backendv1.AddressSource, id string) error {
	if _, known := resourceKinds[source]; !known {
		return invalidf("source", "is required")
	}
	return validateID("resource_id", id)
}

func validateAttach(req *backendv1.AttachAddressRequest) error {
	if err := validateResourceID(req.GetSource(), req.GetResourceId()); err != nil {
		return err
	}
	if err := validateID("instance_id", req.GetInstanceId()); err != nil {
		return err
	}
	if from, ok := req.GetMove().(*backendv1.AttachAddressRequest_FromInstanceId); ok {
		return validateID("from_instance_id", from.FromInstanceId)
	}
	return nil
}

func validateDetach(req *backendv1.DetachAddressRequest) error {
	if err := validateResourceID(req.GetSource(), req.GetResourceId()); err != nil {
		return err
	}
	return validateID("instance_id", req.GetInstanceId())
}
