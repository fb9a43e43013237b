// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Who is gone at a call, or what becomes of the call.
const (
	backend = "backend" // the backend is killed
	shim    = "shim"    // the shim is killed
	both    = "both"    // both are killed
	drop    = "drop"    // the connection breaks
	leaders = "leaders" // a second pair of programs acts from then on, and the first goes on
)

// When that happens.
const (
	before = "before" // the rack does not get the request; of leaders and shim, it gets it then
	after  = "after"  // the rack has done it, and the answer is not there yet
	late   = "late"   // the rack does it when the next backend has listed the addresses
)

// callOf is one request of an operation.
type callOf struct {
	operation string
	nth       int
	changes   bool
}

// point is one cell of the matrix.
type point struct {
	operation *operation
	call      callOf
	when, who string
}

func (p point) String() string {
	return fmt.Sprintf("%s/%s-%d/%s/%s", p.operation.name, p.call.operation, p.call.nth, p.when, p.who)
}

// callsOf returns the calls of a dry run at which something may happen: each that changes something, and
// of reads, of which there are as many as time allows, the first of each operation.
func callsOf(operations []string, changes func(string) bool) (all []callOf) {
	counts := make(map[string]int)
	for _, each := range operations {
		counts[each]++
		if changes(each) || counts[each] == 1 {
			all = append(all, callOf{each, counts[each], changes(each)})
		}
	}
	slices.SortFunc(all, func(a, b callOf) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.nth, b.nth))
	})
	return all
}

// pointsOf returns everything that may happen at the calls of an operation. Before and after a read
// the same is on the rack, and the backend knows the same, so it is met once.
func pointsOf(o *operation, calls []callOf) (all []point) {
	for _, call := range calls {
		for _, who := range []string{backend, shim, both, drop} {
			all = append(all, point{o, call, before, who})
		}
		if !call.changes {
			continue
		}
		for _, who := range []string{backend, shim, both, drop, leaders} {
			all = append(all, point{o, call, after, who})
		}
		all = append(all, point{o, call, before, leaders})
		all = append(all, point{o, call, late, backend}, point{o, call, late, both})
	}
	return all
}

// sampleSeed chooses the points of the sample: the same ones in every run.
const sampleSeed = 20261128

// sample returns some points at requests that change something, always the same of the same ones.
func sample(all []point, size int) []point {
	rank := func(p point) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(strconv.Itoa(sampleSeed) + p.String()))
		return h.Sum64()
	}
	all = slices.DeleteFunc(slices.Clone(all), func(p point) bool { return !p.call.changes })
	slices.SortFunc(all, func(a, b point) int { return cmp.Compare(rank(a), rank(b)) })
	return all[:min(size, len(all))]
}

// selection is which points are run.
type selection struct {
	// names are points, or the beginnings of some; none: those of the sample, or all.
	names []string
	all   bool
}

// samplePoints is how many points of each operation are in the sample.
const samplePoints = 2

func selected() selection {
	names := strings.FieldsFunc(os.Getenv("CRASH_POINT"), func(r rune) bool { return r == ',' })
	return selection{names, os.Getenv("CRASH_ALL") != ""}
}

// concerns reports whether points of an operation are among them.
func (s selection) concerns(o *operation) bool {
	return len(s.names) == 0 || slices.ContainsFunc(s.names, func(name string) bool {
		operation, _, _ := strings.Cut(name, "/")
		return operation == o.name
	})
}

// of returns the selected points of those of one operation.
func (s selection) of(points []point) []point {
	switch {
	case len(s.names) > 0:
		return slices.DeleteFunc(slices.Clone(points), func(p point) bool {
			return !slices.ContainsFunc(s.names, func(name string) bool {
				return name == p.operation.name || strings.Contains(name, "/") && strings.HasPrefix(p.String(), name)
			})
		})
	case s.all:
		return points
	}
	return sample(points, samplePoints)
}
