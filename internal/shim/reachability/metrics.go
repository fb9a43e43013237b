// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	probesTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "oxide_ccm_node_probes_total",
		Help: "How many probes of nodes ended, by result: answered (the host lives), silent (it sent " +
			"nothing) or inconclusive (the probe could not be sent).",
		StabilityLevel: metrics.ALPHA,
	}, []string{"result"})

	watchableNodes = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_nodes_watchable",
		Help: "How many of the probed nodes have answered since this process began to lead. The " +
			"silence of the others is never counted as their failure.",
		StabilityLevel: metrics.ALPHA,
	})

	unreachableNodes = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_nodes_unreachable",
		Help: "How many nodes answer no probe any more while their Lease is overdue, those in doubt " +
			"among them.",
		StabilityLevel: metrics.ALPHA,
	})

	suppressed = metrics.NewCounter(&metrics.CounterOpts{
		Name: "oxide_ccm_node_unreachable_suppressed_total",
		Help: "How often nothing followed from an unreachable node because most of the others did not " +
			"answer either, or there was no other.",
		StabilityLevel: metrics.ALPHA,
	})
)

// Metrics returns the metrics of this package.
func Metrics() []metrics.Registerable {
	return []metrics.Registerable{probesTotal, watchableNodes, unreachableNodes, suppressed}
}

// registerMetrics adds the metrics, once, to the registry that the framework serves at /metrics.
var registerMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(Metrics()...)
	for _, answer := range []Answer{Answered, Silent, Inconclusive} {
		probesTotal.WithLabelValues(answer.String())
	}
})

func countProbe(answer Answer) { probesTotal.WithLabelValues(answer.String()).Inc() }
