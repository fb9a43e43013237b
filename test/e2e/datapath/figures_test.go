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

// figures are what the tests have measured, with one mode of kube-proxy.
type figures struct {
	Mode string
	// Numbers are by name, with the unit at its end.
	Numbers map[string]float64
	Moves   []moved
	// Held are the names of promises in promises that were kept.
	Held map[string]bool
}

// moved is an address that was moved off a machine that lives, and what clients saw of it.
type moved struct {
	What    string
	Seconds float64
	tally
}

func newFigures(mode string) figures {
	return figures{Mode: mode, Numbers: map[string]float64{}, Held: map[string]bool{}}
}

// goals are the most that figures may be.
var goals = map[string]float64{
	"failover_dead_host_seconds":              12,
	"failover_dead_host_detection_seconds":    9,
	"failover_dead_host_20_addresses_seconds": 16,
	"failover_stopped_seconds":                8,
	"failover_stopped_20_addresses_seconds":   12,
	"failover_silent_seconds":                 5,
	"failover_silent_20_addresses_seconds":    9,
	"move_gap_seconds":                        4,
}

// print writes all numbers, as `make bench` does.
func (f figures) print(w io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(f.Numbers)) {
		fmt.Fprintf(w, "%-45s %10.2f", name, f.Numbers[name])
		if goal, ok := goals[name]; ok {
			fmt.Fprintf(w, "   at most %6g", goal)
		}
		fmt.Fprintln(w)
	}
}

// hold keeps a figure for the table and checks its goal.
func (f figures) hold(t *testing.T, name string, took time.Duration) {
	t.Helper()
	f.Numbers[name] = took.Seconds()
	if goal, ok := goals[name]; ok && took.Seconds() > goal {
		t.Errorf("%s is %.2f, want at most %g", name, took.Seconds(), goal)
	}
}

// move keeps what clients saw of a move.
func (f *figures) move(m moved) {
	f.Moves = append(f.Moves, m)
	f.Numbers["move_gap_seconds"] = max(f.Numbers["move_gap_seconds"], m.Seconds)
}

// keeps records at the end of a test whether it has held a promise.
func (s *scene) keeps(promise string) {
	s.Cleanup(func() { s.figures.Held[promise] = !s.Failed() })
}

// rows are the numbers in the tables for people.
var rows = []struct{ name, title string }{
	{"failover_stopped_seconds", "an instance is stopped: one Service"},
	{"failover_stopped_stopping_seconds", "of which until Oxide shows it as stopped"},
	{"failover_stopped_20_addresses_median_seconds", "the same with 20 Services on it: median"},
	{"failover_stopped_20_addresses_seconds", "the same: the last of the 20"},
	{"failover_silent_seconds", "a node turns `Ready=Unknown`: one Service"},
	{"failover_silent_outage_seconds", "of which its clients are not served"},
	{"failover_silent_20_addresses_median_seconds", "the same with 20 Services on it: median"},
	{"failover_silent_20_addresses_seconds", "the same: the last of the 20"},
	{"failover_dead_host_seconds", "a host dies without a word: median of one Service each"},
	{"failover_dead_host_longest_seconds", "the same: the longest"},
	{"failover_dead_host_detection_seconds", "of which until the status names the next node, median"},
	{"failover_dead_host_20_addresses_seconds", "the same with 20 Services on it: the last of them"},
}

// printTables writes what the documentation has, in Markdown.
func printTables(w io.Writer, all []figures) {
	var held, numbers, title strings.Builder
	fmt.Fprintln(w, "\n| what moves | proxy | requests | lost before | between, s | lost between |"+
		" lost after | refused |\n|---|---|---|---|---|---|---|---|")
	for _, f := range all {
		title.WriteString(" " + f.Mode + " |")
		for _, m := range f.Moves {
			fmt.Fprintf(w, "| %s | %s | %d | %d | %.2f | %d | %d | %d |\n", m.What, f.Mode,
				m.Requests, m.Before, m.Seconds, m.Between, m.After, m.Refused)
		}
	}
	fmt.Fprintln(w, "\n| what happens, until clients are served again, s |"+title.String()+
		"\n|---|"+strings.Repeat("---|", len(all)))
	for _, row := range rows {
		printRow(&numbers, row.title, all, func(f figures) string {
			if number, found := f.Numbers[row.name]; found {
				return fmt.Sprintf("%.1f", number)
			}
			return ""
		})
	}
	fmt.Fprintln(w, numbers.String()+"\n| what is held |"+title.String()+
		"\n|---|"+strings.Repeat("---|", len(all)))
	var promises []string
	for _, f := range all {
		promises = slices.AppendSeq(promises, maps.Keys(f.Held))
	}
	slices.Sort(promises)
	for _, promise := range slices.Compact(promises) {
		printRow(&held, promise, all, func(f figures) string {
			kept, known := f.Held[promise]
			return map[bool]string{true: map[bool]string{true: "yes", false: "NO"}[kept]}[known]
		})
	}
	fmt.Fprint(w, held.String())
}

// printRow writes a row with a cell for each mode, unless none has anything in it.
func printRow(w io.Writer, title string, all []figures, cell func(figures) string) {
	cells := make([]string, len(all))
	for i, f := range all {
		cells[i] = cell(f)
	}
	if strings.Join(cells, "") != "" {
		fmt.Fprintf(w, "| %s | %s |\n", title, strings.Join(cells, " | "))
	}
}

// median is that of an odd number of times; of others it is the upper one.
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
