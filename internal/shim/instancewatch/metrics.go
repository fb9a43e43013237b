// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instancewatch

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	following = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_instances_followed",
		Help: "1 while the leader follows the changes of instances by a stream from " +
			"oxide-backend, else 0.",
		StabilityLevel: metrics.ALPHA,
	})

	registerOnce sync.Once
)

// registerMetrics adds the metrics to the registry that the framework serves at /metrics.
func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(following) })
}
