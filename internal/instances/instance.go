// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"cmp"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Instance is an instance with its network facts, in the order in which they are published.
type Instance struct {
	oxide.Instance
	SiloID string
	// ProjectName is what the project was called when it was last read.
	ProjectName string
	// Interfaces are the network interfaces: the primary one first, the others by name.
	Interfaces []oxide.NetworkInterface
	// ExternalIPs are the ephemeral addresses, and the floating ones that a user attached, IPv4
	// first, then by kind and value. Addresses of load balancers and of outbound NAT are left out.
	ExternalIPs []oxide.ExternalIP
	// ExternalIPsProvisional: not all load balancers are known yet, so a floating address among
	// ExternalIPs may turn out to be the address of one.
	ExternalIPsProvisional bool
	// EphemeralKnown: the ephemeral addresses were read, and are all among ExternalIPs.
	EphemeralKnown bool
	// AntiAffinityGroups are names, sorted; they say something only if they are known.
	AntiAffinityGroups      []string
	AntiAffinityGroupsKnown bool
	// RackID is empty if it is not known, or was not asked for.
	RackID string
}

// bare returns an instance without its network facts.
func bare(identity oxide.Identity, base oxide.Instance) Instance {
	return Instance{Instance: base, SiloID: identity.SiloID, ProjectName: identity.ProjectName}
}

// ShutDown reports whether the instance is off and stays so until somebody starts it: it is stopped,
// or it has failed and Oxide will not restart it by itself.
func (i Instance) ShutDown() bool {
	return i.RunState == oxide.RunStateStopped ||
		i.RunState == oxide.RunStateFailed && !i.AutoRestart
}

// sortInterfaces orders interfaces as they are published. Oxide lists them by name or id, the
// primary one anywhere.
func sortInterfaces(nics []oxide.NetworkInterface) {
	slices.SortFunc(nics, func(a, b oxide.NetworkInterface) int {
		if a.Primary != b.Primary {
			if a.Primary {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}

// sortExternalIPs orders external IPs as they are published. Oxide lists them in an order that may
// vary between two calls.
func sortExternalIPs(ips []oxide.ExternalIP) {
	slices.SortFunc(ips, func(a, b oxide.ExternalIP) int {
		return cmp.Or(
			cmp.Compare(a.Addr.BitLen(), b.Addr.BitLen()),
			cmp.Compare(a.Kind, b.Kind),
			a.Addr.Compare(b.Addr),
		)
	})
}
