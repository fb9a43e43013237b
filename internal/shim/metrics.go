// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"runtime"
	"slices"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/connection"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/nodes"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
)

var buildInfo = metrics.NewGaugeVec(&metrics.GaugeOpts{
	Name:           "oxide_ccm_build_info",
	Help:           "1, with the versions of the program and of Go.",
	StabilityLevel: metrics.ALPHA,
}, []string{"version", "go_version"})

// registerBuild adds what the program is to the registry that the framework serves at /metrics.
var registerBuild = sync.OnceFunc(func() {
	legacyregistry.MustRegister(buildInfo)
	buildInfo.WithLabelValues(version.String(), runtime.Version()).Set(1)
})

// Collectors returns what collects the metrics of the program's own, without those of the framework. It
// is for their description, in a process that serves none.
func Collectors() []metrics.Collector {
	registerable := slices.Concat([]metrics.Registerable{buildInfo}, connection.Metrics(), nodes.Metrics(),
		provider.Metrics(), reachability.Metrics(), services.Metrics())
	registry := metrics.NewKubeRegistry()
	all := []metrics.Collector{provider.WaitingMetric()}
	for _, each := range registerable {
		// They are made when they are registered.
		registry.MustRegister(each)
		all = append(all, each)
	}
	return all
}
