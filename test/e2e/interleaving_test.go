// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// Invariant 7: the framework writes statuses, too, from older copies of the Services, and outside
// of every lock of ours. What is false is mended at once.
func staleStatus(p *pool) {
	s := p.place("", objects.TCP(80))
	p.exempt(s.key)
	before := p.service(s.key).Status
	p.ready(corev1.ConditionUnknown, s.node)
	s.moved()
	for _, stale := range []corev1.ServiceStatus{before, {}} {
		p.writeStatus(s.key, stale)
		s.moved()
	}
}

// The same, in the second in which the status has both nodes and the address is about to move: it
// does not before the status has them again.
func staleStatusInTheMiddle(p *pool) {
	s := p.place("", objects.TCP(80))
	before := p.service(s.key).Status
	j := p.journal(s.key)
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	s.awaitBothPublished()
	p.writeStatus(s.key, before)
	stale := time.Now()
	s.moved()
	again := j.first(stale, func(published []string) bool { return len(published) == 3 })
	for _, q := range s.changes() {
		if q.Operation == "floating_ip_detach" && q.Began.Sub(again) < lead {
			p.Errorf("the address was being detached %s after the status told of both nodes again",
				q.Began.Sub(again))
		}
	}
}
