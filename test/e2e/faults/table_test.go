// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// verdict says in a few words what came of a row.
func (f *figures) verdict() string {
	switch {
	case f.failed != nil:
		return "not measured"
	case f.skipped != nil:
		return f.skipped.Error()
	case len(f.broken) > 0:
		return "broken: " + strings.Join(f.broken, "; ")
	}
	return "holds"
}

// table returns the figures as a table in Markdown.
func table(all []*figures) string {
	cells := [][]string{{
		"fault", "lasted", "Nodes deleted", "addresses touched", "changes tried", "live", "ready",
		"recovered", "lines/min backend", "lines/min shim", "events/min",
	}}
	for _, f := range all {
		if f == nil {
			continue
		}
		if f.failed != nil || f.skipped != nil {
			cells = append(cells, []string{f.name, f.verdict(), "", "", "", "", "", "", "", "", ""})
			continue
		}
		cells = append(cells, []string{
			f.name, seconds(f.lasted), strconv.Itoa(f.nodesDeleted), strconv.Itoa(f.touched),
			strconv.Itoa(f.writes), yes(f.live), yes(f.readyAtEnd), seconds(f.recovered),
			fmt.Sprintf("%.0f", f.backendLines), fmt.Sprintf("%.0f", f.shimLines),
			fmt.Sprintf("%.0f", f.events),
		})
	}
	return progress.Table(cells)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
