// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	patches = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "oxide_ccm_node_label_patches_total",
		Help: "How often the labels of an initialized Node were patched, by result: success, " +
			"conflict or error.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"result"})

	registerOnce sync.Once
)

// registerMetrics adds the metrics to the registry that the framework serves at /metrics.
func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(patches) })
}
