// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// figures are numbers by name, with the unit at its end.
type figures map[string]float64

// goals are the most that figures may be.
var goals = figures{
	"failover_dead_host_seconds":              12,
	"failover_dead_host_detection_seconds":    9,
	"failover_dead_host_20_addresses_seconds": 16,
}

// print writes a table, as `make bench` does.
func (f figures) print(w io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(w, "%-40s %10.2f", name, f[name])
		if goal, ok := goals[name]; ok {
			fmt.Fprintf(w, "   at most %6g", goal)
		}
		fmt.Fprintln(w)
	}
}

// hold keeps a figure for the table and checks its goal.
func (f figures) hold(t *testing.T, name string, took time.Duration) {
	t.Helper()
	f[name] = took.Seconds()
	if goal, ok := goals[name]; ok && f[name] > goal {
		t.Errorf("%s is %.2f, want at most %g", name, f[name], goal)
	}
}

// median is that of an odd number of times.
func median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// seconds are times for people.
func seconds(times []time.Duration) string {
	var text strings.Builder
	for _, took := range times {
		fmt.Fprintf(&text, " %.2f", took.Seconds())
	}
	return text.String() + " s"
}
