// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"
	"fmt"
	"time"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/services"
)

// mustStart makes it an error that a controller of the framework, which was asked for, does not
// start: the framework itself only logs why, and goes on without it.
func mustStart(name string, start app.InitFunc) app.InitFunc {
	return func(ctx context.Context, c genericcontrollermanager.ControllerContext,
	) (controller.Interface, bool, error) {
		started, ok, err := start(ctx, c)
		if err == nil && !ok {
			err = fmt.Errorf("%s did not start: the lines above say why; leave it out by "+
				"--controllers=*,-%s to go on without it", name, name)
		}
		return started, ok, err
	}
}

// serviceController starts the framework's service controller as the framework would, but for its
// informer of Services: by that it is notified of Services that end once they have been released, and
// sees none that has a class.
func (r *running) serviceController(
	names app.ControllerInitContext, completed *config.CompletedConfig, cloud cloudprovider.Interface,
) app.InitFunc {
	return func(ctx context.Context, c genericcontrollermanager.ControllerContext,
	) (controller.Interface, bool, error) {
		client, err := completed.ClientBuilder.Client(names.ClientName)
		if err != nil {
			return nil, false, err
		}
		informers := completed.SharedInformers.Core().V1()
		started, err := servicecontroller.New(cloud, client,
			endsInformer{
				informers.Services().Informer(), services.UnclassedServices(informers.Services().Lister()),
				r.loadBalancers.UnclassedEvents,
			},
			informers.Nodes(), completed.ComponentConfig.KubeCloudShared.ClusterName,
			utilfeature.DefaultFeatureGate)
		if err != nil {
			return nil, false, fmt.Errorf("the service controller: %w", err)
		}
		workers := completed.ComponentConfig.ServiceController.ConcurrentServiceSyncs
		go started.Run(ctx, int(workers), c.ControllerManagerMetrics)
		return nil, true, nil
	}
}

// endsInformer is an informer of Services that has another event handler in place of its user's.
type endsInformer struct {
	cache.SharedIndexInformer
	lister   corelisters.ServiceLister
	replaced func(cache.ResourceEventHandler) cache.ResourceEventHandler
}

var _ coreinformers.ServiceInformer = endsInformer{}

// Informer implements coreinformers.ServiceInformer.
func (i endsInformer) Informer() cache.SharedIndexInformer { return i }

// Lister implements coreinformers.ServiceInformer.
func (i endsInformer) Lister() corelisters.ServiceLister { return i.lister }

// AddEventHandlerWithResyncPeriod implements cache.SharedInformer; it is the one that the controller
// uses.
func (i endsInformer) AddEventHandlerWithResyncPeriod(
	handler cache.ResourceEventHandler, resync time.Duration,
) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(i.replaced(handler), resync)
}
