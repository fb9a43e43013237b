// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// takeInstance takes over what was said of an instance.
func (l *loop) takeInstance(event instances.Event) {
	o := &l.observed
	switch {
	case event.Instance != nil:
		id, state := event.Instance.ID, event.Instance.RunState
		if o.states[id].RunState != state {
			l.m.operations.unstick(id)
		}
		o.states[id], o.names[id] = health.Instance{RunState: state}, event.Instance.Name
		o.name(id)
		o.overtaken[id] = o.checking[id]
		if state != oxide.RunStateDestroyed {
			delete(o.destroyed, id)
		} else if o.destroyed[id] == nil {
			o.destroyed[id] = &backoff{}
		}
	case !event.Complete.IsZero():
		o.statesComplete = true
	case event.NoLongerListed != "":
		delete(o.destroyed, event.NoLongerListed)
		l.check(event.NoLongerListed)
	}
}

// checkDoubtful reads the instances of which lists say too little: candidates that no list shows, since
// a list may miss some, and those that are shown as destroyed, which some racks say of an instance that
// stops.
func (l *loop) checkDoubtful(now time.Time) {
	o := &l.observed
	if !o.statesComplete {
		return
	}
	for id := range l.candidates {
		if _, known := o.states[id]; !known {
			l.check(id)
		}
	}
	for id, b := range o.destroyed {
		if now.Before(b.until) {
			l.at(b.until)
			continue
		}
		l.check(id)
	}
}

// check finds out by a direct read whether an instance is gone.
func (l *loop) check(id string) {
	if l.observed.checking[id] {
		return
	}
	l.observed.checking[id] = true
	go func() {
		var instance instances.Instance
		var err error
		if !l.m.readDirectly(l.session, func(ctx context.Context) {
			instance, err = l.m.inventory.Read(ctx, id)
		}) {
			return
		}
		if err != nil && !errors.Is(err, instances.ErrNotFound) {
			rest(l.m.ctx, l.m.timings.maxReadRetry)
		}
		l.session.observe(func(l *loop) { l.takeCheck(id, instance.RunState, err) })
	}()
}

// readDirectly calls a function that reads what no list shows, in its turn: a list that shows nothing
// makes everything be read, and a client may name thousands that do not exist. False: the session has
// ended before.
func (m *Manager) readDirectly(s *Session, read func(ctx context.Context)) bool {
	select {
	case m.checks <- struct{}{}:
	case <-s.ended:
		return false
	}
	defer func() { <-m.checks }()
	ctx, cancel := context.WithTimeout(m.ctx, readTimeout)
	defer cancel()
	read(ctx)
	return true
}

func (l *loop) takeCheck(id, runState string, err error) {
	o := &l.observed
	delete(o.checking, id)
	overtaken := o.overtaken[id]
	delete(o.overtaken, id)
	if b := o.destroyed[id]; b != nil {
		b.fail(time.Now(), nil, l.m.timings.announce, l.m.timings.maxReadRetry)
	}
	switch {
	case overtaken:
	case errors.Is(err, instances.ErrNotFound):
		o.states[id] = health.Instance{Gone: true}
		// Oxide detaches what it carried.
		for _, kind := range kinds {
			if l.uses(kind) {
				l.m.addresses[kind].want(l.m.ctx, time.Now())
			}
		}
	case err == nil:
		if o.states[id].RunState != runState {
			l.m.operations.unstick(id)
		}
		o.states[id] = health.Instance{RunState: runState}
	default:
		slog.Warn("cannot read an instance that is not listed", "instance", id, "error", err)
	}
}
