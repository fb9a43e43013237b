// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// quickLease lets a standby take over soon.
var quickLease = []string{
	"--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s",
	"--leader-elect-retry-period=500ms",
}

// standby starts a further replica.
func (e *environment) standby(name string, shimFlags ...string) *stack.CCM {
	e.Helper()
	options := e.ccmOptions(settings{shimFlags: shimFlags})
	options.Standby, options.Name = true, name
	options.Dir = filepath.Join(e.dir, "standby"+name)
	e.must(os.Mkdir(options.Dir, 0o700))
	standby, err := stack.StartCCM(e.Context(), options)
	e.must(err)
	return standby
}

// The framework tells of a changed set of Nodes once and never again, even if it is told that
// nothing came of it: so what fails is tried again by us.
func TestAMoveThatFailsIsTriedAgain(t *testing.T) {
	together(t, settings{}, row{"many moves, some requests spoilt", "spoilt", 12, func(p *pool) {
		var all []*placed
		for i := range 6 {
			for _, node := range p.nodes[2*i : 2*i+2] {
				p.label(node, groupLabel, fmt.Sprintf("pair-%d", i))
			}
			all = append(all, p.placeIn(fmt.Sprintf("pair-%d", i), objects.TCP(80)))
		}
		busy := rack.Fault{Status: http.StatusServiceUnavailable, ErrorCode: "ServiceNotAvailable"}
		for _, operation := range []string{
			"floating_ip_detach", "floating_ip_attach", "floating_ip_list",
		} {
			fault := busy
			fault.Operation, fault.Times = operation, 2
			p.must(p.rack.AddFault(p.Context(), fault))
			lost := rack.Fault{Operation: operation, Times: 1, Reset: true, Execute: true}
			p.must(p.rack.AddFault(p.Context(), lost))
		}
		for _, s := range all {
			p.deleteNode(s.node)
		}
		for _, s := range all {
			s.movedTo(s.key, s.address, s.partner())
		}
		if n := len(p.state().FloatingIPs); n != len(all) {
			p.Errorf("the rack has %d floating IPs, want %d", n, len(all))
		}
	}})
}

// partner returns the other Node of the pair that a Service is in.
func (s *placed) partner() string {
	for i := 0; i < len(s.nodes); i += 2 {
		switch s.node {
		case s.nodes[i]:
			return s.nodes[i+1]
		case s.nodes[i+1]:
			return s.nodes[i]
		}
	}
	return ""
}

// Invariant 6: either program may die in the middle of a move, and the move comes to its end.
func TestAMoveSurvivesTheEndOfEitherProgram(t *testing.T) {
	together(t, settings{shimFlags: quickLease}, row{"in the middle", "middle", 8, func(p *pool) {
		leader := p.ccm
		backendEnds := func() {
			leader.Backend.Kill()
			p.must(leader.StartBackend(p.Context()))
		}
		for i, tt := range []struct {
			name  string
			await func(*placed)
			// standby is the name of a further replica, which takes over; empty: the backend ends.
			standby string
		}{
			{"the status has both nodes, and the backend ends", (*placed).awaitBothPublished, ""},
			{"the address is detached, and the backend ends", (*placed).awaitDetached, ""},
			{"the status has both nodes, and the leader ends", (*placed).awaitBothPublished, "-2nd"},
			{"the address is detached, and the leader ends", (*placed).awaitDetached, "-3rd"},
		} {
			p.Run(tt.name, func(t *testing.T) {
				p := &pool{p.within(t), p.name, p.nodes[2*i : 2*i+2], p.exempt}
				next := leader
				if tt.standby != "" {
					next = p.standby(tt.standby, quickLease...)
				}
				for _, node := range p.nodes {
					p.label(node, groupLabel, p.nodes[0])
				}
				s := p.placeIn(p.nodes[0], objects.TCP(80))
				// Long enough to be met in between.
				p.must(p.rack.AddFault(p.Context(), rack.Fault{
					Operation: "floating_ip_attach", Times: 1, LatencyMS: 1000,
				}))
				p.label(s.node, corev1.LabelNodeExcludeBalancers, "")
				tt.await(s)
				if next == leader {
					backendEnds()
				} else {
					leader.Shim.Kill()
					leader = next
				}
				s.moved()
				// A new Service, too, which the backend attaches nowhere before it knows all
				// others.
				p.makeIn(p.nodes[0], 1, objects.TCP(81))
				p.located(p.name + "-" + p.nodes[0] + "-1")
			})
		}
	}})
}

func (s *placed) awaitBothPublished() {
	s.Helper()
	s.eventually(func(context.Context) (string, error) {
		if len(s.service(s.key).Status.LoadBalancer.Ingress) < 3 {
			return "both nodes in the status", nil
		}
		return "", nil
	})
}

func (s *placed) awaitDetached() {
	s.Helper()
	s.eventually(func(context.Context) (string, error) {
		if ip := s.ip(); ip.AttachState == rack.Attached {
			return "the end of the attachment to " + ip.Instance, nil
		}
		return "", nil
	})
}
