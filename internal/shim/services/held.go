// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// heldAtMost is how long nobody is notified of a Service that ends, whatever is, or is not, known
	// of it.
	heldAtMost = 2 * time.Minute

	// releaseGrace is how long after a release whoever waited for it has had the time to take its
	// finalizer off.
	releaseGrace = time.Second
)

// heldEnds are the Services that end, and of which the controllers that take finalizers off are not
// notified yet: the framework's service controller, and that of classes. They have few workers, and
// their call for a Service that ends waits: for what takes longer than the call they would record a
// failure, one Service after the other. Yet everything is released without that call, which only says
// when the finalizer may go.
type heldEnds struct {
	mu       sync.Mutex
	handlers []cache.ResourceEventHandler // of those controllers that run
	byKey    map[string]*heldEnd
}

type heldEnd struct {
	service *v1.Service
	since   time.Time
	review  *time.Timer
}

// HoldEnds returns the event handler that is to follow Services in place of that of a controller which
// takes their finalizers off, to which it passes on what happens to them. What a Service needs to be
// cleaned up it passes on once that has a result: the Service has nothing any more, or what it has must
// wait for Oxide or a person, which that controller then records; and also when the backend has been
// away for as long as that controller's call would wait, and after two minutes in any case. A release
// that comes after that call has failed is passed on as well, as if the Service were updated: the
// controller would wait for its own backoff, for nothing is updated when Oxide has released an
// address. To be used before any informer starts.
func (c *Controller) HoldEnds(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
	c.held.handlers = append(c.held.handlers, handler)
	return endsHolder{c, handler}
}

// endsHolder is what HoldEnds returns.
type endsHolder struct {
	c    *Controller
	next cache.ResourceEventHandler
}

func (h endsHolder) OnAdd(object any, isInInitialList bool) {
	if !h.c.holdEnd(object) {
		h.next.OnAdd(object, isInInitialList)
	}
}

func (h endsHolder) OnUpdate(before, now any) {
	if !h.c.holdEnd(now) {
		h.next.OnUpdate(before, now)
	}
}

// OnDelete passes on what is held of a Service, too: somebody else has taken the finalizer off, and
// what is remembered of it is released.
func (h endsHolder) OnDelete(object any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
		h.c.passOn(key)
	}
	h.next.OnDelete(object)
}

// holdEnd holds a Service that is to be cleaned up; false: it is not.
func (c *Controller) holdEnd(object any) bool {
	service, ok := object.(*v1.Service)
	if !ok {
		return false
	}
	key := keyOf(service)
	if !c.isEnding(service) {
		c.passOn(key)
		return false
	}
	c.held.mu.Lock()
	end := c.held.byKey[key]
	if end == nil {
		end = &heldEnd{since: time.Now()}
		end.review = time.AfterFunc(awaitTimeout, func() { c.reviewEnd(key) })
		c.held.byKey[key] = end
	}
	end.service = service
	c.held.mu.Unlock()
	c.reviewEnd(key)
	return true
}

// reviewEnd passes on the end of a Service if it is held and need not be any more, and is called
// again in a while otherwise.
func (c *Controller) reviewEnd(key string) {
	c.held.mu.Lock()
	end := c.held.byKey[key]
	if end == nil {
		c.held.mu.Unlock()
		return
	}
	service, since := end.service, end.since
	end.review.Reset(awaitTimeout)
	c.held.mu.Unlock()
	if !c.mayHold(service, since) {
		c.passOn(key)
	}
}

// passOn notifies the controllers of a Service whose end is held.
func (c *Controller) passOn(key string) {
	c.held.mu.Lock()
	end := c.held.byKey[key]
	delete(c.held.byKey, key)
	c.held.mu.Unlock()
	if end != nil {
		end.review.Stop()
		c.askFor(end.service)
	}
}

// askFor notifies the controllers of a Service as if it were updated.
func (c *Controller) askFor(service *v1.Service) {
	for _, handler := range c.held.handlers {
		handler.OnUpdate(service, service)
	}
}

// mayHold reports whether nobody need be notified yet of a Service that ends.
func (c *Controller) mayHold(service *v1.Service, since time.Time) bool {
	if time.Since(since) >= heldAtMost || c.remembered(service).released {
		return false
	}
	select {
	case <-c.started:
	default:
		return time.Since(since) < awaitTimeout
	}
	if !c.session.Connected() {
		if away := c.away.Load(); away != nil && away.After(since) {
			since = *away
		}
		return time.Since(since) < awaitTimeout
	}
	if !c.remembered(service).ending {
		return true // what the backend says is about the Service that it was before
	}
	state, ok := c.session.State(c.lbKey(keyOf(service)))
	return !ok || state.GetOwnerUid() != string(service.UID) || !c.isStopped(state)
}

// isStopped reports whether a state says that what ends has to wait for Oxide or a person, and why.
func (c *Controller) isStopped(state *backendv1.LoadBalancerState) bool {
	pending, unknown := isPending(state)
	return pending && c.isCurrent(state) && (!unknown || state.GetProblem() != nil)
}

// released notes that a Service has nothing any more, and has the controllers notified.
func (c *Controller) released(key *backendv1.LoadBalancerKey, ownerUID string) {
	after := time.Duration(0)
	c.update(key.GetName(), ownerUID, func(t *tracked) {
		t.released = true
		if t.releasing {
			after = releaseGrace
		}
	})
	c.statuses.AddAfter(key.GetName(), after)
}

// notifyReleased notifies the controllers of a Service that has nothing any more.
func (c *Controller) notifyReleased(service *v1.Service) {
	if !c.isEnding(service) || !c.remembered(service).released {
		return
	}
	c.update(keyOf(service), string(service.UID), func(t *tracked) { t.released = false })
	c.held.mu.Lock()
	end := c.held.byKey[keyOf(service)]
	c.held.mu.Unlock()
	if end != nil {
		c.passOn(keyOf(service))
	} else {
		c.askFor(service)
	}
}
