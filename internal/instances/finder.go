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
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// API is what this package needs of Oxide.
type API interface {
	Identity(ctx context.Context) (oxide.Identity, error)
	ReadIdentity(ctx context.Context) (oxide.Identity, error)
	ProjectReadable(ctx context.Context, id string) error
	InstanceByID(ctx context.Context, id string) (oxide.Instance, error)
	InstanceByName(ctx context.Context, name string) (oxide.Instance, error)
	Instances(ctx context.Context) ([]oxide.Instance, error)
	NetworkInterfaces(ctx context.Context, instanceID string) ([]oxide.NetworkInterface, error)
	ExternalIPs(ctx context.Context, instanceID string) ([]oxide.ExternalIP, error)
}

// concurrentReads bounds the requests that one call has in flight.
const concurrentReads = 8

// ErrNotFound means that the instance does not exist, and that the project was readable right after
// Oxide said so.
var ErrNotFound = errors.New("does not exist")

// AmbiguousError means that several instances have the hostname.
type AmbiguousError struct {
	Hostname string
	// Names of the instances, sorted.
	Names []string
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	names := e.Names
	more := ""
	if len(names) > 5 {
		names, more = names[:5], fmt.Sprintf(" and %d more", len(names)-5)
	}
	return fmt.Sprintf("%d instances have the hostname %s: %s%s; give the node a provider ID, "+
		"or the instance's name", len(e.Names), e.Hostname, strings.Join(names, ", "), more)
}

// Finder looks up instances. It is safe for concurrent use.
type Finder struct {
	api            API
	ofLoadBalancer func(description string) bool
}

// NewFinder returns a Finder. The function tells by a floating IP's description whether it is the
// address of a load balancer, which is no address of the instance that carries it for now.
func NewFinder(api API, ofLoadBalancer func(description string) bool) *Finder {
	return &Finder{api: api, ofLoadBalancer: ofLoadBalancer}
}

// ByID reads an instance of the project. Errors: ErrNotFound.
func (f *Finder) ByID(ctx context.Context, id string) (Instance, error) {
	identity, err := f.api.Identity(ctx)
	if err != nil {
		return Instance{}, err
	}
	found, err := f.api.InstanceByID(ctx, id)
	if err != nil {
		return Instance{}, f.absence(ctx, identity, id, err)
	}
	if found.ProjectID != identity.ProjectID {
		return Instance{}, fmt.Errorf("instance %s is in another project (%s) than the one in "+
			"oxide-project: %w", id, found.ProjectID, errElsewhere)
	}
	return f.complete(ctx, identity, found)
}

// errElsewhere marks an instance that exists but not in the project.
var errElsewhere = errors.New("it cannot be managed from here")

// IsElsewhere reports whether err is about an instance that exists in another project.
func IsElsewhere(err error) bool { return errors.Is(err, errElsewhere) }

// ByName reads the instance of this name, which must be valid (oxide.ValidName). Errors: ErrNotFound.
func (f *Finder) ByName(ctx context.Context, name string) (Instance, error) {
	identity, err := f.api.Identity(ctx)
	if err != nil {
		return Instance{}, err
	}
	found, err := f.api.InstanceByName(ctx, name)
	if err != nil {
		return Instance{}, f.absence(ctx, identity, name, err)
	}
	return f.complete(ctx, identity, found)
}

// ByHostname reads the instance whose hostname this is, without regard to case. Errors: ErrNotFound,
// *AmbiguousError.
func (f *Finder) ByHostname(ctx context.Context, hostname string) (Instance, error) {
	identity, err := f.api.Identity(ctx)
	if err != nil {
		return Instance{}, err
	}
	all, err := f.api.Instances(ctx)
	if err != nil {
		return Instance{}, err
	}
	matches := slices.DeleteFunc(all, func(i oxide.Instance) bool {
		return !strings.EqualFold(i.Hostname, hostname)
	})
	switch len(matches) {
	case 0:
		// Listing the project's instances has just proven that it is readable.
		return Instance{}, fmt.Errorf("an instance with the hostname %s %w", hostname, ErrNotFound)
	case 1:
		return f.complete(ctx, identity, matches[0])
	}
	ambiguous := &AmbiguousError{Hostname: hostname}
	for _, match := range matches {
		ambiguous.Names = append(ambiguous.Names, match.Name)
	}
	slices.Sort(ambiguous.Names)
	return Instance{}, ambiguous
}

// List reads the instances whose ids follow the given one, ordered by id, at most limit of them. It
// reports whether there are more.
func (f *Finder) List(ctx context.Context, after string, limit int) ([]Instance, bool, error) {
	identity, err := f.api.Identity(ctx)
	if err != nil {
		return nil, false, err
	}
	all, err := f.api.Instances(ctx)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(all, func(a, b oxide.Instance) int { return strings.Compare(a.ID, b.ID) })
	all = slices.DeleteFunc(all, func(i oxide.Instance) bool { return i.ID <= after })
	more := len(all) > limit
	if more {
		all = all[:limit]
	}
	result := make([]Instance, len(all))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentReads)
	for i := range all {
		group.Go(func() (err error) {
			result[i], err = f.complete(groupCtx, identity, all[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	return result, more, nil
}

// PrivateAddress reads the private address at which packets arrive that are sent to a floating IP of
// the family (32 or 128 bits) on the instance. It is invalid if the instance has none.
func (f *Finder) PrivateAddress(ctx context.Context, id string, bits int) (netip.Addr, error) {
	nics, err := f.api.NetworkInterfaces(ctx, id)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, _ := PrimaryAddress(nics, bits)
	return addr, nil
}

// RunState reads what the instance does now.
func (f *Finder) RunState(ctx context.Context, id string) (string, error) {
	found, err := f.api.InstanceByID(ctx, id)
	return found.RunState, err
}

// complete reads the network facts of an instance.
func (f *Finder) complete(
	ctx context.Context, identity oxide.Identity, base oxide.Instance,
) (Instance, error) {
	found := Instance{Instance: base, SiloID: identity.SiloID}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		found.Interfaces, err = f.api.NetworkInterfaces(groupCtx, base.ID)
		return err
	})
	group.Go(func() error {
		ips, err := f.api.ExternalIPs(groupCtx, base.ID)
		found.ExternalIPs = publishable(ips, f.ofLoadBalancer)
		return err
	})
	if err := group.Wait(); err != nil {
		return Instance{}, err
	}
	sortInterfaces(found.Interfaces)
	return found, nil
}
