// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"encoding/json"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"
)

// change is what is changed of a Service: finalizers are added and removed, and its status is cleared.
type change struct {
	add, remove []string
	clear       bool
}

// own returns the finalizer of Services with a class if a Service has it.
func own(service *v1.Service) []string {
	if !hasOwnFinalizer(service) {
		return nil
	}
	return []string{Finalizer}
}

// frameworks returns the framework's finalizer if it holds a Service for this provider.
func (k *ClassController) frameworks(service *v1.Service) []string {
	if !k.c.hasFrameworkFinalizer(service) {
		return nil
	}
	return []string{servicehelpers.LoadBalancerCleanupFinalizer}
}

// ended is what is changed of a Service once nothing of it is left. Whoever serves it now finds the
// status empty, unless that is of the new one already.
func (k *ClassController) ended(service *v1.Service) change {
	return change{
		remove: slices.Concat(own(service), k.frameworks(service)),
		clear: service.DeletionTimestamp.IsZero() && service.Spec.Type == v1.ServiceTypeLoadBalancer &&
			statusIsOurs(service),
	}
}

// statusIsOurs reports whether the addresses in the status of a Service are those that this program, or
// the framework in it, wrote last.
func statusIsOurs(service *v1.Service) bool {
	written := false
	for i := range service.ManagedFields {
		if entry := &service.ManagedFields[i]; hasAddresses(entry) {
			if entry.Manager != Name && !slices.Contains(frameworkManagers, entry.Manager) {
				return false
			}
			written = true
		}
	}
	return written
}

// write changes a Service, through the status as the framework does. It fails with a conflict if the
// Service is not as it was, unless that is being deleted: nothing can be desired of it any more.
func (k *ClassController) write(ctx context.Context, service *v1.Service, change change) error {
	if len(change.add)+len(change.remove) == 0 && !change.clear {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	metadata := map[string]any{"uid": service.UID}
	patch := map[string]any{"metadata": metadata}
	if len(change.add) > 0 {
		metadata["finalizers"] = change.add
	}
	if service.DeletionTimestamp.IsZero() {
		metadata["resourceVersion"] = service.ResourceVersion
	}
	if len(change.remove) > 0 {
		metadata["$deleteFromPrimitiveList/finalizers"] = change.remove
	}
	if change.clear {
		patch["status"] = map[string]any{"loadBalancer": map[string]any{"ingress": nil}}
	}
	text, err := json.Marshal(patch)
	utilruntime.Must(err) // all of it is text
	_, err = k.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name,
		types.StrategicMergePatchType, text, metav1.PatchOptions{FieldManager: ClassName}, "status")
	switch {
	case err == nil:
		klog.V(2).InfoS("Changed finalizers", serviceKeys(service, "added", change.add, "removed",
			change.remove, "status_cleared", change.clear)...)
	case apierrors.IsNotFound(err):
		return nil // it has gone, and nothing is left to be changed
	}
	return err
}
