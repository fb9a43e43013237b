// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Identifier tells which silo and project the backend works in.
type Identifier interface {
	Identity(ctx context.Context) (oxide.Identity, error)
}

// BackendService implements backendv1.BackendServiceServer.
type BackendService struct {
	backendv1.UnsafeBackendServiceServer
	identifier Identifier
	scopes     Scopes
	version    string
	mode       Mode
}

// Scopes knows which acting sessions run here.
type Scopes interface {
	ActingScopes() []string
}

// Mode is how the backend was started.
type Mode struct {
	// ReadOnly: it changes nothing. KeepsFirewallRules: it keeps rules in firewalls for load balancers.
	ReadOnly, KeepsFirewallRules bool
}

// NewBackendService returns the service; version is the program's.
func NewBackendService(
	identifier Identifier, scopes Scopes, version string, mode Mode,
) *BackendService {
	return &BackendService{identifier: identifier, scopes: scopes, version: version, mode: mode}
}

// RegisterService registers the service with a server.
func (s *BackendService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterBackendServiceServer(r, s)
}

// GetInfo implements backendv1.BackendServiceServer.
func (s *BackendService) GetInfo(
	ctx context.Context, _ *backendv1.GetInfoRequest,
) (*backendv1.GetInfoResponse, error) {
	id, err := s.identifier.Identity(ctx)
	if err != nil {
		return nil, err
	}
	features := []backendv1.Feature{
		backendv1.Feature_FEATURE_WATCH_INSTANCES,
		backendv1.Feature_FEATURE_SESSIONS,
		backendv1.Feature_FEATURE_ADDRESS_OPERATIONS,
		backendv1.Feature_FEATURE_EXTERNAL_SUBNETS,
		backendv1.Feature_FEATURE_FIREWALL_OPERATIONS,
		backendv1.Feature_FEATURE_RESERVED_ADDRESSES,
		backendv1.Feature_FEATURE_POOLS,
	}
	if s.mode.KeepsFirewallRules {
		features = append(features, backendv1.Feature_FEATURE_FIREWALL_RULES)
	}
	return &backendv1.GetInfoResponse{
		Version:         s.version,
		OxideApiVersion: oxide.APIVersion,
		ApiRevision:     backendv1.APIRevision,
		ReadOnly:        s.mode.ReadOnly,
		ActingScopes:    s.scopes.ActingScopes(),
		Silo:            &backendv1.Silo{Id: id.SiloID, Name: id.SiloName},
		Project:         &backendv1.Project{Id: id.ProjectID, Name: id.ProjectName},
		Features:        features,
	}, nil
}
