// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// UnclassedEvents returns the event handler that is to follow Services in place of the one of the
// framework's service controller: that is notified of ends as HoldEnds says, and of nothing that happens
// to a Service while it has a class. Of one that has changed its class the framework would clear the
// status and take its finalizer off, whoever serves it now. To be used before any informer starts.
func (c *Controller) UnclassedEvents(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
	return c.HoldEnds(unclassedEvents{c, handler})
}

type unclassedEvents struct {
	c    *Controller
	next cache.ResourceEventHandler
}

func (h unclassedEvents) OnAdd(object any, isInInitialList bool) {
	if !h.isClassed(object) {
		h.next.OnAdd(object, isInInitialList)
	}
}

func (h unclassedEvents) OnUpdate(before, now any) {
	if !h.isClassed(now) {
		h.next.OnUpdate(before, now)
	}
}

func (h unclassedEvents) OnDelete(object any) { h.next.OnDelete(object) }

// isClassed reports whether a Service has a class, or has got one since.
func (h unclassedEvents) isClassed(object any) bool {
	service, ok := object.(*v1.Service)
	if !ok {
		return false
	}
	now := h.c.cached(keyOf(service))
	return service.Spec.LoadBalancerClass != nil || now != nil && now.Spec.LoadBalancerClass != nil
}

// UnclassedServices returns a lister that finds no Service that has a class.
func UnclassedServices(lister corelisters.ServiceLister) corelisters.ServiceLister {
	return unclassedLister{lister}
}

type unclassedLister struct{ corelisters.ServiceLister }

// Services implements corelisters.ServiceLister.
func (l unclassedLister) Services(namespace string) corelisters.ServiceNamespaceLister {
	return unclassedNamespaceLister{l.ServiceLister.Services(namespace)}
}

type unclassedNamespaceLister struct {
	corelisters.ServiceNamespaceLister
}

// Get implements corelisters.ServiceNamespaceLister; it is what the framework's controller calls.
func (l unclassedNamespaceLister) Get(name string) (*v1.Service, error) {
	service, err := l.ServiceNamespaceLister.Get(name)
	if err == nil && service.Spec.LoadBalancerClass != nil {
		return nil, apierrors.NewNotFound(v1.Resource("services"), name)
	}
	return service, err
}
