// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
)

// providerIDPrefix begins every provider ID of this provider.
const providerIDPrefix = Name + "://"

// canonicalUUIDLength is the length of a UUID in hyphenated form. The library accepts other forms
// as well, which Oxide never writes.
const canonicalUUIDLength = 36

// errMalformed is in the error of every provider ID that is malformed.
var errMalformed = errors.New("is malformed")

// maxQuoted bounds how much of a provider ID an error quotes, in bytes.
const maxQuoted = 100

// providerID returns the provider ID of an instance.
func providerID(instanceID string) string { return providerIDPrefix + instanceID }

// idKind is what a node's provider ID is.
type idKind int

const (
	// idAbsent: the node has none yet.
	idAbsent idKind = iota

	// idForeign: another provider manages the node.
	idForeign

	// idOxide: the instance's id is known.
	idOxide
)

// parseProviderID takes a provider ID apart. The id that it returns is a UUID in lower-case
// hyphenated form, set for idOxide only. What begins like one of ours and is none is an error: it
// says nothing about any instance.
func parseProviderID(s string) (string, idKind, error) {
	if s == "" {
		return "", idAbsent, nil
	}
	id, ours := strings.CutPrefix(s, providerIDPrefix)
	if !ours {
		return "", idForeign, nil
	}
	if len(id) != canonicalUUIDLength || uuid.Validate(id) != nil {
		return "", idOxide, fmt.Errorf("the provider ID %q %w: %s must be followed by the UUID of an "+
			"instance", client.Text(s, maxQuoted), errMalformed, providerIDPrefix)
	}
	return strings.ToLower(id), idOxide, nil
}

// InstanceID returns the id of the instance that a node names by its provider ID, and whether it
// names one of Oxide.
func InstanceID(node *v1.Node) (string, bool) {
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	return id, err == nil && kind == idOxide
}

// WhyNoInstance says why a node names no instance of Oxide, for people; empty: it names one.
func WhyNoInstance(node *v1.Node) string {
	switch _, kind, err := parseProviderID(node.Spec.ProviderID); {
	case err != nil:
		return "has a malformed provider ID"
	case kind == idForeign:
		return "is of another cloud provider"
	case kind == idAbsent:
		return "has no provider ID"
	}
	return ""
}
