// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// settings are what the environment may change.
type settings struct {
	length       time.Duration
	kills, calls int
}

func readSettings() (s settings, err error) {
	if s.length, err = time.ParseDuration(cmp.Or(os.Getenv("SOAK_LENGTH"), "10m")); err != nil {
		return s, fmt.Errorf("LENGTH: %w", err)
	}
	for name, into := range map[string]*int{"KILLS": &s.kills, "CALLS": &s.calls} {
		text := cmp.Or(os.Getenv("SOAK_"+name), map[string]string{"KILLS": "100", "CALLS": "10000"}[name])
		if *into, err = strconv.Atoi(text); err != nil || *into < 1 {
			return s, fmt.Errorf("%s is no number from 1 on: %q", name, text)
		}
	}
	return s, nil
}

// chosen are the settings of this run, and results what its tests found.
var (
	chosen  settings
	results report
)

func TestMain(m *testing.M) {
	var err error
	if chosen, err = readSettings(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	code := m.Run()
	fmt.Print(results.table())
	fmt.Printf("soak: make soak RUN='%s' LENGTH=%s KILLS=%d CALLS=%d\n",
		flag.Lookup("test.run").Value, chosen.length, chosen.kills, chosen.calls)
	os.Exit(code)
}

// figure is one line of the table.
type figure struct {
	soak, name, before, after, limit string
	holds                            bool
}

// report is all of them.
type report struct{ figures []figure }

// add adds a figure, which fails the test if it does not hold.
func (r *report) add(t *testing.T, f figure) {
	t.Helper()
	r.figures = append(r.figures, f)
	if !f.holds {
		t.Errorf("%s: %s: before %q, after %q, limit %q", f.soak, f.name, f.before, f.after, f.limit)
	}
}

// count adds a number that has to be so, or at least so.
func (r *report) count(t *testing.T, soak, name string, got, want int) {
	t.Helper()
	r.add(t, figure{soak, name, "", strconv.Itoa(got), strconv.Itoa(want), got == want})
}

// table returns the figures as a table in Markdown.
func (r *report) table() string {
	cells := [][]string{{"soak", "figure", "before", "after", "limit", "holds"}}
	for _, f := range r.figures {
		holds := "yes"
		if !f.holds {
			holds = "NO"
		}
		cells = append(cells, []string{f.soak, f.name, f.before, f.after, f.limit, holds})
	}
	return progress.Table(cells)
}
