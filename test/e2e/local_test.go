// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// endpoint is one of a Service's, on a Node.
type endpoint struct {
	node string
	// leaving endpoints are about to end and still serve; starting ones are not ready yet.
	leaving, starting bool
}

// endpoints sets the endpoints of a Service, as the control plane would.
func (p *pool) endpoints(service string, all ...endpoint) {
	p.Helper()
	port, tcp := int32(8080), corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-slice",
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port, Protocol: &tcp}},
	}
	for i, one := range all {
		ready, serving := !one.leaving && !one.starting, !one.starting
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.244.0." + string(rune('1'+i))}, NodeName: &one.node,
			Conditions: discoveryv1.EndpointConditions{
				Ready: &ready, Serving: &serving, Terminating: &one.leaving,
			},
		})
	}
	slices := p.client.DiscoveryV1().EndpointSlices("default")
	_, err := slices.Create(p.Context(), slice, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = slices.Update(p.Context(), slice, metav1.UpdateOptions{})
	}
	p.must(err)
}

func local(service *corev1.Service) {
	service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// Other nodes drop what arrives: so the address is where endpoints are, and goes where they go.
func localFollows(p *pool) {
	service := p.make("", local, objects.TCP(80))
	address := p.reserved(service)
	p.warned(service, "NoCandidate", address, "ready endpoint")
	p.endpoints(service, endpoint{node: p.nodes[1]})
	p.movedTo(service, address, p.nodes[1])
	p.endpoints(service, endpoint{node: p.nodes[1]}, endpoint{node: p.nodes[0]})
	s := p.located(service)
	s.stayed()
	p.endpoints(service, endpoint{node: p.nodes[2]})
	p.movedTo(service, address, p.nodes[2])
}

// A Deployment replaces a pod by one on another node: the address moves once, when the old pod has
// ended.
func localRollingUpdate(p *pool) {
	service := p.make("", local, objects.TCP(80))
	from, to := p.nodes[0], p.nodes[1]
	p.endpoints(service, endpoint{node: from})
	s := p.located(service)
	for _, state := range [][]endpoint{
		{{node: from}, {node: to, starting: true}},
		{{node: from}, {node: to}},
	} {
		p.endpoints(service, state...)
		s.stayed()
	}
	// What is there is about to end and serves until then: the address leaves before it ends.
	p.endpoints(service, endpoint{node: from, leaving: true}, endpoint{node: to})
	p.movedTo(service, s.address, to)
	p.endpoints(service, endpoint{node: to})
	p.settled()
	if n, _ := asked(s.changes(), "floating_ip_attach"); n != 2 {
		p.Errorf("the address was attached %d times, want 2", n)
	}
}
