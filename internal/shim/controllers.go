// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"

	"k8s.io/client-go/kubernetes"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/nodes"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// controllers returns the controllers of the framework and our own, by the names that --controllers
// takes. Of the framework's the route controller is left out: Oxide routes pod networks by the
// addresses that an instance's interface may use, which are fixed while it runs, so there is
// nothing that a controller could do for a node that joins.
func (r *running) controllers() map[string]app.ControllerInitFuncConstructor {
	all := make(map[string]app.ControllerInitFuncConstructor)
	for name, constructor := range app.DefaultInitFuncConstructors {
		if name == names.ServiceLBController {
			constructor.Constructor = r.serviceController
		}
		if name != names.NodeRouteController {
			all[name] = r.unlessLeftOut(name, constructor)
		}
	}
	all[nodes.Name] = own(nodes.Name, r.nodeLabels)
	all[nodes.ReportName] = own(nodes.ReportName, r.nodeReport)
	all[services.Name] = own(services.Name, r.balancing)
	all[services.ClassName] = own(services.ClassName, r.classes)
	return all
}

// probesName is the name of the Kubernetes client that reads the leases of nodes.
const probesName = "oxide-node-probes"

// starter starts a controller of our own, on the leader and before the informers, and returns it; nil
// if there is nothing for it to do.
type starter func(
	ctx context.Context, client kubernetes.Interface, completed *config.CompletedConfig,
) (controller.Interface, error)

// own makes the functions by which the framework starts a controller of our own, with a Kubernetes
// client of its name.
func own(name string, start starter) app.ControllerInitFuncConstructor {
	constructor := func(
		names app.ControllerInitContext, completed *config.CompletedConfig, _ cloudprovider.Interface,
	) app.InitFunc {
		return func(ctx context.Context, _ genericcontrollermanager.ControllerContext,
		) (controller.Interface, bool, error) {
			client, err := completed.ClientBuilder.Client(names.ClientName)
			if err != nil {
				return nil, false, err
			}
			started, err := start(ctx, client, completed)
			return started, started != nil, err
		}
	}
	return app.ControllerInitFuncConstructor{
		InitContext: app.ControllerInitContext{ClientName: name}, Constructor: constructor,
	}
}

// nodeLabels keeps the labels of Nodes.
func (r *running) nodeLabels(
	ctx context.Context, client kubernetes.Interface, completed *config.CompletedConfig,
) (controller.Interface, error) {
	labels, err := nodes.New(nodes.Config{
		Instances: backendv1.NewInstanceServiceClient(r.conn),
		Nodes:     client.CoreV1().Nodes(),
		Informer:  completed.SharedInformers.Core().V1().Nodes(),
		Topology:  r.options.topology(),
		ReadOnly:  r.options.ReadOnly,
	})
	if err != nil {
		return nil, err
	}
	go labels.Run(ctx)
	return labels, nil
}

// nodeReport logs what would be done to Nodes, where nothing may be changed.
func (r *running) nodeReport(
	ctx context.Context, _ kubernetes.Interface, completed *config.CompletedConfig,
) (controller.Interface, error) {
	if !r.options.ReadOnly {
		return nil, nil
	}
	report := nodes.NewReport(r.provider, completed.SharedInformers.Core().V1().Nodes())
	go report.Run(ctx)
	return report, nil
}

// balancing keeps the load balancers, and probes nodes where that is asked for. It does so on the
// leader alone, but for a process that changes nothing: that observes what the leader does.
func (r *running) balancing(
	ctx context.Context, client kubernetes.Interface, completed *config.CompletedConfig,
) (controller.Interface, error) {
	if r.prober != nil {
		kubeconfig, err := completed.ClientBuilder.Config(probesName)
		if err != nil {
			return nil, err
		}
		leases, err := reachability.NewLeases(kubeconfig)
		if err != nil {
			return nil, err
		}
		go r.prober.Run(ctx, reachability.NewTCP(), leases.Lease)
	}
	go r.loadBalancers.Run(ctx, client)
	return r.loadBalancers, nil
}

// classes serves the Services that have a class of this provider.
func (r *running) classes(
	ctx context.Context, client kubernetes.Interface, completed *config.CompletedConfig,
) (controller.Interface, error) {
	if r.options.ReadOnly {
		return nil, nil
	}
	classes, err := services.NewClassController(r.loadBalancers, client,
		completed.SharedInformers.Core().V1().Services(),
		int(completed.ComponentConfig.ServiceController.ConcurrentServiceSyncs))
	if err != nil {
		return nil, err
	}
	go classes.Run(ctx)
	return classes, nil
}

// unlessLeftOut leaves a controller of the framework out where nothing may be changed, and its service
// controller where Services without a class are somebody else's.
func (r *running) unlessLeftOut(
	name string, of app.ControllerInitFuncConstructor,
) app.ControllerInitFuncConstructor {
	constructor := of.Constructor
	of.Constructor = func(
		init app.ControllerInitContext, completed *config.CompletedConfig,
		cloud cloudprovider.Interface,
	) app.InitFunc {
		if !r.options.ReadOnly && (name != names.ServiceLBController || !r.options.ClassedOnly) {
			return mustStart(name, constructor(init, completed, cloud))
		}
		return func(context.Context, genericcontrollermanager.ControllerContext,
		) (controller.Interface, bool, error) {
			return nil, false, nil
		}
	}
	return of
}
