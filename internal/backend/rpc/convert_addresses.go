// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func resourceMessage(ip *plan.Address) *backendv1.Address {
	message := &backendv1.Address{
		Source: sourceMessages[ip.Kind], ResourceId: ip.ID, Name: ip.Name,
		Description: ownership.OwnText(ip.Description),
		Family:      familyMessages[ip.Family()], Address: ip.Addr.String(), PrefixLength: int32(ip.Bits),
		PoolId: ip.PoolID, InstanceId: ip.InstanceID, CreateTime: fromTime(time.Unix(0, ip.Created)),
		Ownership: ownershipOf(ip),
	}
	if ip.Marked {
		message.Marker = &backendv1.AddressMarker{
			Key:      &backendv1.LoadBalancerKey{Scope: ip.Marker.Key.Scope, Name: ip.Marker.Key.Name},
			OwnerUid: ip.Marker.OwnerUID, Retained: ip.Marker.Retained,
		}
	}
	return message
}

// ownershipOf says whose an address is by its description.
func ownershipOf(ip *plan.Address) backendv1.AddressOwnership {
	_, reserved := ownership.ParseReservation(ip.Description)
	switch {
	case ip.Marked:
		return backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER
	case ownership.BearsMarker(ip.Description):
		return backendv1.AddressOwnership_ADDRESS_OWNERSHIP_EDITED_MARKER
	case ip.Description == ownership.LegacyDescription:
		return backendv1.AddressOwnership_ADDRESS_OWNERSHIP_PREDECESSOR
	case reserved:
		return backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED
	}
	return backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE
}

// The functions below convert requests that were validated.

func reservationOf(req *backendv1.ReserveAddressRequest) session.ReserveRequest {
	source := ownership.Source{Kind: resourceKinds[req.GetSource()]}
	family := families[req.GetFamily()]
	switch selector := req.GetSelector().(type) {
	case *backendv1.ReserveAddressRequest_Address:
		source.Addr = netip.MustParseAddr(selector.Address).Unmap()
		family = ownership.FamilyOf(source.Addr)
	case *backendv1.ReserveAddressRequest_Pool:
		source.Pool = nameOrID(selector.Pool)
	}
	return session.ReserveRequest{
		Name: req.GetName(), Source: source, Family: family, Description: req.GetDescription(),
	}
}

func attachmentOf(req *backendv1.AttachAddressRequest) session.AttachRequest {
	return session.AttachRequest{
		Kind: resourceKinds[req.GetSource()], ID: req.GetResourceId(), InstanceID: req.GetInstanceId(),
		From: req.GetFromInstanceId(), FromAnywhere: req.GetFromAnywhere(),
	}
}

// ageOf returns how old something may be; nil: that is not said.
func ageOf(maxAge *durationpb.Duration) *time.Duration {
	if maxAge == nil {
		return nil
	}
	age := maxAge.AsDuration()
	return &age
}
