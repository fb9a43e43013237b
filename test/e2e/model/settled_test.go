// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// unsettled returns what is not yet as it has to become by itself: invariants 6 and 7, and that Nodes
// come and go with their instances.
func (e *expectation) unsettled(s snapshot) problems {
	var found problems
	for name, n := range e.nodes {
		now, there := s.nodes[name]
		instance, _ := s.rack.Instance(name)
		switch {
		case n.removed && there:
			found.add(converges, "the Node %s, whose instance is gone, is there", name)
		case n.present && !n.removed && (objects.HasTaint(&now, objects.UninitializedTaint) ||
			now.Spec.ProviderID != "oxide://"+instance.ID):
			found.add(converges, "the Node %s is not initialized", name)
		}
	}
	for _, name := range e.lent {
		ip, _ := s.named(name)
		borrowed := false
		for _, v := range e.services {
			borrowed = borrowed || e.mayHold(s, v, name)
		}
		if !borrowed && ip.AttachState != detached && !e.isStuck(s, ip) {
			found.add(converges, "%s, which nobody borrows, is %s", name, ip.AttachState)
		}
	}
	for _, v := range e.services {
		if v.balanced && !v.deleted {
			e.unserved(&found, s, v)
		} else {
			e.unreleased(&found, s, v)
		}
	}
	return found
}

// mayHold reports whether a Service may have a user's floating IP attached: it borrows it, or what is to
// take its place is not in use yet, or it cannot go because its own address is stuck.
func (e *expectation) mayHold(s snapshot, v *service, name string) bool {
	isLive := v.balanced && !v.deleted
	if v.borrows == name && isLive {
		return true
	}
	for _, own := range e.of(s, v.name, false) {
		if e.isStuck(s, own) && (v.borrows == name || slices.Contains(v.returns, name)) {
			return true
		}
	}
	instead, _ := e.current(s, v)
	return slices.Contains(v.returns, name) && isLive && instead.AttachState != rack.Attached
}

// unserved finds what a Service that is to have an address lacks.
func (e *expectation) unserved(found *problems, s snapshot, v *service) {
	all := e.served(s, v)
	now := s.services[v.name]
	ip, ok := e.current(s, v)
	if !ok {
		found.add(converges, "%s has no address", v.name)
		return
	}
	if m, _, _, _ := markerOf(ip.Description); v.borrows == "" && m.uid != string(now.UID) {
		found.add(converges, "the address %s is marked as that of another %s", ip.IP, v.name)
	}
	stuck := slices.ContainsFunc(slices.Concat(all, s.allNamed(v.returns)),
		func(ip rack.FloatingIP) bool { return e.isStuck(s, ip) })
	mayHaveTwo := v.wished && (ip.AttachState != rack.Attached || stuck)
	if len(all) > 1 && !mayHaveTwo {
		found.add(converges, "%s has %d addresses: %v", v.name, len(all), all)
	}
	switch ip.AttachState {
	case rack.Attached:
		n := e.nodes[ip.Instance]
		free := e.choices(s, v)
		if ip.Instance != outsider && (n == nil || !n.fit()) && len(free) > 0 && !stuck {
			found.add(converges, "%s is on %s, which is not fit, and could be on %v", v.name,
				ip.Instance, free)
		}
	case detached:
		if free := e.choices(s, v); len(free) > 0 && !stuck {
			found.add(converges, "%s is attached nowhere, and could be on %v", v.name, free)
		}
	default:
		if stuck {
			break // it is tried again and again
		}
		found.add(converges, "the address of %s is %s", v.name, ip.AttachState)
	}
	e.checkPublished(found, s, v, ip)
	if former, ok := e.former(s, v); ok && ip.AttachState == detached && !stuck {
		disputed := slices.ContainsFunc(e.at(s, former.Instance), func(other *service) bool {
			return other != v && overlap(other.ports, v.ports)
		})
		if !disputed {
			checkStatus(found, s, v, former, false)
		}
		return
	}
	if ip.Instance != outsider {
		checkStatus(found, s, v, ip, stuck)
	}
}

// shutdownTaint is the key of the taint of a Node whose instance is stopped.
const shutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

// checkPublished finds other Services that have a port in common with one and publish the IP of the same
// node: a proxy could not tell them apart. For a moment that may be, while an address is stuck and its
// Service gets other ports; and the status of one whose address is on a stranger stays as it was.
func (e *expectation) checkPublished(found *problems, s snapshot, v *service, ip rack.FloatingIP) {
	for _, other := range e.live() {
		if other.name <= v.name || !overlap(other.ports, v.ports) {
			continue
		}
		theirs, _ := e.current(s, other)
		for name := range e.nodes {
			instance, _ := s.rack.Instance(name)
			private := instance.PrivateIPs["v4"]
			// That it is published is the only proof that a user's own address was borrowed.
			lent := s.allNamed(slices.Concat(v.returns, other.returns))
			isStuckThere := e.isStuckAt(s, name, append(lent, ip, theirs)...)
			isAbroad := ip.Instance == outsider || theirs.Instance == outsider
			if !isStuckThere && !isAbroad && publishes(s.services[v.name], private) &&
				publishes(s.services[other.name], private) {
				found.add(onePerPort, "%s and %s both publish the IP of %s", v.name, other.name, name)
			}
		}
	}
}

// former returns the address that a Service had before it asked for another one, if it is in use.
func (e *expectation) former(s snapshot, v *service) (rack.FloatingIP, bool) {
	now, _ := e.current(s, v)
	all := e.served(s, v)
	all = append(all, s.allNamed(v.returns)...)
	i := slices.IndexFunc(all, func(ip rack.FloatingIP) bool {
		return ip.ID != now.ID && ip.AttachState == rack.Attached && ip.Instance != outsider
	})
	if i < 0 || !v.wished {
		return rack.FloatingIP{}, false
	}
	return all[i], true
}

// detached is the attach state of a floating IP that is nowhere.
const detached = "detached"

// checkStatus compares the status of a Service with where its address is. As long as Oxide lets nobody
// move an address, the status may say already where it will be.
func checkStatus(found *problems, s snapshot, v *service, ip rack.FloatingIP, stuck bool) {
	var want []corev1.LoadBalancerIngress
	vip := corev1.LoadBalancerIPModeVIP
	if ip.AttachState == rack.Attached {
		instance, _ := s.rack.Instance(ip.Instance)
		want = []corev1.LoadBalancerIngress{
			{IP: ip.IP, IPMode: &vip}, {IP: instance.PrivateIPs["v4"], IPMode: &vip},
		}
	}
	now := s.services[v.name]
	got := now.Status.LoadBalancer.Ingress
	if stuck {
		for _, each := range want {
			if !slices.ContainsFunc(got, func(i corev1.LoadBalancerIngress) bool {
				return equality.Semantic.DeepEqual(i, each)
			}) {
				found.add(statusIsFact, "the status of %s does not have %s: %v", v.name, each.IP,
					ingressText(got))
			}
		}
		return
	}
	if len(got) != len(want) || len(want) > 0 && !equality.Semantic.DeepEqual(got, want) {
		found.add(statusIsFact, "the status of %s is %v, and the fact %v", v.name, ingressText(got),
			ingressText(want))
	}
}

func ingressText(all []corev1.LoadBalancerIngress) []string {
	texts := []string{}
	for _, each := range all {
		mode := "-"
		if each.IPMode != nil {
			mode = string(*each.IPMode)
		}
		texts = append(texts, each.IP+"/"+mode)
	}
	return texts
}

// unreleased finds what is left of a Service that is not to have an address any more.
func (e *expectation) unreleased(found *problems, s snapshot, v *service) {
	for _, ip := range slices.Concat(e.served(s, v), s.allNamed(v.returns)) {
		if e.isStuck(s, ip) {
			return // and so it stays with its Service
		}
	}
	left := e.of(s, v.name, false)
	if len(left) > 0 {
		found.add(converges, "%s, which wants none, has %v", v.name, left)
	}
	if kept := e.of(s, v.name, true); v.retained && len(kept) == 0 {
		found.add(noneLost, "the address of %s was to be kept", v.name)
	}
	now, there := s.services[v.name]
	switch {
	case v.deleted && there:
		found.add(converges, "the Service %s is not gone", v.name)
	case there && len(now.Status.LoadBalancer.Ingress) > 0:
		found.add(statusIsFact, "the status of %s, which wants no address, is %v", v.name,
			ingressText(now.Status.LoadBalancer.Ingress))
	case there && len(now.Finalizers) > 0:
		found.add(converges, "%s, which wants no address, has the finalizers %v", v.name, now.Finalizers)
	}
}
