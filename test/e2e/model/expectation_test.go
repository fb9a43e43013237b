// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// expectation is what must be, by all operations so far.
type expectation struct {
	// scope is the cluster's id, which the markers of its addresses carry.
	scope    string
	services map[string]*service
	nodes    map[string]*node
	// others are floating IPs that nobody but a test may change, by id. Those of these names may be
	// attached and detached: Services ask for them.
	others map[string]rack.FloatingIP
	lent   []string
}

// service is a Service that there is, or that was deleted while something of it may be left.
type service struct {
	name  string
	ports []corev1.ServicePort
	// wish is the address that it asks for; empty: any.
	wish string
	// borrows is the name of a user's own floating IP that it asks for; empty: it has one of its own.
	borrows string
	// returns are the names of those that it is to give back; what takes their place must be in use before.
	returns []string
	// balanced: it is of type LoadBalancer. deleted: it is to go.
	balanced, deleted bool
	retain            bool
	// retained: it went, and its address was to be kept.
	retained bool
	// had are its addresses as they were last found settled; the one in use is the first.
	had []address
	// kept are addresses that were retained when it went.
	kept []address
	// wished: it asked for another address, so it may have two as long as one of them cannot be used.
	wished bool
}

// address is a floating IP that a Service has.
type address struct {
	id, ip, name string
	// text is what a user has written into the description, besides the marker.
	text string
	// renamed: a user has given it another name.
	renamed bool
}

// node is a Node and its instance.
type node struct {
	name string
	uid  types.UID
	// present: the Node and its instance are there. removed: the instance is gone, and the Node is to
	// go, too.
	present, removed bool
	ready            corev1.ConditionStatus
	// lost: the sled of the instance does not answer.
	lost     bool
	excluded bool
	// run is the state of the instance.
	run string
	// fitSince is when it was first found able to carry addresses; zero: it is not.
	fitSince time.Time
}

// fit reports whether a node can carry addresses.
func (n *node) fit() bool {
	return n.present && !n.removed && !n.lost && n.ready == corev1.ConditionTrue && !n.excluded &&
		n.run == running
}

// Run states of instances.
const (
	running = "running"
	stopped = "stopped"
	failed  = "failed"
)

// snapshot is what is, on the rack and in Kubernetes, at about one moment.
type snapshot struct {
	rack     rack.State
	services map[string]corev1.Service
	nodes    map[string]corev1.Node
}

// marker is the line by which the cluster says that a floating IP is a Service's.
type marker struct {
	scope, name, uid string
	retained         bool
}

const markerPrefix = "oxide-ccm/"

var markerPattern = regexp.MustCompile(
	`^oxide-ccm/v1 scope=(\S+) name=(\S+) uid=(\S+) family=v4 source=\S+( retained)?$`)

// markerOf returns the marker in a description, and the rest of it.
func markerOf(description string) (m marker, line, text string, marked bool) {
	var rest []string
	for _, each := range strings.Split(description, "\n") {
		if !strings.HasPrefix(each, markerPrefix) {
			rest = append(rest, each)
			continue
		}
		line = each
		if fields := markerPattern.FindStringSubmatch(each); fields != nil {
			m, marked = marker{fields[1], fields[2], fields[3], fields[4] != ""}, true
		}
	}
	return m, line, strings.Join(rest, "\n"), marked
}

// namespace is where all Services are.
const namespace = "default"

// of returns the floating IPs that are marked as a Service's, retained ones or the others, in a stable
// order: attached ones first.
func (e *expectation) of(s snapshot, name string, retained bool) []rack.FloatingIP {
	var all []rack.FloatingIP
	for _, ip := range s.rack.FloatingIPs {
		m, _, _, marked := markerOf(ip.Description)
		_, other := e.others[ip.ID]
		if marked && !other && m.scope == e.scope && m.name == namespace+"/"+name &&
			m.retained == retained {
			all = append(all, ip)
		}
	}
	slices.SortStableFunc(all, func(a, b rack.FloatingIP) int {
		if a.AttachState == b.AttachState {
			return 0
		}
		if a.AttachState == rack.Attached {
			return -1
		}
		return 1
	})
	return all
}

// current returns the floating IP that a Service is served by; false: it has none, or more than one
// that could be.
func (e *expectation) current(s snapshot, v *service) (rack.FloatingIP, bool) {
	if v.borrows != "" {
		return s.named(v.borrows)
	}
	all := e.of(s, v.name, false)
	if v.wish != "" {
		all = slices.DeleteFunc(all, func(ip rack.FloatingIP) bool { return ip.IP != v.wish })
	}
	if len(all) == 0 {
		return rack.FloatingIP{}, false
	}
	return all[0], true
}

// named returns the floating IP of a name, false if there is none.
func (s snapshot) named(name string) (rack.FloatingIP, bool) {
	i := slices.IndexFunc(s.rack.FloatingIPs, func(ip rack.FloatingIP) bool { return ip.Name == name })
	if i < 0 {
		return rack.FloatingIP{}, false
	}
	return s.rack.FloatingIPs[i], true
}

// allNamed returns the floating IPs of names.
func (s snapshot) allNamed(names []string) (all []rack.FloatingIP) {
	for _, name := range names {
		if ip, ok := s.named(name); ok {
			all = append(all, ip)
		}
	}
	return all
}

// served returns all floating IPs that serve a Service, or may: its own and the one that it borrows.
func (e *expectation) served(s snapshot, v *service) []rack.FloatingIP {
	all := e.of(s, v.name, false)
	if ip, ok := s.named(v.borrows); ok && v.borrows != "" {
		all = append(all, ip)
	}
	return all
}

// reservedPorts are some of those that no Service may take from the nodes.
var reservedPorts = []int32{6443}

func hasReserved(ports []corev1.ServicePort) bool {
	return slices.ContainsFunc(ports, func(p corev1.ServicePort) bool {
		return slices.Contains(reservedPorts, p.Port)
	})
}

// overlap reports whether two Services have a port in common.
func overlap(a, b []corev1.ServicePort) bool {
	return slices.ContainsFunc(a, func(p corev1.ServicePort) bool {
		return slices.ContainsFunc(b, func(q corev1.ServicePort) bool {
			return p.Protocol == q.Protocol && p.Port == q.Port
		})
	})
}

// live returns the Services that are to have an address, by name in order.
func (e *expectation) live() []*service {
	var all []*service
	for _, v := range e.services {
		if v.balanced && !v.deleted {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	return all
}

// at returns the live Services that have an address on an instance.
func (e *expectation) at(s snapshot, instance string) []*service {
	var all []*service
	for _, v := range e.live() {
		if slices.ContainsFunc(e.served(s, v), func(ip rack.FloatingIP) bool {
			return ip.Instance == instance
		}) {
			all = append(all, v)
		}
	}
	return all
}

// choices returns the nodes that could carry a Service's address, where it is free.
func (e *expectation) choices(s snapshot, v *service) []string {
	if hasReserved(v.ports) {
		return nil
	}
	var names []string
	for name, n := range e.nodes {
		taken := slices.ContainsFunc(slices.Concat(e.at(s, name), e.stuckFor(s, name)),
			func(other *service) bool { return other != v && overlap(other.ports, v.ports) })
		if n.fit() && !taken {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// stuckFor returns the Services whose addresses are stuck and are to go to a node: their statuses say so
// already, so nobody else may have their ports there.
func (e *expectation) stuckFor(s snapshot, to string) []*service {
	instance, _ := s.rack.Instance(to)
	var all []*service
	for _, v := range e.live() {
		ip, ok := e.current(s, v)
		if ok && e.isStuck(s, ip) && publishes(s.services[v.name], instance.PrivateIPs["v4"]) {
			all = append(all, v)
		}
	}
	return all
}

// publishes reports whether the status of a Service has an IP.
func publishes(object corev1.Service, ip string) bool {
	return slices.ContainsFunc(object.Status.LoadBalancer.Ingress,
		func(i corev1.LoadBalancerIngress) bool { return i.IP == ip })
}

// isStuck reports whether a floating IP is where Oxide lets nobody take it off.
func (e *expectation) isStuck(s snapshot, ip rack.FloatingIP) bool {
	instance, there := s.rack.Instance(ip.Instance)
	n := e.nodes[ip.Instance]
	return ip.Instance != "" && there && (instance.RunState == failed || n != nil && n.lost)
}

// isStuckAt reports whether one of the addresses is stuck on an instance.
func (e *expectation) isStuckAt(s snapshot, instance string, ips ...rack.FloatingIP) bool {
	return slices.ContainsFunc(ips, func(ip rack.FloatingIP) bool {
		return ip.Instance == instance && e.isStuck(s, ip)
	})
}

// steady returns the floating IPs of a snapshot, without what those do again and again that are stuck.
func (e *expectation) steady(s snapshot) []rack.FloatingIP {
	all := slices.Clone(s.rack.FloatingIPs)
	for i := range all {
		if e.isStuck(s, all[i]) {
			all[i].AttachState = "stuck"
		}
	}
	return all
}
