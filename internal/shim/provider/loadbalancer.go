// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	cloudprovider "k8s.io/cloud-provider"
)

// LoadBalancers makes what the framework asks for about Services.
type LoadBalancers interface {
	// UseClients and UseInformers are called once, before anything else.
	UseClients(clients cloudprovider.ControllerClientBuilder)
	UseInformers(factory informers.SharedInformerFactory) error

	// Ensure makes a Service's load balancer, and returns its status, which is never nil or empty.
	Ensure(ctx context.Context, service *v1.Service) (*v1.LoadBalancerStatus, error)

	// Update is told when the set of Nodes has changed.
	Update(ctx context.Context, service *v1.Service) error

	// Release ends a Service's load balancer; it succeeds if there is none.
	Release(ctx context.Context, service *v1.Service) error
}

// GetLoadBalancerName returns "NAMESPACE/NAME", the name under which the backend knows the load
// balancer in the scope of the cluster. The framework itself has no use for it.
func (p *Provider) GetLoadBalancerName(_ context.Context, _ string, service *v1.Service) string {
	return service.Namespace + "/" + service.Name
}

// GetLoadBalancer returns what a Service publishes, and always that something of it remains: whether it
// does is found out by Release. The framework asks in two places, and in both "no" does harm. Before a
// deletion it makes it drop its finalizer without deleting anything. After an update that failed it
// makes it forget the failure, and no marker in Oxide tells of an address that is the user's own, or a
// predecessor's.
func (p *Provider) GetLoadBalancer(
	_ context.Context, _ string, service *v1.Service,
) (*v1.LoadBalancerStatus, bool, error) {
	return service.Status.LoadBalancer.DeepCopy(), true, nil
}

// EnsureLoadBalancer implements cloudprovider.LoadBalancer. The nodes are not looked at: of those that
// may carry an address, and of those that may not, all must be known.
func (p *Provider) EnsureLoadBalancer(
	ctx context.Context, _ string, service *v1.Service, _ []*v1.Node,
) (*v1.LoadBalancerStatus, error) {
	return p.loadBalancers.Ensure(ctx, service)
}

// UpdateLoadBalancer implements cloudprovider.LoadBalancer.
func (p *Provider) UpdateLoadBalancer(
	ctx context.Context, _ string, service *v1.Service, _ []*v1.Node,
) error {
	return p.loadBalancers.Update(ctx, service)
}

// EnsureLoadBalancerDeleted implements cloudprovider.LoadBalancer.
func (p *Provider) EnsureLoadBalancerDeleted(
	ctx context.Context, _ string, service *v1.Service,
) error {
	return p.loadBalancers.Release(ctx, service)
}
