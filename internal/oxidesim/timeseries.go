// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// This file answers the metrics query as far as it tells where instances run: a project's
// viewer learns rack and sled from the fields of the series, which no other endpoint shows.
// Of the query language it knows `get NAME`, filters that compare a field (or the timestamp)
// with a value, joined by &&, and `last N`.

const sampleEvery = 30 * time.Second

type oxqlResultJSON struct {
	Tables []oxqlTableJSON `json:"tables"`
}

type oxqlTableJSON struct {
	Name       string           `json:"name"`
	Timeseries []timeseriesJSON `json:"timeseries"`
}

type timeseriesJSON struct {
	Fields map[string]fieldJSON `json:"fields"`
	Points pointsJSON           `json:"points"`
}

type fieldJSON struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

type pointsJSON struct {
	StartTimes []string     `json:"start_times"`
	Timestamps []string     `json:"timestamps"`
	Values     []valuesJSON `json:"values"`
}

type valuesJSON struct {
	Values     valueArrayJSON `json:"values"`
	MetricType string         `json:"metric_type"`
}

type valueArrayJSON struct {
	Type   string   `json:"type"`
	Values []uint64 `json:"values"`
}

// oxqlCondition compares a field with a value, == or !=.
type oxqlCondition struct {
	field, value string
	equal        bool
}

type oxqlQuery struct {
	name       string
	conditions []oxqlCondition
	last       int
}

var (
	oxqlGet       = regexp.MustCompile(`^get\s+([a-z_]+:[a-z_]+)$`)
	oxqlLast      = regexp.MustCompile(`^last\s+([1-9][0-9]{0,3})$`)
	oxqlCompare   = regexp.MustCompile(`^([a-z_]+)\s*(==|!=)\s*"([^"]*)"$`)
	oxqlTimestamp = regexp.MustCompile(`^timestamp\s*[<>]=?\s*@\S.*$`)
)

func parseOxql(text string) (oxqlQuery, error) {
	var q oxqlQuery
	for n, part := range strings.Split(text, "|") {
		part = strings.TrimSpace(part)
		get, last := oxqlGet.FindStringSubmatch(part), oxqlLast.FindStringSubmatch(part)
		filter, isFilter := strings.CutPrefix(part, "filter ")
		switch {
		case n == 0 && get != nil:
			q.name = get[1]
		case n > 0 && last != nil:
			q.last = atoi(last[1])
		case n > 0 && isFilter:
			for cond := range strings.SplitSeq(filter, "&&") {
				cond = strings.Trim(strings.TrimSpace(cond), "()")
				m := oxqlCompare.FindStringSubmatch(cond)
				if m == nil && !oxqlTimestamp.MatchString(cond) {
					return q, invalidRequest("cannot parse the filter %q", cond)
				}
				if m != nil {
					q.conditions = append(q.conditions, oxqlCondition{m[1], m[3], m[2] == "=="})
				}
			}
		default:
			return q, invalidRequest("cannot parse the query at %q", part)
		}
	}
	return q, nil
}

func atoi(digits string) int {
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	return n
}

func (s *Simulator) timeseriesQuery(c *call) (any, error) {
	f := c.fields()
	text := f.str("query")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	q, err := parseOxql(text)
	if err != nil {
		return nil, err
	}
	kind, known := vmSeries[q.name]
	if !known {
		return nil, invalidRequest("schema for timeseries %q not found", q.name)
	}
	table := oxqlTableJSON{Name: q.name, Timeseries: []timeseriesJSON{}}
	rows := s.db.instances.in(p.id)
	slices.SortFunc(rows, func(a, b *instance) int { return strings.Compare(a.name, b.name) })
	for _, i := range rows {
		if i.vmm == nil || kind.when != nil && !kind.when(i) {
			continue
		}
		fields := kind.fields(s, i)
		if q.accepts(fields) {
			table.Timeseries = append(table.Timeseries, s.series(i, fields, q.last))
		}
	}
	return oxqlResultJSON{[]oxqlTableJSON{table}}, nil
}

func (q oxqlQuery) accepts(fields map[string]fieldJSON) bool {
	for _, cond := range q.conditions {
		if have, _ := fields[cond.field].Value.(string); (have == cond.value) != cond.equal {
			return false
		}
	}
	return true
}

// series makes up the points of a counter that grows by one at each sample since the
// instance's last change of state. The query language turns counters into differences.
func (s *Simulator) series(i *instance, fields map[string]fieldJSON, last int) timeseriesJSON {
	every := s.clock.scaled(sampleEvery)
	now := s.clock.now()
	count := 1
	if every > 0 {
		count = min(1+int(now.Sub(i.stateUpdated)/every), 100)
	}
	if last > 0 {
		count = min(count, last)
	}
	out := timeseriesJSON{Fields: fields}
	var counts []uint64
	for n := range count {
		at := now.Add(-time.Duration(count-1-n) * every)
		out.Points.StartTimes = append(out.Points.StartTimes, stamp(at.Add(-every)))
		out.Points.Timestamps = append(out.Points.Timestamps, stamp(at))
		counts = append(counts, 1)
	}
	out.Points.Values = []valuesJSON{{valueArrayJSON{"integer", counts}, "delta"}}
	return out
}

func idField(id uuid.UUID) fieldJSON    { return fieldJSON{"uuid", id.String()} }
func stringField(text string) fieldJSON { return fieldJSON{"string", text} }

type vmSeriesKind struct {
	when   func(*instance) bool
	fields func(*Simulator, *instance) map[string]fieldJSON
}

// vmSeries are the series that exist, by name.
var vmSeries = map[string]vmSeriesKind{
	"virtual_machine:check": {
		when: func(i *instance) bool { return i.vmm.sled.state == sledReachable },
		fields: func(s *Simulator, i *instance) map[string]fieldJSON {
			out := s.checkFields(i)
			out["reason"] = stringField("success")
			out["state"] = stringField(string(i.state))
			return out
		},
	},
	"virtual_machine:incomplete_check": {
		when: func(i *instance) bool { return i.vmm.sled.state != sledReachable },
		fields: func(s *Simulator, i *instance) map[string]fieldJSON {
			out := s.checkFields(i)
			out["failure_reason"] = stringField("unreachable")
			return out
		},
	},
	"virtual_machine:vcpu_usage": {
		fields: func(s *Simulator, i *instance) map[string]fieldJSON {
			p := s.db.projects.rows[i.project]
			return map[string]fieldJSON{
				"instance_id": idField(i.id), "project_id": idField(p.id),
				"silo_id": idField(p.parent), "sled_id": idField(i.vmm.sled.id),
				"sled_serial":   stringField(i.vmm.sled.serial),
				"sled_model":    stringField(i.vmm.sled.model),
				"sled_revision": {"u32", 6},
				"state":         stringField("run"),
				"vcpu_id":       {"u32", 0},
			}
		},
	},
}

func (s *Simulator) checkFields(i *instance) map[string]fieldJSON {
	return map[string]fieldJSON{
		"rack_id": idField(s.rackID), "sled_agent_id": idField(i.vmm.sled.id),
		"vmm_id": idField(i.vmm.id), "instance_id": idField(i.id),
	}
}
