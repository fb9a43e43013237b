// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// seconds are the buckets of times from the detection of a failure.
var seconds = []float64{.25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300}

var (
	failoverAttached = metrics.NewHistogram(&metrics.HistogramOpts{
		Name: "oxide_ccm_failover_attached_seconds",
		Help: "Time from when it was seen that a Node cannot carry an address any more to when the " +
			"address was attached to another one.",
		Buckets: seconds, StabilityLevel: metrics.ALPHA,
	})

	failoverPublished = metrics.NewHistogram(&metrics.HistogramOpts{
		Name: "oxide_ccm_failover_published_seconds",
		Help: "Time from when it was seen that a Node cannot carry an address any more to when the " +
			"status of the Service was right again.",
		Buckets: seconds, StabilityLevel: metrics.ALPHA,
	})

	holds = metrics.NewCounter(&metrics.CounterOpts{
		Name: "oxide_ccm_failover_holds_total",
		Help: "How often an address was kept on a Node that was not ready, because more than half " +
			"of the Nodes had become so within a minute.",
		StabilityLevel: metrics.ALPHA,
	})

	drift = metrics.NewCounter(&metrics.CounterOpts{
		Name: "oxide_ccm_load_balancer_drift_total",
		Help: "How many load balancers were found to be another way than they should, although " +
			"nothing had changed in Kubernetes.",
		StabilityLevel: metrics.ALPHA,
	})

	changesDue = metrics.NewGauge(&metrics.GaugeOpts{
		Name:           "oxide_ccm_load_balancer_changes_due",
		Help:           "How many load balancers the last look found that have to be changed.",
		StabilityLevel: metrics.ALPHA,
	})

	orphanedAddresses = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_orphaned_addresses",
		Help: "How many load balancers have addresses that are marked as this cluster's and that " +
			"no Service wants; retained ones are among them.",
		StabilityLevel: metrics.ALPHA,
	})

	conflicts = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "oxide_ccm_port_conflicts",
		Help: "How many load balancers have a reserved address that is attached nowhere, because " +
			"their port is taken on every Node that could carry it.",
		StabilityLevel: metrics.ALPHA,
	})

	registerOnce sync.Once
)

// registerMetrics adds the metrics to the registry that the framework serves at /metrics.
func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(failoverAttached, failoverPublished, holds, drift, changesDue,
			orphanedAddresses, conflicts)
	})
}

// observe counts what a look found.
func observe(response *backendv1.ReconcileLoadBalancersResponse, due int, unasked bool) {
	changesDue.Set(float64(due))
	if unasked {
		drift.Add(float64(due))
	}
	conflicting := 0
	for _, result := range response.GetResults() {
		if result.GetProblem().GetReason() == backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT {
			conflicting++
		}
	}
	conflicts.Set(float64(conflicting))
}
