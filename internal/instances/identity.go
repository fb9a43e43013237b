// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// identityMaxAge bounds the age of a list that shows no instance for a machine. Machines that are no
// instances ask again and again; all of them together cause one list in that time.
const identityMaxAge = 5 * time.Second

// Machine is what a machine reports of itself, and what its owner knows of it.
type Machine struct {
	// ID is the instance that it is known to be; empty: not known.
	ID string
	// SystemUUID is what its firmware shows; one that cannot be used is skipped.
	SystemUUID string
	// Name is the hostname by which it calls itself, short or with a domain; empty: none.
	Name string
	// Addresses are those that it reports. All must be the instance's.
	Addresses []netip.Addr
	// Claims are what other machines are.
	Claims []Claim
}

// Claim says that another machine is an instance, or reports its system UUID.
type Claim struct{ ID, Claimant string }

// Identified is the instance that a machine is.
type Identified struct {
	Instance
	By Evidence
	// Others are instances that something else points to.
	Others []Match
}

// Identify returns the instance that a machine is, by the first of its id, its system UUID and its name
// that it has. What contradicts that is an error: nothing falls back to weaker evidence. A direct lookup
// reads the instance after the call; that no instance was found may always be as old as identityMaxAge.
// Errors: ErrNotFound for an id, *IdentityError, *AmbiguousError.
func (f *Finder) Identify(
	ctx context.Context, m Machine, view View, direct bool,
) (Identified, error) {
	if m.ID != "" {
		find := f.ByID
		if direct {
			find = f.ByIDNow
		}
		found, err := find(ctx, m.ID, view)
		return f.known(ctx, m, found, view, err)
	}
	asked := time.Now()
	r, err := f.inventory.listings.Within(ctx, identityMaxAge)
	if err != nil {
		return Identified{}, err
	}
	found, err := r.Facts.identify(m)
	if err == nil && direct && r.Began.Before(asked) {
		if r, err = f.inventory.listings.After(ctx); err == nil {
			found, err = r.Facts.identify(m)
		}
	}
	if err != nil {
		f.api.DoubtLists() // it may be one that the list does not show
		l, readErr := f.inventory.withReported(ctx, r.Facts, m)
		if readErr != nil {
			return Identified{}, readErr
		}
		if l == r.Facts {
			return Identified{}, err
		}
		if found, err = l.identify(m); err != nil {
			return Identified{}, err
		}
	}
	found.Instance, err = f.complete(ctx, r.Facts.identity, found.Instance.Instance, view)
	if err != nil {
		return Identified{}, err
	}
	return found, f.checkAddresses(ctx, m, found, view)
}

// ProveMachineAbsent is ProveAbsent for the instance of a machine. It is not absent while the machine
// reports the system UUID of another instance that exists.
func (f *Finder) ProveMachineAbsent(
	ctx context.Context, m Machine, proof Proof, view View,
) (Identified, error) {
	found, err := f.ProveAbsent(ctx, m.ID, proof, view)
	return f.known(ctx, m, found, view, err)
}

// known judges what a lookup by the id of a machine found, by what else the machine reports.
func (f *Finder) known(
	ctx context.Context, m Machine, instance Instance, view View, err error,
) (Identified, error) {
	reported := idsOf(m.SystemUUID)
	if slices.Contains(reported, m.ID) {
		reported = nil
	}
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			err = f.replaced(ctx, m, reported, err)
		}
		return Identified{}, err
	}
	found := Identified{Instance: instance, By: ByID}
	if len(reported) > 0 {
		l, err := coalesce.Facts(f.inventory.listings.Within(ctx, listingMaxAge))
		if err != nil {
			return Identified{}, err
		}
		if other, ok := l.bySystemUUID(reported); ok {
			found.Others = append(found.Others, Match{other, BySystemUUID})
		}
	}
	return found, f.checkAddresses(ctx, m, found, view)
}

// replaced returns the error for a machine whose instance does not exist: that one of the reported ids
// does, if so. That is read directly, because a Node may be deleted on the answer; and an instance of
// another project counts as well.
func (f *Finder) replaced(ctx context.Context, m Machine, reported []string, absent error) error {
	for _, id := range reported {
		other, err := f.api.InstanceByID(ctx, id)
		switch {
		case err == nil:
			return &IdentityError{Replaced, fmt.Sprintf("the instance %s does not exist, but this "+
				"machine reports the system UUID of the instance %s (%s), which does", m.ID, other.Name,
				other.ID)}
		case !oxide.IsKind(err, oxide.KindNotFound):
			return err
		}
	}
	return absent
}

// checkAddresses returns an error unless all addresses that the machine reports are the instance's.
func (f *Finder) checkAddresses(ctx context.Context, m Machine, found Identified, view View) error {
	if len(m.Addresses) == 0 {
		return nil
	}
	instance := found.Instance
	if view != Full {
		var err error
		instance, err = f.complete(ctx, oxide.Identity{}, instance.Instance, Full)
		if err != nil {
			return err
		}
	}
	var has []netip.Addr
	for _, nic := range instance.Interfaces {
		has = append(has, nic.Addrs...)
	}
	for _, ip := range instance.ExternalIPs {
		has = append(has, ip.Addr)
	}
	for _, addr := range m.Addresses {
		if !slices.Contains(has, addr.Unmap()) {
			return &IdentityError{Conflict, fmt.Sprintf("this machine reports the address %s, but the "+
				"instance %s (%s), found by its %s, has %s", addr, instance.Name, instance.ID, found.By,
				addresses(has))}
		}
	}
	return nil
}

// addresses names addresses for people, the first few of many.
func addresses(all []netip.Addr) string {
	if len(all) == 0 {
		return "no address"
	}
	texts := make([]string, len(all))
	for i, addr := range all {
		texts[i] = addr.String()
	}
	return firstFew(texts)
}
