// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// absence is what is known of the addresses of an ending load balancer of which no list has shown
// one: a list may miss some, and its address would be left behind for good.
type absence struct {
	checking, proven bool
	retryAt          time.Time
}

// hasNothing reports whether an ending load balancer that seems to have nothing really has nothing.
// Where this session never saw an address of it, those that it would have been given are read by
// name.
func (l *loop) hasNothing(b *balancer) bool {
	now := time.Now()
	switch a := &b.absence; {
	case len(b.places) > 0 || len(b.lb.Desired) == 0 || a.proven || l.opening.ObserveOnly:
		return true
	case a.checking:
		l.busy = true
	case now.Before(a.retryAt):
		l.soon(a.retryAt)
	default:
		l.busy, a.checking = true, true
		var names []string
		for _, d := range b.lb.Desired {
			if d.Source.Existing == "" {
				names = append(names, ownership.Name(b.lb.Key, d.Family, d.Source.String(), 0))
			}
		}
		go l.m.checkAbsence(l.session, b.lb.Key, names)
	}
	return false
}

// checkAbsence reads addresses by name, and takes over those that there are.
func (m *Manager) checkAbsence(s *Session, key ownership.Key, names []string) {
	ctx, cancel := context.WithTimeout(m.ctx, readTimeout)
	defer cancel()
	var failed error
	for _, name := range names {
		ip, err := m.api.FloatingIPByName(ctx, name)
		switch {
		case err == nil:
			m.addresses.record(ip)
		case !oxide.IsKind(err, oxide.KindNotFound):
			failed = err
		}
	}
	s.observe(func(l *loop) {
		b := l.balancers[key]
		if b == nil {
			return
		}
		b.absence = absence{proven: failed == nil}
		if failed != nil {
			b.absence.retryAt = time.Now().Add(l.m.timings.retry)
		}
	})
}
