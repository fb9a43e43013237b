// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package annotations names the annotations of a Service that the Oxide cloud controller manager
// reads, and translates what they say. Where one takes a comma-separated list, its values are for
// the IP families of the Service, in the order of spec.ipFamilies; where the Service gets addresses
// of one family alone, one value is enough.
package annotations

// Prefix is what all annotations of this project begin with. An annotation under it that is
// misspelt is reported by an event; others under it are somebody else's.
const Prefix = "oxide.computer/"

const (
	// AddressSource is where addresses come from: "floating-ip" (the default) or "external-subnet".
	// One value is for all IP families; a list has one for each.
	AddressSource = Prefix + "address-source"

	// AddressesPerFamily is how many addresses of each IP family the Service gets, each on another
	// node: "1" (the default) to "8".
	AddressesPerFamily = Prefix + "addresses-per-family"

	// FloatingIP is this very address, from whichever IP pool linked to the silo has it. A list is in
	// any order, and names of an IP family as many addresses as the Service gets, or none: then they
	// are allocated. It means the same as spec.loadBalancerIP, and both may be given if they agree.
	// Changing it gets the new address before the old one is deleted.
	FloatingIP = Prefix + "floating-ip"

	// FloatingIPPool is the name or id of the IP pool to allocate floating IPs from, instead of the
	// silo's default pool for the IP family. A list has one pool for each family; an empty value is
	// for the default pool.
	FloatingIPPool = Prefix + "floating-ip-pool"

	// FloatingIPVersion is "v4" or "v6": of the families in spec.ipFamilies the Service gets addresses
	// of this one alone, whatever their source. It contradicts spec.ipFamilyPolicy RequireDualStack.
	FloatingIPVersion = Prefix + "floating-ip-version"

	// ExistingFloatingIP is the name or id of a floating IP that you own, in the cluster's project:
	// it is attached and detached, and never marked, renamed or deleted. If it names the address
	// that the Service was given before, that address becomes yours. A list has as many for each IP
	// family as the Service gets addresses of it; empty values are for a family whose addresses are
	// allocated.
	ExistingFloatingIP = Prefix + "existing-floating-ip"

	// SubnetPool is the name or id of the subnet pool to allocate external subnets from, instead of
	// the silo's default subnet pool for the IP family. A list is as that of floating-ip-pool.
	SubnetPool = Prefix + "subnet-pool"

	// ExistingExternalSubnet is the name or id of an external subnet of one address (/32 or /128) that
	// you own, in the cluster's project: it is attached and detached, and never marked, renamed or
	// deleted. A list is as that of existing-floating-ip.
	ExistingExternalSubnet = Prefix + "existing-external-subnet"

	// RetainAddress is "true" to keep the addresses when the Service is deleted, asks for fewer, or gets
	// others in their place: they are detached and marked as retained, and a Service of the same namespace
	// and name that asks for such ones gets them back.
	RetainAddress = Prefix + "retain-address"

	// NodeSelector is a label selector, as kubectl takes it: only nodes that match may carry the
	// addresses.
	NodeSelector = Prefix + "node-selector"

	// Firewall is "off" (in quotes) to keep no rule in the VPC firewall for the Service, where the
	// controller manager keeps such rules (--manage-firewall): one that it has made is removed.
	Firewall = Prefix + "firewall"
)

// Known returns all annotations that this release knows.
func Known() []string {
	return []string{
		AddressSource, AddressesPerFamily, FloatingIP, FloatingIPPool, FloatingIPVersion, ExistingFloatingIP,
		SubnetPool, ExistingExternalSubnet, RetainAddress, NodeSelector,
		Firewall,
	}
}
