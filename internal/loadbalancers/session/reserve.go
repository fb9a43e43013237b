// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"fmt"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// ReserveRequest is an address that somebody reserves under a name.
type ReserveRequest struct {
	Name string
	// Source has no Existing.
	Source      ownership.Source
	Family      ownership.Family
	Description string
}

// Reserve returns the address of a name, and makes it if there is none. It reports whether it made it.
// Errors: ReasonDiffers if something else was asked for under this name, ReasonNotOwned if the address
// of this name was not made by Reserve, ReasonPoolNotFound, ReasonPoolExhausted, ReasonRefused,
// ReasonInvalid, ReasonReadOnly.
func (m *Manager) Reserve(ctx context.Context, req ReserveRequest) (plan.Address, bool, error) {
	list := m.addresses[req.Source.Kind]
	op := &operation{subject: req.Name, family: req.Family}
	if _, err := m.operations.lock(ctx, op); err != nil {
		return plan.Address{}, false, err
	}
	defer func() { m.operations.done(op) }()
	ip, err := list.byName(ctx, req.Name)
	switch {
	case err == nil:
		return ip, false, m.isReservation(ctx, &ip, req)
	case !oxide.IsKind(err, oxide.KindNotFound):
		return plan.Address{}, false, err
	}
	identity, err := m.api.Identity(ctx)
	if err != nil {
		return plan.Address{}, false, err
	}
	// Without a role on the project, no name in it is found.
	if err := m.api.ProjectReadable(ctx, identity.ProjectID); err != nil {
		return plan.Address{}, false, err
	}
	if m.config.ReadOnly {
		return plan.Address{}, false, errReadOnly
	}
	if err := m.checkPool(ctx, req); err != nil {
		return plan.Address{}, false, err
	}
	description, err := ownership.WithReservation(req.Description,
		ownership.NewReservation(req.Source, req.Description))
	if err != nil {
		return plan.Address{}, false, failf(ReasonInvalid, err, "%s", err)
	}
	entered, _, err := m.operations.enter(ctx, op, plan.ActionCreate, "", "")
	if err != nil {
		return plan.Address{}, false, err
	}
	op = entered
	o := m.doByCall(ctx, op, request{
		Action:      plan.Action{Type: plan.ActionCreate, Kind: req.Source.Kind, Name: req.Name, Why: byCall},
		description: description, desired: plan.Desired{Family: req.Family, Source: req.Source}, reserve: true,
	})
	m.log(ctx, o)
	if oxide.IsKind(o.err, oxide.KindAlreadyExists) {
		// Another backend was first, or an earlier try of which the answer was lost.
		if ip, err = list.byName(ctx, req.Name); err != nil {
			return plan.Address{}, false, err
		}
		return ip, false, m.isReservation(ctx, &ip, req)
	}
	if o.err != nil {
		return plan.Address{}, false, o.err
	}
	m.wake()
	made, known := list.get(o.ID)
	if !known {
		made, err = m.readAddress(ctx, req.Source.Kind, o.ID)
	}
	return made, true, err
}

// checkPool fails if a pool that is named has no such addresses: of the other family, Oxide may give a
// large network.
func (m *Manager) checkPool(ctx context.Context, req ReserveRequest) error {
	if req.Source.Pool == "" {
		return nil
	}
	of := plan.PoolOf(plan.Desired{Family: req.Family, Source: req.Source})
	pool, err := m.namedPool(ctx, req.Source)
	switch {
	case oxide.IsKind(err, oxide.KindNotFound):
		return failf(ReasonPoolNotFound, err, "%s does not exist, or is not linked to the silo", of)
	case err != nil:
		return err
	case pool.Family != req.Family:
		return failf(ReasonInvalid, nil, "%s has no IP%s addresses", of, req.Family)
	case !pool.Unicast:
		return failf(ReasonInvalid, nil, "%s is a multicast pool, which has no floating IPs", of)
	}
	return nil
}

// isReservation fails unless an address is what a request for its name has made, or would have.
func (m *Manager) isReservation(ctx context.Context, ip *plan.Address, req ReserveRequest) error {
	ip.ReadMarker()
	reserved, ok := ownership.ParseReservation(ip.Description)
	switch {
	case ip.Marked:
		return failf(ReasonNotOwned, nil, "the name %s is that of a %s of the load balancer %s in the scope "+
			"%s: choose another name", ip.Name, ip.Kind, ip.Marker.Key, ip.Marker.Key.Scope)
	case !ok || ownership.BearsMarker(ip.Description):
		return failf(ReasonNotOwned, nil, "the name %s is that of a %s which was not reserved by this call: "+
			"choose another name, or attach that one by its id", ip.Name, ip.Kind)
	}
	asked := ownership.NewReservation(req.Source, req.Description)
	var differs []string
	if ip.Family() != req.Family {
		differs = append(differs, fmt.Sprintf("the IP family (it is IP%s)", ip.Family()))
	}
	same, err := m.isSameSource(ctx, ip, reserved.Source, req.Source)
	if err != nil {
		return err
	}
	if !same {
		differs = append(differs, fmt.Sprintf("the pool or address (it was %s)", reserved.Source))
	}
	if reserved.Text != asked.Text {
		differs = append(differs, "the description")
	}
	if len(differs) > 0 {
		return failf(ReasonDiffers, nil, "the %s %s was reserved with something else: %s differs; ask for "+
			"the same again, or choose another name", ip.Kind, ip.Name, strings.Join(differs, ", "))
	}
	return nil
}

// isSameSource reports whether an address was reserved from a source, which may name the same pool in
// another way.
func (m *Manager) isSameSource(
	ctx context.Context, ip *plan.Address, reserved string, asked ownership.Source,
) (bool, error) {
	if reserved == asked.String() {
		return true, nil
	}
	byPool := ownership.Source{Kind: asked.Kind, Pool: "x"}.String()
	if asked.Pool == "" || !strings.HasPrefix(reserved, strings.TrimSuffix(byPool, "x")) {
		return false, nil
	}
	pool, err := m.namedPool(ctx, asked)
	if oxide.IsKind(err, oxide.KindNotFound) {
		return false, nil
	}
	return err == nil && pool.ID == ip.PoolID, err
}
