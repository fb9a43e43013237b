// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// A sled that does not answer makes each request for its instances wait for a minute (three seconds
// here), and one instance may carry 32 addresses: all others go on as if nothing was.
func TestASilentSledHoldsUpNobodyElse(t *testing.T) {
	const many = 32
	together(t, settings{}, row{"32 addresses wait, and a 33rd moves", "crowd", 6, func(p *pool) {
		crowded, refuge := p.nodes[0], p.nodes[1]
		for group, nodes := range map[string][]string{
			"crowd": {crowded}, "before": p.nodes[2:4], "beside": p.nodes[4:6],
		} {
			for _, node := range nodes {
				p.label(node, groupLabel, group)
			}
		}
		before, beside := p.placeIn("before", objects.TCP(80)), p.placeIn("beside", objects.TCP(80))
		crowd := make([]*placed, many)
		for i := range many {
			p.makeIn("crowd", i, objects.TCP(int32(8000+i)))
		}
		for i := range many {
			crowd[i] = p.located(fmt.Sprintf("%s-crowd-%d", p.name, i))
		}
		p.label(refuge, groupLabel, "crowd")
		usual := before.failover()

		p.must(p.rack.LoseSled(p.Context(), crowded))
		p.ready(corev1.ConditionUnknown, crowded)
		p.eventually(func(context.Context) (string, error) {
			for _, ip := range p.state().FloatingIPs {
				if ip.AttachState == "detaching" {
					return "", nil
				}
			}
			return "a request that the sled does not answer", nil
		})
		took := beside.failover()
		p.Logf("an address moves within %s as a rule, and within %s beside a silent sled", usual, took)
		if took > usual+time.Second {
			p.Errorf("the move took %s, and takes %s as a rule", took, usual)
		}
		if state := p.state(); carried(state, crowded) != many {
			p.Errorf("%d addresses are on the silent sled, want %d", carried(state, crowded), many)
		}

		p.must(p.rack.RecoverSled(p.Context(), crowded))
		for _, s := range crowd {
			p.movedTo(s.key, s.address, refuge)
		}
	}})
}

// groupLabel divides the Nodes of a pool.
const groupLabel = "e2e.test/group"

// makeIn creates a Service that goes to a group of Nodes only.
func (p *pool) makeIn(group string, i int, port corev1.ServicePort) string {
	p.Helper()
	return p.make(fmt.Sprintf("-%s-%d", group, i), func(s *corev1.Service) {
		s.Annotations[prefix+"node-selector"] = groupLabel + "=" + group
	}, port)
}

func (p *pool) placeIn(group string, port corev1.ServicePort) *placed {
	p.Helper()
	return p.located(p.makeIn(group, 0, port))
}

// failover makes the Node of an address fall silent, and returns how long it took until the address
// was attached elsewhere.
func (s *placed) failover() time.Duration {
	s.Helper()
	began := time.Now()
	s.ready(corev1.ConditionUnknown, s.node)
	s.eventually(func(ctx context.Context) (string, error) {
		state, err := s.rack.State(ctx)
		ip, _ := state.FloatingIP(s.address)
		if err == nil && (ip.AttachState != rack.Attached || ip.Instance == s.node) {
			return "the move of " + s.address, nil
		}
		return "", err
	})
	took := time.Since(began)
	s.servedBy(s.key, s.address)
	return took
}

// carried counts the addresses that are on an instance, or about to leave it.
func carried(state rack.State, instance string) int {
	n := 0
	for _, ip := range state.FloatingIPs {
		if ip.Instance == instance {
			n++
		}
	}
	return n
}
