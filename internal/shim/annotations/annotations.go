// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package annotations names the annotations of a Service that the Oxide cloud controller manager
// reads. Where a value is a comma-separated list, it has at most one entry for each IP family.
package annotations

// Prefix is what all annotations of this project begin with. An annotation under it that is
// misspelt is reported by an event; others under it are somebody else's.
const Prefix = "oxide.computer/"

const (
	// AddressSource is where the address comes from: "floating-ip" (the default). The source
	// "external-subnet" is not supported yet.
	AddressSource = Prefix + "address-source"

	// FloatingIP is this very address, from whichever IP pool linked to the silo has it. It means
	// the same as spec.loadBalancerIP, and both may be given if they agree. Changing it gets the new
	// address before the old one is deleted.
	FloatingIP = Prefix + "floating-ip"

	// FloatingIPPool is the name or id of the IP pool to allocate the address from, instead of the
	// silo's default pool for the IP family.
	FloatingIPPool = Prefix + "floating-ip-pool"

	// FloatingIPVersion is "v4" or "v6": which of the families in spec.ipFamilies the address must be
	// of. Without it that is the first one, and for a Service that prefers both
	// (spec.ipFamilyPolicy PreferDualStack) the first that can be had.
	FloatingIPVersion = Prefix + "floating-ip-version"

	// ExistingFloatingIP is the name or id of a floating IP that you own, in the cluster's project:
	// it is attached and detached, and never marked, renamed or deleted. If it names the address
	// that the Service was given before, that address becomes yours.
	ExistingFloatingIP = Prefix + "existing-floating-ip"

	// RetainAddress is "true" to keep the address when the Service is deleted: it is detached and
	// marked as retained, and a Service of the same namespace and name gets it back.
	RetainAddress = Prefix + "retain-address"

	// NodeSelector is a label selector, as kubectl takes it: only nodes that match may carry the
	// address.
	NodeSelector = Prefix + "node-selector"
)

// Known returns all annotations that this release knows.
func Known() []string {
	return []string{
		AddressSource, FloatingIP, FloatingIPPool, FloatingIPVersion, ExistingFloatingIP,
		RetainAddress, NodeSelector,
	}
}
