// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"errors"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// pageSize is the most that the API returns at a time.
const pageSize = 1000

// pages returns what all pages have together. A page is asked for by its token, and says which is next.
func pages[Item any](page func(token string) (items []Item, next string, err error)) ([]Item, error) {
	var all []Item
	token := ""
	for {
		items, next, err := page(token)
		if err != nil {
			return nil, err
		}
		if all = append(all, items...); next == "" {
			return all, nil
		}
		token = next
	}
}

// listInstances returns the instances of all pages.
func listInstances(
	ctx context.Context, c *connection, request *backendv1.ListInstancesRequest,
) ([]*backendv1.Instance, error) {
	instances := backendv1.NewInstanceServiceClient(c)
	request.PageSize = pageSize
	return pages(func(token string) ([]*backendv1.Instance, string, error) {
		request.PageToken = token
		page, err := call(ctx, instances.ListInstances, request)
		return page.GetInstances(), page.GetNextPageToken(), err
	})
}

// listLoadBalancers returns the load balancers of a scope, or of all scopes.
func listLoadBalancers(
	ctx context.Context, c *connection, scope string,
) ([]*backendv1.LoadBalancer, error) {
	service := backendv1.NewLoadBalancerServiceClient(c)
	return pages(func(token string) ([]*backendv1.LoadBalancer, string, error) {
		page, err := call(ctx, service.ListLoadBalancers, &backendv1.ListLoadBalancersRequest{
			Scope: scope, PageSize: pageSize, PageToken: token,
		})
		return page.GetLoadBalancers(), page.GetNextPageToken(), err
	})
}

// listAddresses returns the addresses of all pages.
func listAddresses(
	ctx context.Context, c *connection, request *backendv1.ListAddressesRequest,
) ([]*backendv1.Address, error) {
	service := backendv1.NewAddressServiceClient(c)
	request.PageSize = pageSize
	return pages(func(token string) ([]*backendv1.Address, string, error) {
		request.PageToken = token
		page, err := call(ctx, service.ListAddresses, request)
		return page.GetAddresses(), page.GetNextPageToken(), err
	})
}

// listOrphans returns the orphaned addresses of a scope.
func listOrphans(ctx context.Context, c *connection, scope string) ([]*backendv1.LoadBalancer, error) {
	found, err := call(ctx, backendv1.NewAddressServiceClient(c).ListOrphanedAddresses,
		&backendv1.ListOrphanedAddressesRequest{Scope: scope})
	return found.GetOrphans(), err
}

// planOf asks for a plan of a session, which writes nothing. It is empty where the session is not
// here, or knows too little yet.
func planOf(
	ctx context.Context, c *connection, scope string,
) (*backendv1.PlanLoadBalancersResponse, error) {
	plan, err := call(ctx, backendv1.NewLoadBalancerServiceClient(c).PlanLoadBalancers,
		&backendv1.PlanLoadBalancersRequest{Input: &backendv1.PlanLoadBalancersRequest_Scope{Scope: scope}})
	if errors.As(err, new(elsewhereError)) {
		return nil, nil
	}
	return plan, err
}

// withoutAddress returns the load balancers of a plan that are not among those that were listed: a list
// has none without an address. They wait for one, and the plan says why.
func withoutAddress(
	plan *backendv1.PlanLoadBalancersResponse, listed []*backendv1.LoadBalancer,
) (waiting []*backendv1.LoadBalancer) {
	type key struct{ scope, name string }
	known := make(map[key]bool, len(listed))
	for _, lb := range listed {
		known[key{lb.GetKey().GetScope(), lb.GetKey().GetName()}] = true
	}
	for _, planned := range plan.GetLoadBalancers() {
		lb := planned.GetLoadBalancer()
		if !known[key{lb.GetKey().GetScope(), lb.GetKey().GetName()}] {
			lb.Phase = backendv1.Phase_PHASE_PENDING
			waiting = append(waiting, lb)
		}
	}
	return waiting
}

// poolNames returns the names of pools by id. Not everybody may read them: then there are none.
func poolNames(ctx context.Context, c *connection) map[string]string {
	service := backendv1.NewPoolServiceClient(c)
	all, err := pages(func(token string) ([]*backendv1.Pool, string, error) {
		page, err := call(ctx, service.ListPools, &backendv1.ListPoolsRequest{
			PageSize: pageSize, PageToken: token,
		})
		return page.GetPools(), page.GetNextPageToken(), err
	})
	names := make(map[string]string, len(all))
	if err != nil {
		return names
	}
	for _, pool := range all {
		names[pool.GetId()] = pool.GetName()
	}
	return names
}
