// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Prober finds out by probes which Nodes answer. It calls ReachabilityChanged when it finds something
// else of one.
type Prober interface {
	// SetTargets says what is probed from now on, and nothing else.
	SetTargets(targets []reachability.Target)
	// Observe returns what was found of a Node.
	Observe(node string) reachability.Observation
}

// reachabilities are what the prober finds, in words of the API. What is not known is not sent.
var reachabilities = map[reachability.State]backendv1.Reachability{
	reachability.Reachable:   backendv1.Reachability_REACHABILITY_REACHABLE,
	reachability.Quiet:       backendv1.Reachability_REACHABILITY_SILENT,
	reachability.Unreachable: backendv1.Reachability_REACHABILITY_UNREACHABLE,
}

// ReachabilityChanged has the candidate sent again that a Node is.
func (c *Controller) ReachabilityChanged(node string) { c.probe(probed + node) }

// probe has something translated that probes have to do with, if there are any.
func (c *Controller) probe(key string) {
	if c.config.Prober != nil {
		c.changed.Add(key)
	}
}

// carry notes which instances carry addresses of a Service, or will; they are probed before others. A
// state from which that is not known yet changes nothing. The caller holds the lock.
func (c *Controller) carry(t *tracked, state *backendv1.LoadBalancerState) {
	if _, unknown := isPending(state); unknown {
		return
	}
	var now []string
	for _, address := range state.GetAddresses() {
		for _, at := range []*backendv1.Attachment{
			address.GetAttachment(), address.GetPlannedAttachment(),
		} {
			if id := at.GetInstanceId(); id != "" && !slices.Contains(now, id) {
				now = append(now, id)
			}
		}
	}
	if !slices.Equal(t.carriers, now) {
		t.carriers = now
		c.probe(probed)
	}
}

// syncTargets has the Nodes probed that carry addresses, or may soon.
func (c *Controller) syncTargets() {
	c.pushing.Lock()
	defer c.pushing.Unlock()
	c.setTargets()
}

// setTargets has the Nodes of all candidates probed, none while there is no load balancer. The caller
// holds pushing.
func (c *Controller) setTargets() {
	if c.config.Prober == nil {
		return
	}
	targets := c.probedNodes()
	if !slices.Equal(c.targets, targets) {
		c.targets = targets
		c.config.Prober.SetTargets(targets)
	}
}

func (c *Controller) probedNodes() (targets []reachability.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byKey) == 0 {
		return nil
	}
	carries := make(map[string]bool)
	for _, t := range c.byKey {
		for _, id := range t.carriers {
			carries[id] = true
		}
	}
	for id, candidate := range c.candidates {
		// One that Kubernetes has found silent already says nothing about the network, nor does a probe
		// about it.
		if candidate.item.GetReadiness() == backendv1.Readiness_READINESS_UNKNOWN {
			continue
		}
		name := candidate.item.GetDisplayName()
		node, err := c.nodes.Get(name)
		if err != nil {
			continue // a lister has no other error than that it is gone
		}
		if address := kubeletAddress(node); address.IsValid() {
			targets = append(targets, reachability.Target{
				Node: name, Address: address, Carries: carries[id],
				Self: name == c.config.NodeName,
			})
		}
	}
	slices.SortFunc(targets, func(a, b reachability.Target) int { return cmp.Compare(a.Node, b.Node) })
	return targets
}

// kubeletAddress returns where the kubelet of a Node listens: its port at the first of the Node's
// internal addresses that is one. Invalid: the Node does not say that.
func kubeletAddress(node *v1.Node) netip.AddrPort {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port < 1 || port > 65535 {
		return netip.AddrPort{}
	}
	for _, address := range node.Status.Addresses {
		addr, _ := netip.ParseAddr(address.Address) // of something else it is invalid
		if address.Type == v1.NodeInternalIP && reachability.IsHost(addr) && addr.Zone() == "" {
			return netip.AddrPortFrom(addr.Unmap(), uint16(port))
		}
	}
	return netip.AddrPort{}
}

// setReachability adds to a candidate what the prober finds of its Node, and returns since when; zero:
// nothing is known.
func (c *Controller) setReachability(candidate *backendv1.Candidate) (since time.Time) {
	if c.config.Prober == nil {
		return time.Time{}
	}
	found := c.config.Prober.Observe(candidate.GetDisplayName())
	candidate.Reachability = reachabilities[found.State]
	candidate.ReachabilityInDoubt = found.State == reachability.Unreachable && found.InDoubt
	if found.State == reachability.Unknown {
		return time.Time{}
	}
	return found.Since
}

// syncReachability sends the candidate again that a Node is, with what the prober finds of it now.
func (c *Controller) syncReachability(name string) {
	c.pushing.Lock()
	defer c.pushing.Unlock()
	node, err := c.nodes.Get(name)
	if err != nil {
		return
	}
	id, _ := provider.InstanceID(node)
	// Of two Nodes of one instance, one counts.
	if candidate, sent := c.candidates[id]; sent && candidate.item.GetDisplayName() == name {
		c.sendCandidate(candidate)
	}
}
