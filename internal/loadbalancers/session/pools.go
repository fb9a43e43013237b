// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// pool returns what was read of the pool of a desired address; false: nothing yet.
func (l *loop) pool(now time.Time, want plan.Desired) (answer[plan.Pool], bool) {
	key := plan.PoolKey(want.Source, want.Family)
	return l.m.pools.get(l.m.ctx, key, now, l.m.poolReader(want), l.m.wake)
}

// readPool returns the pool of a desired address, as it was read lately or is read now.
func (m *Manager) readPool(ctx context.Context, want plan.Desired) (plan.Pool, error) {
	return m.pools.wait(ctx, plan.PoolKey(want.Source, want.Family), m.poolReader(want))
}

// poolReader returns a function that reads the pool of a desired address: the one that it names, or the
// silo's default pool of its kind and family.
func (m *Manager) poolReader(want plan.Desired) func(context.Context, string) (plan.Pool, error) {
	return func(ctx context.Context, _ string) (plan.Pool, error) {
		if want.Source.Pool != "" {
			pool, err := m.namedPool(ctx, want.Source)
			return pool.Pool, err
		}
		pools, err := m.siloPools(ctx, want.Source.Kind)
		if err != nil {
			return plan.Pool{}, err
		}
		return defaultPool(pools, want.Family)
	}
}

func (m *Manager) namedPool(ctx context.Context, source ownership.Source) (siloPool, error) {
	if source.Kind == ownership.ExternalSubnet {
		pool, err := m.api.SubnetPool(ctx, source.Pool)
		return fromSubnetPool(pool), err
	}
	pool, err := m.api.IPPool(ctx, source.Pool)
	return fromIPPool(pool), err
}

// siloPools returns the pools of a kind that are linked to the silo.
func (m *Manager) siloPools(ctx context.Context, kind ownership.Kind) ([]siloPool, error) {
	if kind == ownership.ExternalSubnet {
		pools, err := m.api.SubnetPools(ctx)
		return convertAll(pools, fromSubnetPool), err
	}
	pools, err := m.api.IPPools(ctx)
	return convertAll(pools, fromIPPool), err
}

// siloPool is a pool as the silo has it.
type siloPool struct {
	plan.Pool
	name      string
	isDefault bool
}

func fromIPPool(pool oxide.IPPool) siloPool {
	return siloPool{
		plan.Pool{ID: pool.ID, Family: familyOf(pool.Bits), Unicast: pool.Unicast}, pool.Name, pool.Default,
	}
}

func fromSubnetPool(pool oxide.SubnetPool) siloPool {
	return siloPool{
		plan.Pool{ID: pool.ID, Family: familyOf(pool.Bits), Unicast: true}, pool.Name, pool.Default,
	}
}

func convertAll[T any](all []T, convert func(T) siloPool) []siloPool {
	converted := make([]siloPool, 0, len(all))
	for _, one := range all {
		converted = append(converted, convert(one))
	}
	return converted
}

// familyOf returns the family of addresses of a length; empty for one that is not known yet.
func familyOf(bits int) ownership.Family {
	for _, family := range []ownership.Family{ownership.IPv4, ownership.IPv6} {
		if bits == family.Bits() {
			return family
		}
	}
	return ""
}

// defaultPool returns the default one of a family.
func defaultPool(pools []siloPool, family ownership.Family) (plan.Pool, error) {
	var others []string
	for _, pool := range pools {
		switch {
		case !pool.Unicast || pool.Family != family:
		case pool.isDefault:
			return pool.Pool, nil
		default:
			others = append(others, pool.name)
		}
	}
	slices.Sort(others)
	return plan.Pool{}, &noDefaultPoolError{others}
}

// noDefaultPoolError says that the silo has no default pool of a family, and which others it has.
type noDefaultPoolError struct{ others []string }

func (*noDefaultPoolError) Error() string { return "the silo has no default pool of the IP family" }

// Unwrap makes it an error of Oxide's.
func (e *noDefaultPoolError) Unwrap() error {
	return &oxide.Error{
		Operation: "find the silo's default pool", Kind: oxide.KindNotFound, Detail: "there is none",
	}
}

func toPool(pool plan.Pool, err error) plan.Pool {
	var none *noDefaultPoolError
	switch {
	case errors.As(err, &none):
		return plan.Pool{Missing: true, Others: none.others}
	case oxide.IsKind(err, oxide.KindNotFound):
		return plan.Pool{Missing: true}
	case err != nil:
		return plan.Pool{Unreadable: err.Error()}
	}
	return pool
}
