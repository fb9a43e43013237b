// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"time"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// racksQuery asks for what the control plane's check of each virtual machine, every 30 s, said of
// late. A query is allowed to whoever may view the project, and shows the project's series only.
const racksQuery = "get virtual_machine:check | filter timestamp > @now() - 5m | last 1"

// InstanceRacks reads from the metrics of the project which rack each instance runs on: ids of racks
// by ids of instances. An instance that was not checked of late, as when it does not run, is not
// in it. No other endpoint tells a project's user; this one is experimental in Oxide.
func (c *Client) InstanceRacks(ctx context.Context) (map[string]string, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	op := projectCall("timeseries_query", "ask the metrics for the racks of instances")
	return read(ctx, c, op, func(ctx context.Context) (map[string]string, error) {
		result, err := c.api.ExperimentalTimeseriesQuery(ctx, api.TimeseriesQueryParams{
			Project: api.NameOrId(id.ProjectID), Body: &api.TimeseriesQuery{Query: racksQuery},
		})
		if err != nil {
			return nil, err
		}
		if result.Tables == nil {
			return nil, errNoList
		}
		return latestRacks(result.Tables), nil
	})
}

// latestRacks takes the youngest of an instance's series: it has one for each sled, state and
// virtual machine.
func latestRacks(tables []api.OxqlTable) map[string]string {
	racks := make(map[string]string)
	checked := make(map[string]time.Time)
	for _, table := range tables {
		for _, series := range table.Timeseries {
			instance, isInstance := series.Fields["instance_id"].AsUuid()
			rack, isRack := series.Fields["rack_id"].AsUuid()
			times := series.Points.Timestamps
			if !isInstance || !isRack || rack.Value == "" || len(times) == 0 {
				continue
			}
			if last := times[len(times)-1]; !last.Before(checked[instance.Value]) {
				racks[instance.Value], checked[instance.Value] = rack.Value, last
			}
		}
	}
	return racks
}
