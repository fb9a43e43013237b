// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// API is what this package needs of Oxide.
type API interface {
	Identity(ctx context.Context) (oxide.Identity, error)
	ReadIdentity(ctx context.Context) (oxide.Identity, error)
	ProjectReadable(ctx context.Context, id string) error
	InstanceByID(ctx context.Context, id string) (oxide.Instance, error)
	Instances(ctx context.Context) ([]oxide.Instance, error)
	Subnets(ctx context.Context) ([]oxide.Subnet, error)
	SubnetInterfaces(
		ctx context.Context, subnetID string, isWhole func([]oxide.NetworkInterface) bool,
	) ([]oxide.NetworkInterface, error)
	NetworkInterface(ctx context.Context, id string) (oxide.NetworkInterface, error)
	FloatingIPs(ctx context.Context) ([]oxide.FloatingIP, error)
	FloatingIPByID(ctx context.Context, id string) (oxide.FloatingIP, error)
	DoubtLists()
	ExternalIPs(ctx context.Context, instanceID string) ([]oxide.ExternalIP, error)
	AntiAffinityGroups(ctx context.Context) ([]oxide.AntiAffinityGroup, error)
	AntiAffinityGroupMembers(ctx context.Context, groupID string) ([]string, error)
	InstanceRacks(ctx context.Context) (map[string]string, error)
}

// ErrNotFound means that the instance does not exist, and that the project was readable right after
// Oxide said so.
var ErrNotFound = errors.New("does not exist")

// AmbiguousError means that several instances have the hostname.
type AmbiguousError struct {
	Hostname string
	// Short: they have it only if domains are disregarded.
	Short bool
	// Names of the instances, sorted.
	Names []string
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	hostname := e.Hostname
	if e.Short {
		hostname += " without regard to domains"
	}
	return fmt.Sprintf("%d instances have the hostname %s: %s; say which by its id (of a node, the "+
		"provider ID), or by its name", len(e.Names), hostname, firstFew(e.Names))
}

// maxNamed bounds how many instances or addresses a text names.
const maxNamed = 5

// firstFew lists texts, the first ones if there are many.
func firstFew(texts []string) string {
	list := strings.Join(texts[:min(len(texts), maxNamed)], ", ")
	if more := len(texts) - maxNamed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// errElsewhere marks an instance that exists but not in the project.
var errElsewhere = errors.New("it cannot be managed from here")

// IsElsewhere reports whether err is about an instance that exists in another project.
func IsElsewhere(err error) bool { return errors.Is(err, errElsewhere) }

// Finder looks up instances, in the inventory as far as it may. It is safe for concurrent use.
type Finder struct {
	api       API
	inventory *Inventory
}

// NewFinder returns a Finder.
func NewFinder(api API, inventory *Inventory) *Finder {
	return &Finder{api: api, inventory: inventory}
}

// View says which facts about an instance are wanted.
type View int

// The views of an instance.
const (
	// Full: all of them.
	Full View = iota
	// Basic: all but interfaces, external IPs and groups, which cost further requests.
	Basic
)

// ByID returns an instance of the project, as it was a few seconds ago at most. One that was not
// listed then is read directly. Errors: ErrNotFound.
func (f *Finder) ByID(ctx context.Context, id string, view View) (Instance, error) {
	l, err := coalesce.Facts(f.inventory.listings.Within(ctx, listingMaxAge))
	if err != nil {
		return Instance{}, err
	}
	if found, ok := l.byID[id]; ok {
		return f.complete(ctx, l.identity, found, view)
	}
	return f.readByID(ctx, l.identity, id, view)
}

// ByIDNow is ByID with a list that is begun after the call, which calls at the same time share. One
// that it does not show is read directly.
func (f *Finder) ByIDNow(ctx context.Context, id string, view View) (Instance, error) {
	l, err := coalesce.Facts(f.inventory.listings.After(ctx))
	if err != nil {
		return Instance{}, err
	}
	if found, ok := l.byID[id]; ok {
		return f.complete(ctx, l.identity, found, view)
	}
	return f.readByID(ctx, l.identity, id, view)
}

// Read reads the instance directly, without its network. Errors: ErrNotFound.
func (f *Finder) Read(ctx context.Context, id string) (Instance, error) {
	identity, err := f.api.Identity(ctx)
	if err != nil {
		return Instance{}, err
	}
	return f.readByID(ctx, identity, id, Basic)
}

// readByID reads the instance directly: only that can tell that it is absent. The identity is the one
// that the caller has in mind, not whatever the credentials give access to by now: the project whose
// being readable makes absence of a 404 must be that one.
func (f *Finder) readByID(
	ctx context.Context, identity oxide.Identity, id string, view View,
) (Instance, error) {
	found, err := f.api.InstanceByID(ctx, id)
	if err != nil {
		return Instance{}, f.absence(ctx, identity, id, err)
	}
	if found.ProjectID != identity.ProjectID {
		return Instance{}, fmt.Errorf("instance %s is in another project (%s) than the one in "+
			"oxide-project: %w", id, found.ProjectID, errElsewhere)
	}
	return f.complete(ctx, identity, found, view)
}

// ByName returns the instance of this name, which must be valid (oxide.ValidName). A name may pass
// from a deleted instance to a new one at any moment, so the list is always one that was begun after
// the call; calls at the same time share it. Errors: ErrNotFound.
func (f *Finder) ByName(ctx context.Context, name string, view View) (Instance, error) {
	l, err := coalesce.Facts(f.inventory.listings.After(ctx))
	if err != nil {
		return Instance{}, err
	}
	found, ok := l.byName[name]
	if !ok {
		f.api.DoubtLists()
		// Listing the project's instances has just proven that it is readable.
		return Instance{}, fmt.Errorf("instance %s %w", name, ErrNotFound)
	}
	return f.complete(ctx, l.identity, found, view)
}

// ByHostname returns the instance whose hostname this is, without regard to case, by a list as ByName
// uses it. Errors: ErrNotFound, *AmbiguousError.
func (f *Finder) ByHostname(ctx context.Context, hostname string, view View) (Instance, error) {
	l, err := coalesce.Facts(f.inventory.listings.After(ctx))
	if err != nil {
		return Instance{}, err
	}
	matches := l.byHostname[strings.ToLower(hostname)]
	switch len(matches) {
	case 0:
		f.api.DoubtLists()
		return Instance{}, fmt.Errorf("an instance with the hostname %s %w", hostname, ErrNotFound)
	case 1:
		return f.complete(ctx, l.identity, matches[0], view)
	}
	return Instance{}, ambiguous(hostname, matchesOf(matches), false)
}

// RunState reads what the instance does now.
func (f *Finder) RunState(ctx context.Context, id string) (string, error) {
	found, err := f.api.InstanceByID(ctx, id)
	return found.RunState, err
}

// complete adds to an instance what the view has more than Basic.
func (f *Finder) complete(
	ctx context.Context, identity oxide.Identity, base oxide.Instance, view View,
) (Instance, error) {
	if view == Basic {
		return bare(identity, base), nil
	}
	n, err := f.inventory.networksOf(ctx, missingMaxAge, base.ID)
	if err != nil {
		return Instance{}, err
	}
	ephemerals, err := f.inventory.ephemeralOf(ctx, base.ID)
	if err != nil {
		return Instance{}, err
	}
	found, err := f.inventory.assemble(identity, base, n, ephemerals)
	found.EphemeralKnown = err == nil
	if err != nil {
		return Instance{}, err
	}
	f.inventory.addGroups(ctx, &found)
	return found, nil
}
