// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
)

// registerInventory registers the metrics of the inventory, and returns the function that records
// the lag of watchers.
func registerInventory(
	registerer prometheus.Registerer, inventory *instances.Inventory,
) func(time.Duration) {
	lag := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "oxide_backend_watch_lag_seconds",
		Help: "Age of the facts when a watcher of instances had got all of them.",
		Buckets: []float64{
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300,
		},
	})
	registerer.MustRegister(lag, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oxide_backend_inventory_age_seconds",
		Help: "Age of the list of instances; infinite while there is none.",
	}, func() float64 {
		age, ok := inventory.Age()
		if !ok {
			return math.Inf(1)
		}
		return age.Seconds()
	}))
	return func(d time.Duration) { lag.Observe(d.Seconds()) }
}
