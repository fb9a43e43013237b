// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// isLocal tells whether a Service wants its traffic on nodes that have an endpoint of it: others drop
// what arrives.
func isLocal(service *v1.Service) bool {
	return service.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal
}

// errEndpointsUnknown holds a load balancer that has to be where endpoints are.
var errEndpointsUnknown = errors.New("the endpoints of the Service, which " +
	"spec.externalTrafficPolicy Local goes by, are not known yet")

// slicePatience is how long is waited for the slices once they are followed.
const slicePatience = 5 * time.Second

// sliceCache has the EndpointSlices of the cluster while somebody asks for them.
type sliceCache struct {
	// changed is called with the name of a Service that has endpoints on other Nodes than before.
	changed func(namespace, service string)

	mu sync.Mutex
	// client and ctx are set when the controller runs; ctx ends what is followed.
	client  kubernetes.Interface
	ctx     context.Context //nolint:containedctx // it is the controller's, not a caller's
	running *followedSlices
}

type followedSlices struct {
	lister discoverylisters.EndpointSliceLister
	synced cache.InformerSynced
	stop   context.CancelFunc
}

// use gives the means to follow slices, until the context ends.
func (s *sliceCache) use(ctx context.Context, client kubernetes.Interface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.client = ctx, client
}

// end ends following slices, until somebody asks again.
func (s *sliceCache) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.stop()
		s.running = nil
	}
}

// follow follows the slices, if that is not done yet.
func (s *sliceCache) follow() (*followedSlices, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil || s.client == nil {
		return s.running, nil
	}
	ctx, stop := context.WithCancel(s.ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(s.client, 0,
		informers.WithTransform(trimSlice))
	slices := factory.Discovery().V1().EndpointSlices()
	_, err := slices.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { s.compare(nil, now) },
		UpdateFunc: s.compare,
		DeleteFunc: func(old any) { s.compare(old, nil) },
	})
	if err != nil {
		stop()
		return nil, err
	}
	s.running = &followedSlices{slices.Lister(), slices.Informer().HasSynced, stop}
	factory.Start(ctx.Done())
	return s.running, nil
}

// nodesOf returns the Nodes on which a Service has an endpoint that takes traffic: one that is ready, or
// one that is about to end and still serves.
func (s *sliceCache) nodesOf(ctx context.Context, service *v1.Service) (map[string]bool, error) {
	running, err := s.follow()
	switch {
	case err != nil:
		return nil, err
	case running == nil:
		return nil, errEndpointsUnknown
	}
	waitCtx, cancel := context.WithTimeout(ctx, slicePatience)
	defer cancel()
	if !running.synced() && !cache.WaitForCacheSync(waitCtx.Done(), running.synced) {
		return nil, errEndpointsUnknown
	}
	list, err := running.lister.EndpointSlices(service.Namespace).List(labels.SelectorFromSet(
		labels.Set{discoveryv1.LabelServiceName: service.Name}))
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]bool)
	for _, slice := range list {
		maps.Copy(nodes, nodesIn(slice))
	}
	return nodes, nil
}

// nodesIn returns the Nodes on which a slice has an endpoint that takes traffic.
func nodesIn(slice *discoveryv1.EndpointSlice) map[string]bool {
	nodes := make(map[string]bool)
	for _, endpoint := range slice.Endpoints {
		if endpoint.NodeName != nil && takesTraffic(endpoint.Conditions) {
			nodes[*endpoint.NodeName] = true
		}
	}
	return nodes
}

// compare tells of a slice whose endpoints are on other Nodes than before. Most changes are of other
// Services, or replace an endpoint by one beside it.
func (s *sliceCache) compare(old, now any) {
	if unknown, ok := old.(cache.DeletedFinalStateUnknown); ok {
		old = unknown.Obj
	}
	before, existed := old.(*discoveryv1.EndpointSlice)
	after, exists := now.(*discoveryv1.EndpointSlice)
	if !existed {
		before = &discoveryv1.EndpointSlice{}
	}
	if !exists {
		after = &discoveryv1.EndpointSlice{ObjectMeta: before.ObjectMeta}
	}
	if !maps.Equal(nodesIn(before), nodesIn(after)) {
		s.changed(after.Namespace, after.Labels[discoveryv1.LabelServiceName])
	}
}

// takesTraffic reads conditions that are not given as the API documents: ready and serving are taken
// to hold, terminating not.
func takesTraffic(c discoveryv1.EndpointConditions) bool {
	ready := c.Ready == nil || *c.Ready
	serving := c.Serving == nil && ready || c.Serving != nil && *c.Serving
	terminating := c.Terminating != nil && *c.Terminating
	return ready || serving && terminating
}

// trimSlice keeps of a slice what is needed to know where endpoints are.
func trimSlice(object any) (any, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return object, nil
	}
	trimmed := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: slice.Namespace, Name: slice.Name, UID: slice.UID,
			ResourceVersion: slice.ResourceVersion,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: slice.Labels[discoveryv1.LabelServiceName],
			},
		},
	}
	for _, endpoint := range slice.Endpoints {
		trimmed.Endpoints = append(trimmed.Endpoints, discoveryv1.Endpoint{
			NodeName: endpoint.NodeName, Conditions: endpoint.Conditions,
		})
	}
	return trimmed, nil
}
