// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"google.golang.org/grpc"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// LoadBalancerService implements backendv1.LoadBalancerServiceServer.
type LoadBalancerService struct {
	backendv1.UnsafeLoadBalancerServiceServer
	sessions Sessions
}

// NewLoadBalancerService returns the service.
func NewLoadBalancerService(sessions Sessions) *LoadBalancerService {
	return &LoadBalancerService{sessions: sessions}
}

// RegisterService registers the service with a server.
func (s *LoadBalancerService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterLoadBalancerServiceServer(r, s)
}
