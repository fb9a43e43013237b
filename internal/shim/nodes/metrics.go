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

	nodesDue = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_read_only_nodes_due",
		Help: "With --read-only: how many Nodes would be initialized, tainted, removed, or kept " +
			"although they are not ready.",
		StabilityLevel: metrics.ALPHA,
	})

	following = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_instances_followed",
		Help: "1 while the leader follows the changes of instances by a stream from " +
			"oxide-backend, else 0.",
		StabilityLevel: metrics.ALPHA,
	})
)

// Metrics returns the metrics of this package.
func Metrics() []metrics.Registerable { return []metrics.Registerable{patches, nodesDue, following} }

// registerMetrics adds the metrics, once, to the registry that the framework serves at /metrics.
var registerMetrics = sync.OnceFunc(func() { legacyregistry.MustRegister(Metrics()...) })
