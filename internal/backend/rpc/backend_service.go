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
	version    string
	readOnly   bool
}

// NewBackendService returns the service; version is the program's, and readOnly whether it changes
// nothing.
func NewBackendService(identifier Identifier, version string, readOnly bool) *BackendService {
	return &BackendService{identifier: identifier, version: version, readOnly: readOnly}
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
	return &backendv1.GetInfoResponse{
		Version:         s.version,
		OxideApiVersion: oxide.APIVersion,
		ApiRevision:     backendv1.APIRevision,
		ReadOnly:        s.readOnly,
		Silo:            &backendv1.Silo{Id: id.SiloID, Name: id.SiloName},
		Project:         &backendv1.Project{Id: id.ProjectID, Name: id.ProjectName},
		Features: []backendv1.Feature{
			backendv1.Feature_FEATURE_WATCH_INSTANCES,
			backendv1.Feature_FEATURE_SESSIONS,
			backendv1.Feature_FEATURE_ADDRESS_OPERATIONS,
			backendv1.Feature_FEATURE_EXTERNAL_SUBNETS,
			backendv1.Feature_FEATURE_RESERVED_ADDRESSES,
			backendv1.Feature_FEATURE_POOLS,
		},
	}, nil
}
