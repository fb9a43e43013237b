// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package pools

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// maxAge bounds the age of the lists, and userMaxAge that of what is known of the token's user.
	maxAge     = 10 * time.Second
	userMaxAge = time.Minute
	// spacing is the least time from the beginning of one shared list to that of the next.
	spacing = 250 * time.Millisecond
	// concurrentReads bounds the requests that one call has in flight.
	concurrentReads = 8
)

// API is what this package needs of Oxide.
type API interface {
	User(ctx context.Context) (oxide.User, error)
	IPPools(ctx context.Context) ([]oxide.IPPool, error)
	SubnetPools(ctx context.Context) ([]oxide.SubnetPool, error)
	IPPoolUse(ctx context.Context, id string) (oxide.PoolUse, error)
	SubnetPoolUse(ctx context.Context, id string) (oxide.PoolUse, error)
}

// Pool is a pool that is linked to the silo.
type Pool struct {
	// Kind is that of the addresses that come from it.
	Kind     ownership.Kind
	ID, Name string
	// Bits is the length of its addresses: 32 or 128; 0 if they are of a kind that is not known yet.
	Bits               int
	Default, Multicast bool
	// Use is nil if it is not known.
	Use *oxide.PoolUse
}

// Filter says which pools are asked for: those that fit all that is set.
type Filter struct {
	// Kinds are those that are asked for; none: all.
	Kinds []ownership.Kind
	// Bits is the length of their addresses; 0: any.
	Bits int
}

// Lister lists pools. It is safe for concurrent use.
type Lister struct {
	api   API
	users coalesce.Reader[oxide.User]
	pools [2]coalesce.Reader[[]Pool]
}

// NewLister returns a Lister, which reads nothing before it is asked.
func NewLister(api API) *Lister {
	l := &Lister{api: api}
	l.users.Doing, l.users.Read = "read who the token belongs to", api.User
	ip, subnet := &l.pools[ownership.FloatingIP], &l.pools[ownership.ExternalSubnet]
	ip.Doing, ip.Read, ip.Spacing = "list the IP pools", l.readIPPools, spacing
	subnet.Doing, subnet.Read, subnet.Spacing = "list the subnet pools", l.readSubnetPools, spacing
	return l
}

func (l *Lister) readIPPools(ctx context.Context) ([]Pool, error) {
	all, err := l.api.IPPools(ctx)
	found := make([]Pool, 0, len(all))
	for _, p := range all {
		found = append(found, Pool{
			Kind: ownership.FloatingIP, ID: p.ID, Name: p.Name, Bits: p.Bits, Default: p.Default,
			Multicast: !p.Unicast,
		})
	}
	return found, err
}

func (l *Lister) readSubnetPools(ctx context.Context) ([]Pool, error) {
	all, err := l.api.SubnetPools(ctx)
	found := make([]Pool, 0, len(all))
	for _, p := range all {
		found = append(found, Pool{
			Kind: ownership.ExternalSubnet, ID: p.ID, Name: p.Name, Bits: p.Bits, Default: p.Default,
		})
	}
	return found, err
}

// List returns the pools that a filter admits and whose ids follow the given one, ordered by id, at most
// limit of them. It reports whether there are more.
func (l *Lister) List(
	ctx context.Context, filter Filter, after string, limit int,
) ([]Pool, bool, error) {
	kinds := filter.Kinds
	if len(kinds) == 0 {
		kinds = []ownership.Kind{ownership.FloatingIP, ownership.ExternalSubnet}
	}
	lists := make([][]Pool, len(kinds))
	group, listCtx := errgroup.WithContext(ctx)
	for i, kind := range kinds {
		group.Go(func() (err error) {
			lists[i], err = coalesce.Facts(l.pools[kind].Within(listCtx, maxAge))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	var found []Pool
	for _, pool := range slices.Concat(lists...) {
		if pool.ID > after && (filter.Bits == 0 || pool.Bits == filter.Bits) {
			found = append(found, pool)
		}
	}
	slices.SortFunc(found, func(a, b Pool) int { return strings.Compare(a.ID, b.ID) })
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	l.addUse(ctx, found)
	return found, more, ctx.Err()
}

// addUse adds how much of each pool is in use, as far as the token's user may know.
func (l *Lister) addUse(ctx context.Context, found []Pool) {
	user, err := coalesce.Facts(l.users.Within(ctx, userMaxAge))
	if err != nil || !user.FleetViewer {
		return
	}
	var (
		group errgroup.Group
		once  sync.Once
	)
	group.SetLimit(concurrentReads)
	for i := range found {
		group.Go(func() error {
			read := l.api.IPPoolUse
			if found[i].Kind == ownership.ExternalSubnet {
				read = l.api.SubnetPoolUse
			}
			if use, err := read(ctx, found[i].ID); err == nil {
				found[i].Use = &use
			} else {
				once.Do(func() {
					slog.WarnContext(ctx, "cannot read how much of a pool is in use", "pool", found[i].Name,
						"error", err)
				})
			}
			return nil
		})
	}
	_ = group.Wait()
}
