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

	// Status returns the status of a Service, and whether anything of it remains.
	Status(ctx context.Context, service *v1.Service) (*v1.LoadBalancerStatus, bool, error)

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

// GetLoadBalancer implements cloudprovider.LoadBalancer.
func (p *Provider) GetLoadBalancer(
	ctx context.Context, _ string, service *v1.Service,
) (*v1.LoadBalancerStatus, bool, error) {
	return p.loadBalancers.Status(ctx, service)
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
