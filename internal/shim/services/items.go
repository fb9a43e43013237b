// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// everything is the key of whatever is not one Service: Nodes, ports, and Services that go by
// Nodes.
const everything = ""

// probed is the key of what is probed, and begins that of what is found of one Node. A Service's key
// begins with its namespace.
const probed = "/"

// tracked is what is remembered of one Service.
type tracked struct {
	uid types.UID
	// generation is that of its item, changedAt when that became another one.
	generation int64
	changedAt  time.Time
	// waits: where its endpoints are is not known yet.
	waits bool
	// ensured: the framework has called EnsureLoadBalancer for it. accepted: the last such call was
	// no failure, so no event of the framework says what is wrong with it.
	ensured, accepted bool
	// ending: its item says that it ends. releasing: the framework waits for its release. released: it has
	// nothing any more, and the framework is to ask.
	ending, releasing, released bool
	// published and ports are what it published and served last, and whom its firewall was to let in.
	published []string
	ports     []*backendv1.Port
	firewall  *desiredFirewall
	// progressing, conflict and closed are what its last state says, for metrics. failoverSince is when
	// the cause of its last failover was observed; zero: that is published.
	progressing, conflict, closed bool
	failoverSince                 time.Time
	// carriers are the instances that carry its addresses, or will.
	carriers  []string
	status    statusRecord
	condition conditionRecord
	change    tracedChange
}

// track begins to remember a Service. Of another one that had its name nothing is kept.
func (c *Controller) track(service *v1.Service, do func(*tracked)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(service)
	if t := c.byKey[key]; t == nil || t.uid != service.UID {
		c.forget(key)
		c.byKey[key] = &tracked{uid: service.UID}
		if len(c.byKey) == 1 {
			c.probe(probed)
		}
	}
	do(c.byKey[key])
}

// update calls a function with what is remembered of a Service, if anything is.
func (c *Controller) update(key, uid string, do func(*tracked)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.byKey[key]; t != nil && string(t.uid) == uid {
		do(t)
	}
}

// remembered returns what is remembered of a Service; the zero value: nothing.
func (c *Controller) remembered(service *v1.Service) (copied tracked) {
	c.update(keyOf(service), string(service.UID), func(t *tracked) { copied = *t })
	return copied
}

// forget forgets a Service; the caller holds the lock.
func (c *Controller) forget(key string) {
	if t := c.byKey[key]; t != nil {
		c.session.RemoveLoadBalancer(c.lbKey(key), string(t.uid))
		t.count(nil)
		c.carry(t, nil)
		delete(c.byKey, key)
		if len(c.byKey) == 0 {
			c.probe(probed)
		}
	}
}

// serviceChanged has translated what a Service has to do with.
func (c *Controller) serviceChanged(before, now *v1.Service) {
	if c.portsChanged(before, now) {
		c.changed.Add(everything)
	}
	if now == nil {
		c.config.Reporter.Forget(before.UID)
		c.changed.Add(keyOf(before))
		return
	}
	if before != nil && (!maps.Equal(before.Annotations, now.Annotations) ||
		!equality.Semantic.DeepEqual(before.Spec, now.Spec)) {
		// The framework will call EnsureLoadBalancer for it.
		c.update(keyOf(now), string(now.UID), func(t *tracked) { t.accepted = false })
	}
	c.changed.Add(keyOf(now))
	c.statuses.Add(keyOf(now))
	c.conditions.AddAfter(keyOf(now), conditionSettles)
}

// portsChanged reports whether a Service may use or serve other ports than before. The statuses of
// our own do not matter.
func (s selection) portsChanged(before, now *v1.Service) bool {
	return before == nil || now == nil || !equality.Semantic.DeepEqual(before.Spec, now.Spec) ||
		s.isDesired(before) != s.isDesired(now) || s.isEnding(before) != s.isEnding(now) ||
		!s.isDesired(now) && !s.isEnding(now) && !equality.Semantic.DeepEqual(before.Status, now.Status)
}

// nodeChanged keeps what is seen of a Node, and has everything translated that goes by it.
func (c *Controller) nodeChanged(before, now *v1.Node) {
	if c.observe(before, now) {
		c.changed.Add(everything)
	}
}

func (c *Controller) translate(key string) {
	switch node, isProbed := strings.CutPrefix(key, probed); {
	case key == probed:
		c.syncTargets()
		return
	case isProbed:
		c.syncReachability(node)
		return
	case key != everything:
		c.syncService(key)
		return
	}
	c.syncAll()
	for _, service := range c.allServices() {
		selector := annotations.Value(service, annotations.NodeSelector)
		if c.isDesired(service) && (servicehelpers.RequestsOnlyLocalTraffic(service) || selector != "") {
			c.syncService(keyOf(service))
		}
	}
}

// syncAll sends all reserved ports, and all candidates.
func (c *Controller) syncAll() {
	c.pushing.Lock()
	defer c.pushing.Unlock()
	use, pods := c.portUseOf(c.allServices()), c.podsByNode()
	reserved := slices.Concat(c.config.ReservedPorts, use.reserved)
	c.session.SetReservedPorts(reserved[:min(len(reserved), maxReserved)])
	byID := make(map[string][]*v1.Node)
	for _, node := range c.allNodes() {
		if id, ok := provider.InstanceID(node); ok {
			byID[id] = append(byID[id], node)
		}
	}
	for id, nodes := range byID {
		candidate, seen := c.candidate(id, nodes)
		candidate.UsedPorts = use.of(nodes, pods)
		c.sendCandidate(sentCandidate{candidate, seen.readinessSince})
	}
	for id := range c.candidates {
		if byID[id] == nil {
			c.session.RemoveCandidate(id)
			delete(c.candidates, id)
		}
	}
	c.setTargets()
}

// sentCandidate is a candidate as it was sent last.
type sentCandidate struct {
	item           *backendv1.Candidate
	readinessSince time.Time
}

// sendCandidate sends a candidate, with what the prober finds of it. The caller holds pushing.
func (c *Controller) sendCandidate(candidate sentCandidate) {
	reachabilitySince := c.setReachability(candidate.item)
	c.session.SetCandidate(candidate.item, candidate.readinessSince, reachabilitySince)
	c.candidates[candidate.item.GetInstanceId()] = candidate
}

// syncService sends a Service as it is in the cache, or has it forgotten, and returns what was sent
// of it; nil: nothing.
func (c *Controller) syncService(key string) *item {
	c.pushing.Lock()
	defer c.pushing.Unlock()
	service := c.cached(key)
	desired := service != nil && c.isDesired(service) && (c.config.ReadOnly ||
		c.hasFinalizer(service) || c.remembered(service).ensured)
	c.needSlices(key, desired && servicehelpers.RequestsOnlyLocalTraffic(service))
	switch {
	case desired:
		c.reportSettings(service)
		return c.push(c.desired(service), service)
	case service != nil && c.isEnding(service):
		return c.push(c.ending(service), service)
	case service != nil && c.isLeft(service):
		c.reportLeft(service)
	case service != nil && service.DeletionTimestamp.IsZero() && annotations.IsUnknownClass(service):
		c.reportUnknownClass(service)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.byKey[key]; t != nil && !t.releasing {
		c.forget(key)
	}
	return nil
}

// desiredFirewall is whom a firewall is to let in.
type desiredFirewall struct {
	open    bool
	sources []string
}

// push sends an item of a Service. One that is ending is sent with what it published and served
// last: the API server empties the status of a Service that is no load balancer any more, and yet
// it proves that a user's own address may be detached. It takes no source ranges of such a Service
// either, and yet nobody else is let in while it ends. The caller holds pushing.
func (c *Controller) push(it *item, service *v1.Service) *item {
	c.track(service, func(t *tracked) {
		t.ending = it.GetEnding() != backendv1.Ending_ENDING_UNSPECIFIED
		it.PublishedAddresses = t.status.outlasting(service, it.GetPublishedAddresses())
		if t.ending {
			if len(it.GetPublishedAddresses()) == 0 {
				it.PublishedAddresses = t.published
			}
			if len(it.GetPorts()) == 0 {
				it.Ports = t.ports
			}
			if len(it.GetPorts()) == 0 {
				it.Ports = []*backendv1.Port{unknownPort}
			}
			if t.firewall != nil {
				it.OpenFirewall, it.SourceRanges = t.firewall.open, t.firewall.sources
			}
		}
		t.firewall = &desiredFirewall{it.GetOpenFirewall(), it.GetSourceRanges()}
		t.published, t.ports, t.waits = it.GetPublishedAddresses(), it.GetPorts(), it.waits
		if len(t.ports) == 0 {
			return // no such item may be sent, and no such Service is admitted
		}
		t.change.describe(it.DesiredLoadBalancer)
		it.Generation = c.session.SetLoadBalancer(it.DesiredLoadBalancer)
		if t.generation != it.GetGeneration() {
			t.generation, t.changedAt = it.GetGeneration(), time.Now()
		}
	})
	return it
}

// unknownPort stands for the ports of a Service that became one without ports while nobody observed
// it: an item has at least one, and one that is ending gets no place for it.
var unknownPort = &backendv1.Port{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 65535}

func (c *Controller) allServices() []*v1.Service {
	services, _ := c.services.List(labels.Everything()) // a lister of a cache has no error
	return services
}

func (c *Controller) allNodes() []*v1.Node {
	nodes, _ := c.nodes.List(labels.Everything())
	return nodes
}
