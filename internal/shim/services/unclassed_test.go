// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// The framework's controller would end a Service that has got a class, and clear its status.
func TestTheFrameworkSeesNothingThatHasAClass(t *testing.T) {
	plain := service()
	c := bare(t, plain, service(named("shop", "classed"), ofOurs, finalized),
		service(named("shop", "theirs"), ofTheirs, finalized))
	n := &notified{}
	handler := c.UnclassedEvents(n)
	for _, class := range []func(*v1.Service){ofOurs, ofTheirs} {
		handler.OnAdd(service(class), true)
		handler.OnUpdate(service(), service(class))
		handler.OnUpdate(service(class), service(class, finalized))
	}
	// Its class has changed since.
	handler.OnUpdate(service(named("shop", "classed")), service(named("shop", "classed"), finalized, nodePortService))
	n.check(t, "classed")
	handler.OnAdd(plain, true)
	handler.OnUpdate(service(ofOurs), plain)
	handler.OnUpdate(plain, service(finalized))
	handler.OnDelete(plain)
	n.check(t, "unclassed", "added shop/web", "updated shop/web", "updated shop/web", "deleted")

	found := UnclassedServices(c.services).Services("shop")
	if _, err := found.Get("web"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"classed", "theirs", "none"} {
		if got, err := found.Get(name); !apierrors.IsNotFound(err) {
			t.Errorf("it finds %s: %v, %v", name, got, err)
		}
	}
}

// What the framework remembers of a Service says nothing of what that is now.
func TestTheFrameworkEndsNothingThatHasAClass(t *testing.T) {
	e := run(t, Config{}, service(ofOurs, classFinalized))
	e.inSync()
	if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", service(finalized)); err != nil {
		t.Error(err)
	}
	if got := e.peer.sent("shop/web").GetEnding(); got != backendv1.Ending_ENDING_UNSPECIFIED {
		t.Errorf("it was sent as %s", got)
	}
}
