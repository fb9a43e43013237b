// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"bytes"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
)

// Finalizer holds a Service with a class of this provider from before anything is made for it until
// nothing of it is left. A Service without a class has the framework's instead.
const Finalizer = annotations.Prefix + "load-balancer-cleanup"

// frameworkManagers are the field managers of what the framework's service controller writes: it has
// that of the program that it is part of, which is this one, or Oxide's earlier controller manager.
var frameworkManagers = []string{"ccm-shim", "oxide-cloud-controller-manager"}

// selection says which Services are this provider's.
type selection struct {
	// classedOnly: Services without a class are somebody else's.
	classedOnly bool
}

// isOurs reports whether a Service is a load balancer of this provider.
func (s selection) isOurs(service *v1.Service) bool {
	return service.Spec.Type == v1.ServiceTypeLoadBalancer &&
		(annotations.IsOurClass(service) || service.Spec.LoadBalancerClass == nil && !s.classedOnly)
}

// isDesired reports whether a Service is to have a load balancer of this provider.
func (s selection) isDesired(service *v1.Service) bool {
	return service.DeletionTimestamp.IsZero() && s.isOurs(service)
}

// isEnding reports whether a Service is to have no load balancer any more, and one may be there
// still.
func (s selection) isEnding(service *v1.Service) bool {
	return !s.isDesired(service) && !s.isLeft(service) && s.hasFinalizer(service)
}

// isLeft reports whether a Service has a load balancer from before those without a class became somebody
// else's. It stays as it is until the Service ends: whoever serves it now need not be ready, and what is
// released may be gone for good.
func (s selection) isLeft(service *v1.Service) bool {
	return s.classedOnly && service.DeletionTimestamp.IsZero() &&
		service.Spec.Type == v1.ServiceTypeLoadBalancer && service.Spec.LoadBalancerClass == nil &&
		s.hasFinalizer(service)
}

// isFrameworks reports whether the framework's service controller serves a Service, and ends it.
func (s selection) isFrameworks(service *v1.Service) bool {
	return service.Spec.LoadBalancerClass == nil && !s.classedOnly
}

// hasFinalizer reports whether a finalizer holds a Service for this provider.
func (s selection) hasFinalizer(service *v1.Service) bool {
	return hasOwnFinalizer(service) || s.hasFrameworkFinalizer(service)
}

func hasOwnFinalizer(service *v1.Service) bool {
	return slices.Contains(service.Finalizers, Finalizer)
}

// hasFrameworkFinalizer reports whether the framework's finalizer holds a Service for this provider.
// Where others serve Services with the same framework it may be theirs.
func (s selection) hasFrameworkFinalizer(service *v1.Service) bool {
	theirs := service.Spec.LoadBalancerClass != nil && !annotations.IsOurClass(service)
	return servicehelpers.HasLBFinalizer(service) &&
		(!theirs && !s.classedOnly || frameworkFinalizerIsOurs(service))
}

// frameworkFinalizerIsOurs reports whether the framework in this program, or in the earlier one, has put
// its finalizer on a Service.
func frameworkFinalizerIsOurs(service *v1.Service) bool {
	// So a set of fields names an item of a list of text.
	item := []byte(`"v:\"` + servicehelpers.LoadBalancerCleanupFinalizer + `\""`)
	return slices.ContainsFunc(service.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool {
		return slices.Contains(frameworkManagers, entry.Manager) && entry.FieldsV1 != nil &&
			bytes.Contains(entry.FieldsV1.GetRawBytes(), item)
	})
}
