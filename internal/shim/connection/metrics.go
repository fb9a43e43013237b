// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	callDuration = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Name: "oxide_ccm_backend_call_duration_seconds",
		Help: "How long calls of oxide-backend took, repetitions and waiting for a connection " +
			"included, by full method name and gRPC status code.",
		Buckets: []float64{
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160,
		},
		StabilityLevel: metrics.ALPHA,
	}, []string{"method", "code"})

	connected = metrics.NewGauge(&metrics.GaugeOpts{
		Name:           "oxide_ccm_backend_connected",
		Help:           "1 while there is a connection to oxide-backend, else 0.",
		StabilityLevel: metrics.ALPHA,
	})
)

// Metrics returns the metrics of the connection.
func Metrics() []metrics.Registerable { return []metrics.Registerable{callDuration, connected} }

// RegisterMetrics adds the metrics of the connection, once, to the registry that the framework serves
// at /metrics.
var RegisterMetrics = sync.OnceFunc(func() { legacyregistry.MustRegister(Metrics()...) })
