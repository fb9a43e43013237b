// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"cmp"
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
	// others are addresses that nobody but a test may change, by id. Those of these names, which are
	// floating IPs, may be attached and detached: Services ask for them.
	others map[string]rack.Carried
	lent   []string
	// rivals: two replicas lead at once.
	rivals bool
	// foreign are the firewall rules that another client has written or removed, by name: whether each is to
	// be there. foreignText is what Oxide shows of each, but for its name.
	foreign     map[string]bool
	foreignText string
	// isRewritten: another client wrote the rules of the firewall since the last operation began.
	isRewritten bool
	// renamed are the addresses, by id, to which a user has given another name.
	renamed map[string]bool
}

// service is a Service that there is, or that was deleted while something of it may be left.
type service struct {
	name  string
	ports []corev1.ServicePort
	shape
	// desired is the address that it asks for; empty: any.
	desired string
	// borrows is the name of a user's own floating IP that it asks for; empty: it has one of its own.
	borrows string
	// returns are the names of those that it is to give back; what takes their place must be in use before.
	returns []string
	// balanced: it is of type LoadBalancer. deleted: it is to go.
	balanced, deleted bool
	retain            bool
	// mayKeep: it has said at some time that its addresses are to be retained.
	mayKeep bool
	// retained: it went, and its address was to be kept.
	retained bool
	// unprotected: it is to have no firewall rule. ranges are its source ranges.
	unprotected bool
	ranges      []string
	// had are the addresses that it is served by, as they were last found settled.
	had []address
	// kept are addresses that were retained when it went, or are to be.
	kept []address
	// exchanging: it asked for other addresses, so it may have more than it asks for as long as one of them
	// cannot be used.
	exchanging bool
}

// address is an address that a Service has.
type address struct {
	kind         kindOfAddress
	id, ip, name string
	// text is what a user has written into the description, besides the marker.
	text string
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
	// cordoned: it is unschedulable. drains: the shim has seen it become so.
	cordoned, drains bool
	// run is the state of the instance.
	run string
	// fitSince is when it was first found able to carry addresses, and not cordoned; zero: it is not.
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
	firewall rack.Firewall
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
	`^oxide-ccm/v1 scope=(\S+) name=(\S+) uid=(\S+) family=(?:v4|v6) source=\S+( retained)?$`)

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

// of returns the addresses that are marked as a Service's, retained ones or the others, in a stable
// order: those come first that are attached where they can serve.
func (e *expectation) of(s snapshot, name string, retained bool) []rack.Carried {
	var all []rack.Carried
	for _, ip := range s.rack.Carried() {
		if !strings.Contains(ip.Description, " name="+namespace+"/"+name+" ") {
			continue
		}
		m, _, _, marked := markerOf(ip.Description)
		_, other := e.others[ip.ID]
		if marked && !other && m.scope == e.scope && m.retained == retained {
			all = append(all, ip)
		}
	}
	rank := func(ip rack.Carried) int {
		switch {
		case ip.AttachState != rack.Attached:
			return 2
		case e.isFit(ip.Instance):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b rack.Carried) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

// current returns the addresses that a Service is to be served by, as far as it has them, in the order
// of its families.
func (e *expectation) current(s snapshot, v *service) (all []rack.Carried) {
	if v.borrows != "" {
		return s.allNamed([]string{v.borrows})
	}
	own := e.of(s, v.name, false)
	for _, kind := range v.kinds() {
		left := e.owed(s, v, kind)
		for _, ip := range own {
			if left > 0 && kind.has(ip) && (v.desired == "" || ip.Addr == v.desired) {
				all, left = append(all, ip), left-1
			}
		}
	}
	return all
}

// owed returns how many addresses of a kind a Service is to have: all, but of a family that it only
// prefers none that it has not had, as long as no node has that family.
func (e *expectation) owed(s snapshot, v *service, kind kindOfAddress) int {
	had := slices.ContainsFunc(slices.Concat(v.had, v.kept), func(a address) bool {
		return a.kind == kind
	})
	if v.prefers && !had && !e.isCarried(s, kind.version) {
		return 0
	}
	return v.each
}

// isCarried reports whether a node, fit or not, has a private address of an IP version.
func (e *expectation) isCarried(s snapshot, version string) bool {
	for name, n := range e.nodes {
		if n.present && !n.removed && s.private(name, version) != "" {
			return true
		}
	}
	return false
}

// extra returns the addresses of a Service besides those that it is to be served by.
func (e *expectation) extra(s snapshot, v *service) []rack.Carried {
	current := e.current(s, v)
	return slices.DeleteFunc(e.of(s, v.name, false), func(ip rack.Carried) bool {
		return slices.Contains(current, ip)
	})
}

// private returns the private address of an instance; empty: it has none of that IP version.
func (s snapshot) private(instance, version string) string {
	i, _ := s.rack.Instance(instance)
	return i.PrivateIPs[version]
}

// named returns the floating IP of a name, false if there is none.
func (s snapshot) named(name string) (rack.Carried, bool) {
	all := s.rack.Carried()
	i := slices.IndexFunc(all, func(ip rack.Carried) bool { return ip.Name == name && !ip.Subnet })
	if i < 0 {
		return rack.Carried{}, false
	}
	return all[i], true
}

// allNamed returns the floating IPs of names.
func (s snapshot) allNamed(names []string) (all []rack.Carried) {
	for _, name := range names {
		if ip, ok := s.named(name); ok {
			all = append(all, ip)
		}
	}
	return all
}

// served returns all addresses that serve a Service, or may: its own and the one that it borrows.
func (e *expectation) served(s snapshot, v *service) []rack.Carried {
	return append(e.of(s, v.name, false), s.allNamed([]string{v.borrows})...)
}

// isFit reports whether an instance is that of a node that can carry addresses.
func (e *expectation) isFit(instance string) bool {
	n := e.nodes[instance]
	return n != nil && n.fit()
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

// at returns the live Services that have a floating IP of an IP version on an instance: their ports
// are taken there.
func (e *expectation) at(s snapshot, instance, version string) []*service {
	var all []*service
	for _, v := range e.live() {
		if slices.ContainsFunc(e.served(s, v), func(ip rack.Carried) bool {
			return ip.Instance == instance && kindOfAddress{version, false}.has(ip)
		}) {
			all = append(all, v)
		}
	}
	return all
}

// choices returns the nodes that could carry an address of a Service, where it is free: of several of
// a family each is on another node.
func (e *expectation) choices(s snapshot, v *service, ip rack.Carried) []string {
	if hasReserved(v.ports) && !ip.Subnet {
		return nil
	}
	version := ip.Version()
	var names []string
	for name, n := range e.nodes {
		isSibling := slices.ContainsFunc(e.current(s, v), func(other rack.Carried) bool {
			return other.ID != ip.ID && other.Version() == version && other.Instance == name
		})
		if !n.fit() || isSibling || s.private(name, version) == "" {
			continue
		}
		isTaken := !ip.Subnet && slices.ContainsFunc(
			slices.Concat(e.at(s, name, version), e.stuckFor(s, name, version)),
			func(other *service) bool { return other != v && overlap(other.ports, v.ports) })
		if !isTaken {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// stuckFor returns the Services whose floating IPs are stuck and are to go to a node: their statuses say
// so already, so nobody else may have their ports there.
func (e *expectation) stuckFor(s snapshot, to, version string) []*service {
	private := s.private(to, version)
	var all []*service
	for _, v := range e.live() {
		if private != "" && publishes(s.services[v.name], private) &&
			slices.ContainsFunc(e.current(s, v), func(ip rack.Carried) bool { return e.isStuck(s, ip) }) {
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

// isStuck reports whether an address is where Oxide lets nobody take it off.
func (e *expectation) isStuck(s snapshot, ip rack.Carried) bool {
	instance, there := s.rack.Instance(ip.Instance)
	n := e.nodes[ip.Instance]
	return ip.Instance != "" && there && (instance.RunState == failed || n != nil && n.lost)
}

// areStuck returns how many of the addresses are stuck.
func (e *expectation) areStuck(s snapshot, ips ...rack.Carried) (n int) {
	for _, ip := range ips {
		if e.isStuck(s, ip) {
			n++
		}
	}
	return n
}

// isAbroad reports whether a floating IP is on an instance that never was a node, where it is left. An
// external subnet with our marker is taken off there.
func isAbroad(ip rack.Carried) bool { return ip.Instance == outsider && !ip.Subnet }

// steady returns the addresses of a snapshot, without what those do again and again that are stuck.
func (e *expectation) steady(s snapshot) []rack.Carried {
	all := s.rack.Carried()
	for i := range all {
		if e.isStuck(s, all[i]) {
			all[i].AttachState = "stuck"
		}
	}
	return all
}
