// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// withRemedy adds to an error of the backend which field or annotation of the Service asks for what
// cannot be had, and what to write there: the backend knows nothing of these.
func withRemedy(err error, service *v1.Service, want *backendv1.DesiredLoadBalancer) error {
	var be *provider.BackendError
	if !errors.As(err, &be) || len(want.GetAddresses()) == 0 {
		return err
	}
	switch be.Reason {
	case backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED,
		backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND,
		backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
		backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED:
	default:
		return err
	}
	wished, remedy := remedyOf(service, want.GetAddresses()[0].GetFloatingIp())
	if wished == "" && be.Reason != backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND &&
		be.Reason != backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED {
		return err
	}
	if !strings.Contains(be.Message, wished) {
		return err // it is about something else
	}
	remedied := *be
	remedied.Message += "; " + remedy
	return &remedied
}

// remedyOf returns what a Service asks for in particular, and what to do if it cannot be had.
func remedyOf(
	service *v1.Service, source *backendv1.FloatingIpSource,
) (wished, remedy string) {
	switch selector := source.GetSelector().(type) {
	case *backendv1.FloatingIpSource_Address:
		where := "spec.loadBalancerIP"
		if value(service, annotations.FloatingIP) != "" {
			where = "the annotation " + annotations.FloatingIP
		}
		return selector.Address, "give a free address of a pool that is linked to the silo in " + where +
			", or leave it out"
	case *backendv1.FloatingIpSource_Pool:
		return selector.Pool, "name another pool in the annotation " + annotations.FloatingIPPool +
			", or leave it out"
	case *backendv1.FloatingIpSource_Existing:
		return selector.Existing, "name a floating IP of your own in the annotation " +
			annotations.ExistingFloatingIP + ", or leave it out"
	}
	return "", "name another pool in the annotation " + annotations.FloatingIPPool
}
