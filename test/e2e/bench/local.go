// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// localSamples is how often an endpoint leaves.
const localSamples = 7

// failoverOfLocal measures Services whose address has to be where an endpoint is: the one on the node
// that carries the address is terminating, while another node has one that is ready. Until the address
// is detached, the terminating one serves; from then until it is attached elsewhere the Service is dark.
func failoverOfLocal(ctx context.Context, w *world) (figures, error) {
	c, err := w.newCompany(ctx, "-local", 2*localSamples)
	if err != nil {
		return nil, err
	}
	for i := range localSamples {
		_, err := c.cluster.Client.DiscoveryV1().EndpointSlices("default").Create(ctx,
			endpoints(onPair(i).Name, c.nodes[2*i], c.nodes[2*i+1]), metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
	}
	services, err := c.settle(ctx, localSamples, func(i int) *corev1.Service {
		s := onPair(i)
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		return s
	})
	if err != nil {
		return nil, err
	}
	var times, dark []time.Duration
	for i, s := range services {
		// Both endpoints stay where they are, and the carrier's begins to end.
		slice := endpoints(s.service, c.nodes[2*i], c.nodes[2*i+1])
		ready, terminating := false, true
		for j := range slice.Endpoints {
			if one := &slice.Endpoints[j]; *one.NodeName == s.node {
				one.Conditions.Ready, one.Conditions.Terminating = &ready, &terminating
			}
		}
		began := time.Now()
		if _, err := c.cluster.Client.DiscoveryV1().EndpointSlices("default").Update(ctx, slice,
			metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
		_, took, err := c.failover(ctx, s, began)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
		unreachable, err := c.detachedFor(began)
		if err != nil {
			return nil, err
		}
		dark = append(dark, unreachable)
	}
	return figures{
		"failover_local_endpoint_seconds": median("the endpoint of a Local Service leaves", times),
		"failover_local_dark_seconds":     median("its address is detached", dark),
	}, c.ccm.Stop()
}

// detachedFor returns how long the one address that has moved since then was attached nowhere: from the
// request to detach it until it was attached.
func (c *company) detachedFor(since time.Time) (time.Duration, error) {
	requests, err := c.rack.Log()
	if err != nil {
		return 0, err
	}
	var from, to time.Time
	for _, request := range requests {
		switch {
		case request.Began.Before(since) || !request.OK():
		case request.Operation == "floating_ip_detach" && from.IsZero():
			from = request.Began
		case request.Operation == "floating_ip_attach":
			to = request.Ended
		}
	}
	if from.IsZero() || to.Before(from) {
		return 0, errors.New("the rack's log has no move")
	}
	return to.Sub(from), nil
}

// endpoints returns the endpoints of a Service, one that is ready on each of these nodes, as the control
// plane would.
func endpoints(service string, nodes ...string) *discoveryv1.EndpointSlice {
	port, tcp := int32(8080), corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-slice",
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port, Protocol: &tcp}},
	}
	for i, node := range nodes {
		ready, serving, terminating := true, true, false
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.244.0." + string(rune('1'+i))}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{
				Ready: &ready, Serving: &serving, Terminating: &terminating,
			},
		})
	}
	return slice
}
