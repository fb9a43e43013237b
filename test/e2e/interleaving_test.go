// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// Invariant 7: the framework writes statuses, too, from older copies of the Services, and outside of
// every lock of ours. What is false is mended at once.
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

// The same, in the second in which the status has both nodes and the address is about to move.
func staleStatusInTheMiddle(p *pool) {
	s := p.place("", objects.TCP(80))
	p.exempt(s.key)
	before := p.service(s.key).Status
	p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
	p.eventually(func(ctx context.Context) (string, error) {
		service, err := p.client.CoreV1().Services("default").Get(ctx, s.key,
			metav1.GetOptions{})
		if err == nil && len(service.Status.LoadBalancer.Ingress) < 3 {
			return "both nodes in the status", nil
		}
		return "", err
	})
	p.writeStatus(s.key, before)
	s.moved()
}

// writeStatus writes a whole status, as the framework does.
func (p *pool) writeStatus(service string, status corev1.ServiceStatus) {
	p.Helper()
	now := p.service(service)
	now.Status = status
	_, err := p.client.CoreV1().Services("default").UpdateStatus(p.Context(), now,
		metav1.UpdateOptions{})
	p.must(err)
}
