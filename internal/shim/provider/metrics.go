// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	removalsTotal = metrics.NewCounter(&metrics.CounterOpts{
		Name: "oxide_ccm_node_removals_total",
		Help: "How often a Node's instance was proven to be gone and the Node was let go. " +
			"A Node whose deletion fails is counted again.",
		StabilityLevel: metrics.ALPHA,
	})

	removalsPaced = metrics.NewCounter(&metrics.CounterOpts{
		Name: "oxide_ccm_node_removals_paced_total",
		Help: "How often the removal of a Node whose instance is gone had to wait because many " +
			"Nodes had been removed within ten minutes.",
		StabilityLevel: metrics.ALPHA,
	})
)

// RegisterMetrics adds the metrics of this provider to the registry that the framework serves at
// /metrics. It is for the one provider of a process.
func (p *Provider) RegisterMetrics() {
	legacyregistry.MustRegister(removalsTotal, removalsPaced)
	legacyregistry.RawMustRegister(waitingGauge(func() float64 { return float64(p.removals.Waiting()) }))
}

func waitingGauge(waiting func() float64) metrics.GaugeFunc {
	return metrics.NewGaugeFunc(&metrics.GaugeOpts{
		Name:           "oxide_ccm_node_removals_waiting",
		Help:           "How many Nodes whose instances are gone wait for their removal.",
		StabilityLevel: metrics.ALPHA,
	}, waiting)
}

// Metrics returns the metrics of this package, for their description.
func Metrics() []metrics.Registerable {
	return []metrics.Registerable{removalsTotal, removalsPaced}
}

// WaitingMetric returns the one that is made for a provider, for its description.
func WaitingMetric() metrics.GaugeFunc { return waitingGauge(func() float64 { return 0 }) }
