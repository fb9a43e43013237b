// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// TestServicesWithOnePort are each answered by their own pods: with floating IPs on a node each, and
// with an external subnet wherever it is.
func TestServicesWithOnePort(t *testing.T) {
	s := newScene(t)
	s.keeps("Services with one port, each with its own pods")
	s.steadily(func(try int32) { s.onePort(8600 + 1000*try) })
}

// onePort makes three Services with one port, and calls them.
func (s *scene) onePort(port int32) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	one := s.make(wanted{prefix: "one", first: port, udp: true})[0]
	two := s.make(wanted{prefix: "two", first: port, udp: true, podPort: otherPodPort})[0]
	three := s.make(wanted{
		prefix: "three", first: port, udp: true, podPort: otherPodPort,
		annotations: map[string]string{
			sourceAnnotation:               routed,
			"oxide.computer/node-selector": "kubernetes.io/hostname=" + one.machine.name,
		},
	})[0]
	if one.machine == two.machine || one.machine != three.machine {
		s.Fatalf("the Services are on %s, %s and %s", one.machine.name, two.machine.name, three.machine.name)
	}
	for _, of := range []service{one, two, three} {
		want := map[int32]string{podPort: "8080", otherPodPort: "8081"}[of.made.podPort]
		clients := s.call(clientNamespace, "", of, newTCP, newUDP)
		s.must(clients.await(ctx, enough))
		for g := range s.allAnswered(clients) {
			if g.Port != want {
				s.Errorf("%s was answered by %+v, want one at port %s", of.name, g, want)
			}
		}
	}
}

// TestLocalShowsTheClient: with externalTrafficPolicy Local pods see the address of the client, and the
// address of the Service is where there are pods. It leaves when they end, and nothing else is lost.
func TestLocalShowsTheClient(t *testing.T) {
	for i, kind := range sources {
		t.Run(kind.name, func(t *testing.T) {
			s := newSceneIf(t, i == 0)
			s.keeps("`externalTrafficPolicy: Local`: pods see the client: " + kind.name)
			s.steadily(func(try int32) { s.local(kind, 8620+int32(i)+1000*try) })
		})
	}
}

// local has the pods of a new Service end on the node that carries its address.
func (s *scene) local(kind source, port int32) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	w := kind.wanted("local", port)
	w.on = s.machines[2:4]
	w.change = func(object *corev1.Service) {
		object.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	of := s.make(w)[0]
	if !slices.Contains(w.on, of.machine) {
		s.Fatalf("the address is on %s, which has no pod", of.machine.name)
	}
	clients := s.call(clientNamespace, "", of, kinds...)
	s.must(clients.await(ctx, enough))
	begun := time.Now()
	s.setEndpoints(ctx, of, map[*machine]endpointState{of.machine: ending})
	move, err := s.crossing.moved(ctx, begun, of.address)
	s.must(err)
	s.must(clients.await(ctx, 3*enough))
	for g := range greeted(s.losesNothing("pods end, Local: "+kind.name, clients, move)) {
		if g.Client != clientAddress && g.Client != clientAddress6 || g.Machine != move.from &&
			g.Machine != move.to {
			s.Errorf("a pod on %s saw %s", g.Machine, g.Client)
		}
	}
}

// TestSourceRanges: whoever is not in loadBalancerSourceRanges gets no answer, inside the cluster
// neither, and a change of them is followed.
func TestSourceRanges(t *testing.T) {
	for i, kind := range sources {
		if kind.family != corev1.IPv4Protocol {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			s := newSceneIf(t, i == 0)
			s.keeps("`loadBalancerSourceRanges`: " + kind.name)
			s.steadily(func(try int32) { s.ranges(kind, 8640+int32(i)+1000*try) })
		})
	}
}

// ranges lets one client of a new Service in, and then another one.
func (s *scene) ranges(kind source, port int32) {
	s.Helper()
	ctx, cancel := s.within(limit)
	defer cancel()
	w := kind.wanted("ranges", port)
	w.change = func(object *corev1.Service) {
		object.Spec.LoadBalancerSourceRanges = []string{clientAddress + "/32"}
	}
	of := s.make(w)[0]
	s.letsIn(ctx, of, clientAddress, otherAddress, newTCP, newUDP)
	services := s.client.CoreV1().Services("default")
	s.must(objects.Change(ctx, of.name, services.Get, services.Update, func(object *corev1.Service) {
		object.Spec.LoadBalancerSourceRanges = []string{otherAddress + "/32"}
	}))
	// By UDP a flow that there was goes on, and a new one may have its port.
	s.letsIn(ctx, of, otherAddress, clientAddress, newTCP)
}

// letsIn checks that a Service answers one client, and neither another one nor a pod.
func (s *scene) letsIn(ctx context.Context, of service, in, out string, kinds ...string) {
	s.Helper()
	// Until the proxies have it.
	first := s.call(clientNamespace, in, of, kinds...)
	s.must(first.await(ctx, enough))
	_, err := first.stop()
	s.must(err)
	welcome := s.call(clientNamespace, in, of, kinds...)
	stranger := s.call(clientNamespace, out, of, kinds...)
	pod := s.call(s.another(of).podNamespace, "", of, kinds...)
	s.must(welcome.await(ctx, 5*enough))
	end(welcome, stranger, pod)
	for g := range s.allAnswered(welcome) {
		if g.Client == in {
			s.Errorf("a pod sees the client, %s, without Local", in)
		}
	}
	for who, clients := range map[string]*traffic{out: stranger, "a pod": pod} {
		requests, err := clients.stop()
		s.must(err)
		if seen := greeted(requests); len(requests) < enough || len(seen) > 0 {
			s.Errorf("%s, which no range has, made %d requests, and was answered by %v", who,
				len(requests), seen)
		}
	}
}
