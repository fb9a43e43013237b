// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"errors"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// owners know whose addresses are, by id, as far as their descriptions do not say it.
type owners struct {
	// orphans are those of the scopes that have a session in the backend that is asked, users the load
	// balancers that an address is attached for although it is not theirs.
	orphans map[string]bool
	users   map[string]*backendv1.LoadBalancerKey
}

// newOwners finds out whose addresses are by what sessions say of their load balancers, and of orphans.
func newOwners(loadBalancers, orphans []*backendv1.LoadBalancer) *owners {
	o := &owners{orphans: make(map[string]bool), users: make(map[string]*backendv1.LoadBalancerKey)}
	for _, lb := range orphans {
		for _, address := range lb.GetAddresses() {
			o.orphans[address.GetResourceId()] = true
		}
	}
	for _, lb := range loadBalancers {
		for _, address := range lb.GetAddresses() {
			if !address.GetManaged() {
				o.users[address.GetResourceId()] = lb.GetKey()
			}
		}
	}
	return o
}

// readOwners asks for the load balancers of all scopes, and for the orphans of those that have a
// session.
func readOwners(ctx context.Context, c *connection, acting []string) (*owners, error) {
	loadBalancers, err := listLoadBalancers(ctx, c, "")
	if err != nil {
		return nil, err
	}
	var orphans []*backendv1.LoadBalancer
	for _, scope := range acting {
		found, err := listOrphans(ctx, c, scope)
		if errors.As(err, new(elsewhereError)) {
			continue // it has ended since, or knows too little yet
		}
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, found...)
	}
	return newOwners(loadBalancers, orphans), nil
}

// The groups of addresses by whose they are.
const (
	ofLoadBalancers = "of load balancers"
	ofOrphans       = "orphaned"
	ofRetained      = "retained"
	ofReservations  = "reserved"
	ofOthers        = "foreign"
)

// group returns in which group an address is.
func (o *owners) group(address *backendv1.Address) string {
	switch address.GetOwnership() {
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER:
		switch {
		case address.GetMarker().GetRetained():
			return ofRetained
		case o.orphans[address.GetResourceId()]:
			return ofOrphans
		}
		return ofLoadBalancers
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED:
		return ofReservations
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_UNSPECIFIED,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_EDITED_MARKER,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_PREDECESSOR:
	}
	return ofOthers
}

// whose says whose an address is.
func (o *owners) whose(address *backendv1.Address, n *names) string {
	marker := n.loadBalancer(address.GetMarker().GetKey())
	user := ""
	if key := o.users[address.GetResourceId()]; key != nil {
		user = ", used by " + n.loadBalancer(key)
	}
	switch o.group(address) {
	case ofOrphans:
		return "orphan of " + marker
	case ofRetained:
		return "retained for " + marker
	case ofLoadBalancers:
		return "load balancer " + marker
	case ofReservations:
		return "reserved" + user
	}
	switch address.GetOwnership() {
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_EDITED_MARKER:
		return "foreign: its marker was edited" + user
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_PREDECESSOR:
		return "foreign: a predecessor's" + user
	case backendv1.AddressOwnership_ADDRESS_OWNERSHIP_UNSPECIFIED,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED,
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER:
	}
	return "foreign" + user
}
