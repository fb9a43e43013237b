// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// When most Nodes fall silent at once while Oxide shows their instances running, it is rather the
// control plane that fails: nothing is moved for a while, and nothing has moved once they are back.
// (That the wait ends after two minutes is held by a unit test in virtual time.)
func TestMostNodesThatFallSilentTogetherKeepTheirAddresses(t *testing.T) {
	together(t, settings{}, row{"all in one", "mass", 7, func(p *pool) {
		held := p.place("", objects.TCP(80))
		fact := p.place("-fact", objects.TCP(81))
		silent := []string{held.node}
		for _, name := range p.nodes {
			if name != held.node && name != fact.node && len(silent) < 4 {
				silent = append(silent, name)
			}
		}
		p.allReady(corev1.ConditionUnknown, silent)
		text := p.warned(held.key, "FailoverHeld", held.address, held.node)
		held.stayed()

		// What Oxide itself tells is a fact and waits for nobody.
		p.must(p.rack.StopInstance(p.Context(), fact.node))
		p.told(fact.key, "AddressMoved", fact.address, fact.node, "stopped")
		p.servedBy(fact.key, fact.address)
		if node := p.nodeOf(fact.address); node == fact.node {
			p.Errorf("the address is still on %s, which is stopped", node)
		}

		held.stayed()
		p.allReady(corev1.ConditionTrue, silent)
		held.stayed()
		if again := p.warned(held.key, "FailoverHeld"); again != text {
			p.Errorf("it is told again: %q", again)
		}
	}})
}

// allReady sets the Ready condition of Nodes, all at once.
func (p *pool) allReady(status corev1.ConditionStatus, names []string) {
	p.Helper()
	var group sync.WaitGroup
	for _, name := range names {
		group.Go(func() {
			if err := objects.SetReady(p.Context(), p.client, name, status); err != nil {
				p.Error(err)
			}
		})
	}
	group.Wait()
}
