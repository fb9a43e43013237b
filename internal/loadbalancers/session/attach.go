// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Single addresses are attached, detached and deleted by calls, without a load balancer.

// byCall is why: nobody else has a reason.
const byCall = "a call asked for it"

// AttachRequest says which address goes to which instance.
type AttachRequest struct {
	Kind       ownership.Kind
	ID         string
	InstanceID string
	// From is the only instance that the address may be moved off, unless FromAnywhere.
	From         string
	FromAnywhere bool
}

// Attached is an address as Attach leaves it.
type Attached struct {
	plan.Address
	// Previous is the instance that it was detached from.
	Previous string
}

// Attach attaches an address to an instance, if it is attached nowhere or may be moved; where it is
// attached already, Oxide confirms that. Errors: those of lockAddress; ReasonInUse, ReasonNotOperable,
// ReasonLimit, ReasonRefused, ReasonReadOnly, instances.ErrNotFound.
func (m *Manager) Attach(ctx context.Context, req AttachRequest) (Attached, error) {
	l, err := m.lockAddress(ctx, req.Kind, req.ID)
	if err != nil {
		return Attached{}, err
	}
	defer l.unlock()
	ip, from := &l.address, l.address.InstanceID
	moves := from != "" && from != req.InstanceID
	switch {
	case moves && !req.FromAnywhere && from != req.From:
		return Attached{}, failf(ReasonInUse, nil, "the %s %s is attached to instance %s: give "+
			"from_instance_id or from_anywhere to move it", ip.Kind, ip.Name, from)
	case m.config.ReadOnly && from != req.InstanceID:
		return Attached{}, errReadOnly
	case m.config.ReadOnly:
		return Attached{Address: *ip}, nil
	}
	if err := m.checkTarget(ctx, ip, req.InstanceID, moves); err != nil {
		return Attached{}, err
	}
	if !moves {
		_, err := l.request(ctx, plan.ActionAttach, req.InstanceID, "")
		return Attached{Address: *ip}, m.limitOr(ctx, err, ip, req.InstanceID)
	}
	m.requests.Add(1) // the backend does not stop in between
	defer m.requests.Done()
	if _, err := l.request(ctx, plan.ActionDetach, from, req.InstanceID); err != nil {
		return Attached{}, err
	}
	// From here on the end of the call would leave the address nowhere.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	o, err := l.request(ctx, plan.ActionAttach, req.InstanceID, "")
	switch {
	case err == nil:
		return Attached{Address: *ip, Previous: from}, nil
	case o.unknown:
		return Attached{}, fmt.Errorf("%w; the %s %s was detached from instance %s, and may be attached "+
			"nowhere: repeat the call", err, ip.Kind, ip.Name, from)
	}
	return Attached{}, fmt.Errorf("%w; the %s %s was detached from instance %s, and is attached nowhere: "+
		"repeat the call", err, ip.Kind, ip.Name, from)
}

// checkTarget fails if an instance cannot get an address: before a move, which would otherwise end
// nowhere, as far as that can be known.
func (m *Manager) checkTarget(ctx context.Context, ip *plan.Address, target string, moves bool) error {
	instance, err := m.inventory.Read(ctx, target)
	if err != nil {
		return err
	}
	switch instance.RunState {
	case oxide.RunStateRunning, oxide.RunStateRebooting, oxide.RunStateStopped:
	default:
		return failf(ReasonNotOperable, nil, "instance %s is %s, and Oxide neither attaches nor detaches "+
			"addresses until it runs or is stopped", instance.Name, instance.RunState)
	}
	if !moves {
		return nil // Oxide refuses, and nothing is lost
	}
	if m.operations.isResting(target, time.Now()) {
		return failf(ReasonNotOperable, nil, "instance %s took no change of addresses a moment ago, and is "+
			"left alone for a while", instance.Name)
	}
	endpoints, err := m.inventory.Endpoints(ctx, []string{target})
	if err != nil {
		return nil //nolint:nilerr // a move does not wait for what only makes it safer
	}
	endpoint := endpoints[target]
	if !endpoint.Addr(ip.Family().Bits()).IsValid() {
		return failf(ReasonRefused, nil, "instance %s has no private address of IP%s", instance.Name,
			ip.Family())
	}
	return m.checkRoom(ip.Kind, target, instance.Name, endpoint)
}

// checkRoom fails if an instance carries as many addresses as it can.
func (m *Manager) checkRoom(
	kind ownership.Kind, target, name string, endpoint instances.Endpoint,
) error {
	room := plan.Room(kind, plan.Instance{
		Addrs: endpoint.Addrs, Ephemeral: endpoint.Ephemeral, EphemeralKnown: true,
	})
	if m.addresses[kind].countAt(target) >= room {
		return failf(ReasonLimit, nil, "instance %s carries %d %ss already, as many as it can", name, room,
			kind)
	}
	return nil
}

// limitOr returns why Oxide refused an attachment, if that is how many addresses the instance carries:
// Oxide says so in words alone. Any other error is returned as it is.
func (m *Manager) limitOr(ctx context.Context, refused error, ip *plan.Address, target string) error {
	if !oxide.IsKind(refused, oxide.KindRefused) {
		return refused
	}
	endpoints, err := m.inventory.Endpoints(ctx, []string{target})
	endpoint, known := endpoints[target]
	if err != nil || !known {
		return refused
	}
	if full := m.checkRoom(ip.Kind, target, target, endpoint); full != nil {
		return full
	}
	return refused
}

// Detach detaches an address from an instance. It succeeds if it is attached nowhere. Errors: those of
// lockAddress; ReasonInUse if it is attached to another one, ReasonNotOperable, ReasonReadOnly.
func (m *Manager) Detach(
	ctx context.Context, kind ownership.Kind, id, instanceID string,
) (plan.Address, error) {
	l, err := m.lockAddress(ctx, kind, id)
	if err != nil {
		return plan.Address{}, err
	}
	defer l.unlock()
	ip := &l.address
	switch {
	case ip.InstanceID == "":
		return *ip, nil
	case ip.InstanceID != instanceID:
		return plan.Address{}, failf(ReasonInUse, nil, "the %s %s is attached to instance %s, and not to %s",
			ip.Kind, ip.Name, ip.InstanceID, instanceID)
	case m.config.ReadOnly:
		return plan.Address{}, errReadOnly
	}
	_, err = l.request(ctx, plan.ActionDetach, instanceID, "")
	return *ip, err
}

// Delete deletes an address that is attached nowhere. It succeeds if there is none with this id.
// Errors: those of lockAddress; ReasonInUse, ReasonReadOnly.
func (m *Manager) Delete(ctx context.Context, kind ownership.Kind, id string) error {
	l, err := m.lockAddress(ctx, kind, id)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.unlock()
	ip := &l.address
	switch {
	case ip.InstanceID != "":
		return failf(ReasonInUse, nil, "the %s %s is attached to instance %s: detach it first", ip.Kind,
			ip.Name, ip.InstanceID)
	case m.config.ReadOnly:
		return errReadOnly
	}
	_, err = l.request(ctx, plan.ActionDelete, "", "")
	return err
}
