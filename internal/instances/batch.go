// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Query says which instances are asked for: those that fit all that is set.
type Query struct {
	// IDs, Names and Groups are those that are asked for, of which one must fit; none: all. Groups are
	// names of anti-affinity groups.
	IDs, Names, Groups []string
	View               View
	// MaxAge is how old existence, run state and size may be, and groups; nil: the usual ages.
	MaxAge *time.Duration
}

// age returns how old something may be that usually is at most of an age.
func (q *Query) age(usual time.Duration) time.Duration {
	if q.MaxAge != nil {
		return *q.MaxAge
	}
	return usual
}

// List returns the instances that a query asks for and whose ids follow the given one, ordered by id, at
// most limit of them. It reports whether there are more.
func (f *Finder) List(
	ctx context.Context, query Query, after string, limit int,
) ([]Instance, bool, error) {
	l, err := coalesce.Facts(f.inventory.listings.Within(ctx, query.age(listingMaxAge)))
	if err != nil {
		return nil, false, err
	}
	admits, err := f.filter(ctx, query)
	if err != nil {
		return nil, false, err
	}
	ids := slices.Sorted(maps.Keys(l.byID))
	first, found := slices.BinarySearch(ids, after)
	if found {
		first++
	}
	ids = ids[first:]
	if admits != nil {
		ids = slices.DeleteFunc(ids, func(id string) bool { return !admits(l.byID[id]) })
	}
	more := len(ids) > limit
	if more {
		ids = ids[:limit]
	}
	result := make([]Instance, len(ids))
	err = forEach(ctx, len(ids), func(ctx context.Context, i int) (err error) {
		result[i], err = f.complete(ctx, l.identity, l.byID[ids[i]], query.View)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return result, more, nil
}

// forEach calls a function for each of n instances, a few at a time, until it fails. Mostly there is
// nothing to read: a goroutine for each of them would take most of the time.
func forEach(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(concurrentReads, n) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// filter returns a function that reports whether an instance is asked for; nil: all are. It fails where
// groups are asked for that cannot be read: an instance that is in none is not the same.
func (f *Finder) filter(ctx context.Context, query Query) (func(oxide.Instance) bool, error) {
	if len(query.IDs)+len(query.Names)+len(query.Groups) == 0 {
		return nil, nil //nolint:nilnil // there is no filter
	}
	ids, names, groups := setOf(query.IDs), setOf(query.Names), setOf(query.Groups)
	members := map[string][]string{}
	if len(groups) > 0 {
		var err error
		members, err = coalesce.Facts(f.inventory.groups.Within(ctx, query.age(groupsMaxAge)))
		if err != nil {
			return nil, err
		}
	}
	return func(i oxide.Instance) bool {
		inGroup := func(name string) bool { return groups[name] }
		return (len(ids) == 0 || ids[i.ID]) && (len(names) == 0 || names[i.Name]) &&
			(len(groups) == 0 || slices.ContainsFunc(members[i.ID], inGroup))
	}, nil
}

func setOf(texts []string) map[string]bool {
	set := make(map[string]bool, len(texts))
	for _, text := range texts {
		set[text] = true
	}
	return set
}

// Selector says which instance is meant: by its id, or else by its name.
type Selector struct{ ID, Name string }

// Selected is an instance that was asked for, or why it cannot be returned.
type Selected struct {
	Instance Instance
	Err      error
}

// Batch returns several instances, in the order in which they are asked for, as a list that is at most
// of some age shows them; nil: of the usual one. One that it does not show is read directly, or looked
// for by name in a list that begins after the call. It fails only for what concerns all of them.
func (f *Finder) Batch(
	ctx context.Context, selectors []Selector, view View, maxAge *time.Duration,
) ([]Selected, error) {
	began := time.Now()
	query := Query{MaxAge: maxAge}
	r, err := f.inventory.listings.Within(ctx, query.age(listingMaxAge))
	if err != nil {
		return nil, err
	}
	shown := r.Facts
	missing := func(s Selector) bool {
		_, known := shown.byName[s.Name]
		return s.ID == "" && !known
	}
	if r.Began.Before(began) && slices.ContainsFunc(selectors, missing) {
		if shown, err = coalesce.Facts(f.inventory.listings.After(ctx)); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(selectors, missing) {
		f.api.DoubtLists()
	}
	found := make([]Selected, len(selectors))
	_ = forEach(ctx, len(selectors), func(ctx context.Context, i int) error {
		found[i].Instance, found[i].Err = f.selected(ctx, shown, selectors[i], view)
		return nil
	})
	if ctx.Err() != nil {
		return nil, &oxide.Error{Operation: "read the instances", Kind: oxide.KindEnded, Err: ctx.Err()}
	}
	return found, nil
}

func (f *Finder) selected(
	ctx context.Context, l *listing, selector Selector, view View,
) (Instance, error) {
	if selector.ID != "" {
		if found, ok := l.byID[selector.ID]; ok {
			return f.complete(ctx, l.identity, found, view)
		}
		return f.readByID(ctx, l.identity, selector.ID, view)
	}
	if found, ok := l.byName[selector.Name]; ok {
		return f.complete(ctx, l.identity, found, view)
	}
	return Instance{}, fmt.Errorf("instance %s %w", selector.Name, ErrNotFound)
}
