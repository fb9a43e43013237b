// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted over all VPCs.
type metrics struct {
	writes, failures, foreign, refusals prometheus.Counter
}

func newMetrics(k *Keeper, registerer prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := metrics{
		writes: counter("oxide_backend_firewall_writes_total",
			"Writes of the rules of a VPC that Oxide took."),
		failures: counter("oxide_backend_firewall_write_failures_total",
			"Writes of the rules of a VPC that Oxide refused, or did not bring into force everywhere."),
		foreign: counter("oxide_backend_firewall_foreign_changes_total",
			"Rules in the firewalls of VPCs that somebody else added, changed or removed, as far as seen."),
		refusals: counter("oxide_backend_firewall_refusals_total",
			"Times that rules were not written because they or others cannot be represented, or do not fit."),
	}
	if registerer != nil {
		registerer.MustRegister(m.writes, m.failures, m.foreign, m.refusals,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "oxide_backend_firewall_rules",
				Help: "Rules that are kept for load balancers in the firewalls of VPCs, as last seen.",
			}, func() float64 { return float64(k.held()) }))
	}
	return m
}
