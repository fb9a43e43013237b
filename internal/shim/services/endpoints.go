// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"maps"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// errEndpointsUnknown preserves a load balancer that has to be where endpoints are.
var errEndpointsUnknown = errors.New("the endpoints of the Service, which " +
	"spec.externalTrafficPolicy Local goes by, are not known yet: if that stays so, allow \"list\" and " +
	"\"watch\" on endpointslices")

// followedSlices are the EndpointSlices of the cluster while some Service needs them.
type followedSlices struct {
	lister discoverylisters.EndpointSliceLister
	synced cache.InformerSynced
	stop   context.CancelFunc
}

// needSlices notes whether a Service needs slices. They are followed from the first one that does
// on until none does any more. The caller holds pushing.
func (c *Controller) needSlices(key string, needed bool) {
	if needed {
		c.local[key] = true
	} else {
		delete(c.local, key)
	}
	switch {
	case len(c.local) > 0 && c.slices == nil && c.ctx.Err() == nil:
		c.slices = c.followSlices()
	case len(c.local) == 0 && c.slices != nil:
		c.slices.stop()
		c.slices = nil
	}
}

func (c *Controller) followSlices() *followedSlices {
	ctx, stop := context.WithCancel(c.ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0,
		informers.WithTransform(trimSlice))
	slices := factory.Discovery().V1().EndpointSlices()
	added, err := slices.Informer().AddEventHandler(handler(c.sliceChanged))
	utilruntime.Must(err) // only an informer that has ended refuses
	c.start(ctx, factory)
	c.workers.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), added.HasSynced) {
			c.changed.Add(everything)
		}
	})
	return &followedSlices{slices.Lister(), added.HasSynced, stop}
}

// serving returns what a Service has on Nodes, by their names. The caller holds pushing.
func (c *Controller) serving(service *v1.Service) (map[string]backendv1.ServingState, error) {
	if c.slices == nil || !c.slices.synced() {
		return nil, errEndpointsUnknown
	}
	of := labels.Set{discoveryv1.LabelServiceName: service.Name}
	list, err := c.slices.lister.EndpointSlices(service.Namespace).List(of.AsSelector())
	return servingIn(list...), err
}

// servingIn returns what slices have on Nodes: an endpoint that is ready serves, and one that is
// about to end serves until then. Conditions that are not given are read as the API documents:
// ready and serving are taken to hold, terminating not.
func servingIn(slices ...*discoveryv1.EndpointSlice) map[string]backendv1.ServingState {
	nodes := make(map[string]backendv1.ServingState)
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			is := endpoint.Conditions
			ready := is.Ready == nil || *is.Ready
			serving := is.Serving == nil && ready || is.Serving != nil && *is.Serving
			terminating := is.Terminating != nil && *is.Terminating
			if endpoint.NodeName == nil || !ready && (!serving || !terminating) {
				continue
			}
			if ready && !terminating {
				nodes[*endpoint.NodeName] = backendv1.ServingState_SERVING_STATE_SERVING
			} else if _, known := nodes[*endpoint.NodeName]; !known {
				nodes[*endpoint.NodeName] = backendv1.ServingState_SERVING_STATE_LEAVING
			}
		}
	}
	return nodes
}

// sliceChanged has a Service translated whose endpoints are on other Nodes than before. Most
// changes replace an endpoint by one beside it.
func (c *Controller) sliceChanged(before, now *discoveryv1.EndpointSlice) {
	slice := now
	switch {
	case now == nil:
		slice = before
	case before != nil && maps.Equal(servingIn(before), servingIn(now)):
		return
	}
	c.changed.Add(slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName])
}

// trimSlice keeps of a slice what is needed to know where endpoints are.
func trimSlice(object any) (any, error) {
	if slice, ok := object.(*discoveryv1.EndpointSlice); ok {
		slice.ManagedFields, slice.Annotations, slice.OwnerReferences, slice.Ports = nil, nil, nil, nil
		for i, endpoint := range slice.Endpoints {
			slice.Endpoints[i] = discoveryv1.Endpoint{
				NodeName: endpoint.NodeName, Conditions: endpoint.Conditions,
			}
		}
	}
	return object, nil
}
