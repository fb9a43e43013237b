// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// PlanLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) PlanLoadBalancers(
	ctx context.Context, req *backendv1.PlanLoadBalancersRequest,
) (*backendv1.PlanLoadBalancersResponse, error) {
	if err := validatePlan(req); err != nil {
		return nil, err
	}
	planned, err := s.sessions.Plan(ctx, planRequestOf(req, time.Now()))
	if err != nil {
		return nil, err
	}
	return planMessage(planned), nil
}
