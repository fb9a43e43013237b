// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		if !e.isBorrowed(s, name) && ip.AttachState != detached && !e.isStuck(s, ip) {
			found.add(converges, "%s, which nobody borrows, is %s", name, ip.AttachState)
		}
	}
	e.checkForeign(&found, s)
	for _, v := range e.services {
		if isLive(v) {
			e.unserved(&found, s, v)
		} else {
			e.unreleased(&found, s, v)
		}
	}
	return found
}

// isBorrowed reports whether a Service may have an address that belongs to somebody else.
func (e *expectation) isBorrowed(s snapshot, name string) bool {
	for _, v := range e.services {
		if e.mayHold(s, v, name) {
			return true
		}
	}
	return false
}

// mayHold reports whether a Service may have a user's floating IP attached: it borrows it, or what is to
// take its place is not in use yet, or it cannot go because its own address is stuck.
func (e *expectation) mayHold(s snapshot, v *service, name string) bool {
	if v.borrows == name && isLive(v) {
		return true
	}
	isAsked := v.borrows == name || slices.Contains(v.returns, name)
	if isAsked && e.areStuck(s, e.of(s, v.name, false)...) > 0 {
		return true
	}
	return slices.Contains(v.returns, name) && isLive(v) && !areServed(e.current(s, v))
}

// areServed reports whether there are addresses and all are attached.
func areServed(ips []rack.Carried) bool {
	return len(ips) > 0 && !slices.ContainsFunc(ips, func(ip rack.Carried) bool {
		return ip.AttachState != rack.Attached
	})
}

// unserved finds what a Service that is to have addresses lacks.
func (e *expectation) unserved(found *problems, s snapshot, v *service) {
	now := s.services[v.name]
	current, extra := e.current(s, v), e.extra(s, v)
	e.checkCount(found, s, v, current)
	if len(current) == 0 {
		return
	}
	former := slices.Concat(extra, s.allNamed(v.returns))
	isFormerStuck := e.areStuck(s, former...) > 0
	isHeldUp := e.awaitsPlace(s, current) || e.areStuck(s, current...) > 0 || isFormerStuck
	if len(extra) > 0 && (!v.exchanging || !isHeldUp) {
		found.add(converges, "%s has %d addresses too many: %v", v.name, len(extra), extra)
	}
	for i, ip := range current {
		if m, _, _, _ := markerOf(ip.Description); v.borrows == "" && m.uid != string(now.UID) {
			found.add(converges, "the address %s is marked as that of another %s", ip.Addr, v.name)
		}
		if isFormerStuck || e.isStuck(s, ip) {
			continue // it is tried again and again
		}
		// Each that is stuck may be on its way to a node that is still free.
		siblings := slices.Delete(slices.Clone(current), i, i+1)
		free, stuck := e.choices(s, v, ip), e.areStuck(s, siblings...)
		isFree := len(free) > stuck
		e.checkDrained(found, s, v, ip, stuck)
		switch {
		case ip.AttachState == detached && isFree:
			found.add(converges, "%s of %s is attached nowhere, and could be on %v", ip.Addr, v.name, free)
		case ip.AttachState == rack.Attached && !e.isFit(ip.Instance) && !isAbroad(ip) && isFree:
			found.add(converges, "%s of %s is on %s, which is not fit, and could be on %v", ip.Addr, v.name,
				ip.Instance, free)
		case ip.AttachState != detached && ip.AttachState != rack.Attached:
			found.add(converges, "the address %s of %s is %s", ip.Addr, v.name, ip.AttachState)
		}
	}
	e.checkApart(found, s, v)
	e.checkPublished(found, s, v)
	e.checkStatus(found, s, v)
	e.checkCondition(found, s, v)
	e.checkFirewall(found, s, v)
	if !slices.Contains(now.Finalizers, v.finalizer()) {
		found.add(converges, "%s has the finalizers %v, and not %s", v.name, now.Finalizers, v.finalizer())
	}
}

// checkCount finds kinds of addresses of which a Service has too few.
func (e *expectation) checkCount(found *problems, s snapshot, v *service, current []rack.Carried) {
	if v.borrows != "" {
		if len(current) == 0 {
			found.add(converges, "%s has no address", v.name)
		}
		return
	}
	for _, kind := range v.kinds() {
		n := 0
		for _, ip := range current {
			if kind.has(ip) {
				n++
			}
		}
		switch owed := e.owed(s, v, kind); {
		case n == 0 && owed > 0:
			found.add(converges, "%s has no address: %s", v.name, kind)
		case n < owed:
			found.add(converges, "%s has %d addresses of %d: %s", v.name, n, owed, kind)
		}
	}
}

// awaitsPlace reports whether an address is on a stranger, or attached nowhere although a fit node does
// not carry another one of the Service: then what it had before is kept.
func (e *expectation) awaitsPlace(s snapshot, current []rack.Carried) bool {
	return slices.ContainsFunc(current, func(ip rack.Carried) bool {
		if ip.AttachState != detached {
			return ip.AttachState != rack.Attached || isAbroad(ip)
		}
		usable, siblings := 0, 0
		for name, n := range e.nodes {
			if !n.fit() || s.private(name, ip.Version()) == "" {
				continue
			}
			usable++
			if slices.ContainsFunc(current, func(other rack.Carried) bool {
				return other.Instance == name && other.Version() == ip.Version()
			}) {
				siblings++
			}
		}
		return usable == 0 || siblings < usable
	})
}

// shutdownTaint is the key of the taint of a Node whose instance is stopped.
const shutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

// checkPublished finds other Services that have a port in common with one and publish the IP of the same
// node: a proxy could not tell them apart. For a moment that may be, while an address is stuck and its
// Service gets other ports; and the status of one whose address is on a stranger stays as it was.
func (e *expectation) checkPublished(found *problems, s snapshot, v *service) {
	// all are the addresses that may still be published: that it is published is the only proof that a
	// user's own was borrowed.
	all := func(v *service) []rack.Carried {
		return slices.Concat(e.served(s, v), s.allNamed(v.returns))
	}
	for _, other := range e.live() {
		if other.name <= v.name || !overlap(other.ports, v.ports) {
			continue
		}
		both := slices.Concat(all(v), all(other))
		for name := range e.nodes {
			isStuckThere := slices.ContainsFunc(both, func(ip rack.Carried) bool {
				return ip.Instance == name && e.isStuck(s, ip)
			})
			if isStuckThere || slices.ContainsFunc(both, isAbroad) {
				continue
			}
			for _, version := range []string{"v4", "v6"} {
				private := s.private(name, version)
				if private != "" && publishes(s.services[v.name], private) &&
					publishes(s.services[other.name], private) {
					found.add(onePerPort, "%s and %s both publish the IP%s of %s", v.name, other.name, version,
						name)
				}
			}
		}
	}
}

// detached is the attach state of an address that is nowhere.
const detached = "detached"

// checkStatus compares the status of a Service with where its addresses are: those that it is served by,
// and those that it had before, as long as they are in use. They come first, in the order of its
// families, and then the private addresses of the nodes that carry floating IPs. As long as Oxide lets
// nobody move an address, the status may say already where it will be; where another Service has the
// ports of one that it had before, and while one is on a stranger, it may lack that.
func (e *expectation) checkStatus(found *problems, s snapshot, v *service) {
	current, former := e.current(s, v), slices.Concat(e.extra(s, v), s.allNamed(v.returns))
	isLoose := e.areStuck(s, slices.Concat(current, former)...) > 0
	var want, places []string
	use := func(ip rack.Carried) {
		if ip.AttachState != rack.Attached || slices.Contains(want, ip.Addr) {
			return
		}
		want = append(want, ip.Addr)
		place := s.private(ip.Instance, ip.Version())
		if !ip.Subnet && !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	for _, ip := range current {
		if isAbroad(ip) {
			isLoose = true
		} else {
			use(ip)
		}
	}
	ordered := len(want)
	for _, ip := range former {
		isDisputed := !ip.Subnet && slices.ContainsFunc(e.at(s, ip.Instance, ip.Version()),
			func(other *service) bool { return other != v && overlap(other.ports, v.ports) })
		switch {
		case ip.AttachState != rack.Attached:
		case isDisputed || isAbroad(ip) || areServed(current) || e.isStuck(s, ip):
			isLoose = true
		default:
			use(ip)
		}
	}
	now := s.services[v.name]
	var got []string
	for _, each := range now.Status.LoadBalancer.Ingress {
		if each.IPMode == nil || *each.IPMode != corev1.LoadBalancerIPModeVIP {
			found.add(statusIsFact, "a mode in the status of %s is not VIP: %v", v.name,
				ingressText(now.Status.LoadBalancer.Ingress))
		}
		got = append(got, each.IP)
	}
	wrong := func() {
		found.add(statusIsFact, "the status of %s is %v, and the fact %v and %v", v.name, got, want, places)
	}
	if isLoose {
		for _, each := range slices.Concat(want, places) {
			if !slices.Contains(got, each) {
				wrong()
			}
		}
		return
	}
	if len(got) != len(want)+len(places) ||
		!slices.Equal(slices.Sorted(slices.Values(got[:len(want)])), slices.Sorted(slices.Values(want))) ||
		!slices.Equal(slices.Sorted(slices.Values(got[len(want):])), slices.Sorted(slices.Values(places))) {
		wrong()
		return
	}
	if ordered < len(want) {
		return
	}
	for i := range want {
		if (rack.Carried{Addr: got[i]}).Version() != (rack.Carried{Addr: want[i]}).Version() {
			wrong()
			return
		}
	}
}

// readyCondition is the type of the condition that says whether a Service is served.
const readyCondition = "oxide.computer/LoadBalancerReady"

// checkCondition holds that the condition of a Service says whether each of its addresses is in use
// where it can serve. One of a family that is only preferred need not be, where no node has that.
func (e *expectation) checkCondition(found *problems, s snapshot, v *service) {
	current := e.current(s, v)
	if e.areStuck(s, slices.Concat(e.served(s, v), s.allNamed(v.returns))...) > 0 {
		return
	}
	want := metav1.ConditionTrue
	for _, ip := range current {
		isExcused := v.prefers && ip.AttachState == detached && !e.isCarried(s, ip.Version()) &&
			slices.ContainsFunc(current, func(other rack.Carried) bool {
				return other.Version() != ip.Version() && other.AttachState == rack.Attached
			})
		if !isExcused && (ip.AttachState != rack.Attached || !e.isFit(ip.Instance)) {
			want = metav1.ConditionFalse
		}
	}
	now := meta.FindStatusCondition(s.services[v.name].Status.Conditions, readyCondition)
	if now == nil || now.Status != want {
		found.add(statusIsFact, "the condition of %s is %v, and is to be %s", v.name, now, want)
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
	if e.areStuck(s, slices.Concat(e.served(s, v), s.allNamed(v.returns))...) > 0 {
		return // and so they stay with their Service
	}
	if rules := s.firewall.Of(namespace + "/" + v.name); len(rules) > 0 {
		found.add(portsOpen, "%s, which wants no address, has %d firewall rules", v.name, len(rules))
	}
	left := e.of(s, v.name, false)
	if len(left) > 0 {
		found.add(converges, "%s, which wants none, has %v", v.name, left)
	}
	kept := e.of(s, v.name, true)
	for _, a := range v.kept {
		if !slices.ContainsFunc(kept, func(ip rack.Carried) bool { return ip.ID == a.id }) {
			found.add(noneLost, "the address %s of %s was to be kept", a.ip, v.name)
		}
	}
	now, there := s.services[v.name]
	switch {
	case v.deleted && there:
		found.add(converges, "the Service %s is not gone", v.name)
	case there && len(now.Status.LoadBalancer.Ingress) > 0:
		found.add(statusIsFact, "the status of %s, which wants no address, is %v", v.name,
			ingressText(now.Status.LoadBalancer.Ingress))
	case there && meta.FindStatusCondition(now.Status.Conditions, readyCondition) != nil:
		found.add(statusIsFact, "%s, which wants no address, has a condition of ours", v.name)
	case there && len(now.Finalizers) > 0:
		found.add(converges, "%s, which wants no address, has the finalizers %v", v.name, now.Finalizers)
	}
}
