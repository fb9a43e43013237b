// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what is asked of Oxide. The label operation is the operationId of Oxide's API
// document; the label code is the HTTP status, or "error" if there was no answer.
type metrics struct {
	duration *prometheus.HistogramVec
	retries  *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oxide_backend_oxide_request_duration_seconds",
			Help: "Time from sending a request to Oxide to the end of its answer's header, " +
				"by operation and HTTP status. Each try of a retried read counts.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 90},
		}, []string{"operation", "code"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oxide_backend_oxide_request_retries_total",
			Help: "Reads of Oxide that were tried again, by operation.",
		}, []string{"operation"}),
	}
	registerer.MustRegister(m.duration, m.retries)
	return m
}

func (m *metrics) observe(operation string, status int, took time.Duration) {
	code := "error"
	if status != 0 {
		code = strconv.Itoa(status)
	}
	m.duration.WithLabelValues(operation, code).Observe(took.Seconds())
}
