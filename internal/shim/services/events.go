// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// conditionReasons are the reasons of the events by which conditions are recorded: part of what
// users may rely on. What makes a sync fail is recorded by the framework's SyncLoadBalancerFailed.
var conditionReasons = map[backendv1.ConditionType]string{
	backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE:        "NoCandidate",
	backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT:       "PortConflict",
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:     "FirewallClosed",
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_WIDENED:    "FirewallWidened",
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_INCOMPLETE: "FirewallIncomplete",
	backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED:        "PortRefused",
	backendv1.ConditionType_CONDITION_TYPE_PENDING:             "AddressPending",
	backendv1.ConditionType_CONDITION_TYPE_ATTACH_TIMEOUT:      "AddressPending",
	backendv1.ConditionType_CONDITION_TYPE_DEGRADED:            "LoadBalancerDegraded",
	backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED:           "AddressNotOwned",
	backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT:  "ForeignAttachment",
	backendv1.ConditionType_CONDITION_TYPE_FAILOVER_SUSPENDED:  "FailoverHeld",
	backendv1.ConditionType_CONDITION_TYPE_ADDRESS_RENAMED:     "AddressRenamed",
	backendv1.ConditionType_CONDITION_TYPE_LEFT_ATTACHED:       "AddressLeftAttached",
	backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING:      "IPFamilyMissing",
}

// reportConditions records each condition of a load balancer once while it holds as it is. That an
// address is somebody else's is left out where it makes the framework's call fail: then that is
// recorded already.
func (c *Controller) reportConditions(service *v1.Service, state *backendv1.LoadBalancerState) {
	if _, unknown := isPending(state); unknown {
		return // what held may hold still
	}
	holds := make(map[string][]string)
	for _, condition := range state.GetConditions() {
		reason, known := conditionReasons[condition.GetType()]
		message := c.messageOf(service, condition)
		cause := message
		switch condition.GetType() {
		case backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE:
			cause = "" // which nodes there are changes all the time
		case backendv1.ConditionType_CONDITION_TYPE_DEGRADED:
			cause = "" // it names the other nodes, too
		case backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING:
			cause = "" // what a pool has left changes again and again
		case backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:
			cause = condition.GetMessage() // whether rules are kept is known a moment later
		case backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED:
			known = c.config.ReadOnly || c.remembered(service).accepted
		}
		if !known {
			continue
		}
		holds[reason] = append(holds[reason], cause)
		if c.warn(service, reason, cause, message) && reason == "FailoverHeld" {
			holdsTotal.Inc()
		}
	}
	if p := state.GetProblem(); c.remembered(service).accepted && isLate(p) {
		text := problemError(service, p).Error()
		holds[syncFailed] = append(holds[syncFailed], text)
		c.warn(service, syncFailed, text, "Error syncing load balancer: "+text)
	}
	for _, reason := range append(slices.Collect(maps.Values(conditionReasons)), syncFailed) {
		c.config.Reporter.Clear(service.UID, reason, holds[reason]...)
	}
}

// notServed is the reason of the event about a Service that is not served any more.
const notServed = "NotServed"

// unknownClass is the reason of the event about a Service whose class looks like one of this provider's.
const unknownClass = "UnknownClass"

// syncFailed is the reason of the framework's event about a failed call. What goes wrong later,
// when the framework does not ask, is recorded under the same one.
const syncFailed = "SyncLoadBalancerFailed"

// isLate reports whether a problem is to be recorded that the framework was not told of: no
// condition says it, and Oxide is not just away.
func isLate(p *backendv1.Problem) bool {
	return p != nil && !isPlacement(p.GetReason()) && codes.Code(p.GetCode()) != codes.Unavailable &&
		p.GetReason() != backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED
}

// actionTaken records a change that was made in Oxide, each time, or logs one that would be made.
func (c *Controller) actionTaken(action *backendv1.Action) {
	if action.GetPlanned() {
		c.logOnce(fmt.Sprint(action.GetKey().GetName(), action.GetType(), action.GetResourceName(),
			action.GetInstanceId()), "Would change in Oxide", actionKeys(action)...)
		return
	}
	klog.InfoS("Changed in Oxide", actionKeys(action)...)
	service := c.cached(action.GetKey().GetName())
	if service == nil {
		return
	}
	c.measure(service, action)
	record := func(reason, message string) {
		c.config.Reporter.Clear(service.UID, reason)
		c.record(service, v1.EventTypeNormal, reason, "", client.OneLine(message))
	}
	if action.GetReplaces() {
		record("AddressReplaced", action.GetSummary())
	}
	if action.GetType() == backendv1.ActionType_ACTION_TYPE_ATTACH {
		record("AddressMoved", action.GetSummary())
	}
}

// sourceNames are the names of the kinds of addresses, for people.
var sourceNames = map[backendv1.AddressSource]string{
	backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP:     "floating IP",
	backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET: "external subnet",
}

// logOrphans logs each orphan once.
func (c *Controller) logOrphans(orphans []*backendv1.LoadBalancer) {
	orphanedAddresses.Set(float64(len(orphans)))
	for _, orphan := range orphans {
		for _, address := range orphan.GetAddresses() {
			c.logOnce(address.GetResourceId(), "No Service wants an address that is marked as this "+
				"cluster's; list and delete such by oxide.backend.v1.AddressService",
				"load_balancer", orphan.GetKey().GetName(), "address", address.GetAddress(),
				"resource", address.GetResourceName(), "retained", address.GetRetained())
		}
	}
}

// logOrphanedRules logs each orphaned firewall rule once.
func (c *Controller) logOrphanedRules(rules []*backendv1.FirewallRule) {
	orphanedRules.Set(float64(len(rules)))
	for _, rule := range rules {
		c.logOnce(fmt.Sprint("firewall rule ", rule.GetVpcId(), " ", rule.GetName()), "A firewall "+
			"rule that is marked as this cluster's is kept for no Service any more; \"oxide-backend firewall "+
			"remove-rules --orphaned\" removes such", "load_balancer", rule.GetKey().GetName(),
			"rule", rule.GetName(), "vpc", rule.GetVpcName())
	}
}

// logOnce logs a line about something that was not logged before.
func (c *Controller) logOnce(what, line string, keys ...any) {
	if _, again := c.logged.LoadOrStore(what, true); !again {
		klog.InfoS(line, keys...)
	}
}

// reportSettings records what a Service says that will not be as its user may think.
func (c *Controller) reportSettings(service *v1.Service) {
	misspelt := annotations.Misspelt(service.Annotations)
	names := slices.Sorted(maps.Keys(misspelt))
	for _, name := range names {
		c.warn(service, "UnknownAnnotation", name, fmt.Sprintf(
			"The annotation %s is not known: did you mean %s?", name, misspelt[name]))
	}
	c.config.Reporter.Clear(service.UID, "UnknownAnnotation", names...)
	c.config.Reporter.Clear(service.UID, notServed)
	c.config.Reporter.Clear(service.UID, unknownClass)
}

// reportUnknownClass records that a Service is served by nobody, as far as can be seen from here.
func (c *Controller) reportUnknownClass(service *v1.Service) {
	class, served := *service.Spec.LoadBalancerClass, annotations.ClassFloatingIP+" or "+
		annotations.ClassExternalSubnet
	if !c.classedOnly {
		served += ", or without one"
	}
	c.warn(service, unknownClass, class, fmt.Sprintf("The loadBalancerClass %.100s is not one that is "+
		"served here: delete the Service, and create it with the class %s", class, served))
}

// reportLeft records that a Service which was served is not any more.
func (c *Controller) reportLeft(service *v1.Service) {
	c.warn(service, notServed, "", "Services without a loadBalancerClass are left to others "+
		"(--classed-load-balancers-only): what this one has in Oxide stays as it is, and is released when "+
		"the Service ends; to have it served, delete it and create it with the class "+
		annotations.ClassFloatingIP)
}

func (c *Controller) warn(service *v1.Service, reason, cause, message string) bool {
	return c.record(service, v1.EventTypeWarning, reason, cause, message)
}

// record records an event on a Service, unless the same was recorded before; then it returns false.
func (c *Controller) record(service *v1.Service, kind, reason, cause, message string) bool {
	recorded := c.config.Reporter.Record(events.Service(service), events.Event{
		Key: reason, DedupKey: cause, Type: kind, Reason: reason, Message: message,
	})
	if recorded {
		klog.InfoS(message, serviceKeys(service, "reason", reason)...)
	}
	return recorded
}

func actionKeys(action *backendv1.Action) []any {
	key := action.GetKey().GetName()
	namespace, name, _ := strings.Cut(key, "/")
	return []any{
		"namespace", namespace, "service", name, "load_balancer", key,
		"action", action.GetType(), "source", sourceNames[action.GetSource()], "address", action.GetAddress(),
		"resource", action.GetResourceName(), "instance", action.GetInstanceId(),
		"why", client.OneLine(action.GetWhy()),
	}
}

// serviceKeys returns log keys that name a Service, followed by others.
func serviceKeys(service *v1.Service, more ...any) []any {
	return append([]any{
		"namespace", service.Namespace, "service", service.Name, "load_balancer", keyOf(service),
	}, more...)
}

// seconds are the buckets of times from the detection of a failure.
var seconds = []float64{.25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300}

var (
	failoverAttached = histogram("oxide_ccm_failover_attached_seconds", "Time from when it was observed "+
		"that a Node cannot carry an address any more to when the address was attached to another one.")
	failoverPublished = histogram("oxide_ccm_failover_published_seconds", "Time from when it was observed "+
		"that a Node cannot carry an address any more to when the status of the Service was right again.")
	holdsTotal = counter("oxide_ccm_failover_holds_total", "How often an address was kept on a Node that "+
		"was found dead, because more than half of the Nodes had become so within a minute, or because most "+
		"of the Nodes that are probed did not answer.")
	drift = counter("oxide_ccm_load_balancer_drift_total", "How many changes were made in Oxide although "+
		"nothing had changed in Kubernetes, and no Node had failed.")
	changesDue = gauge("oxide_ccm_load_balancer_changes_due", "How many load balancers are being changed.")

	orphanedAddresses = gauge("oxide_ccm_orphaned_addresses", "How many load balancers have addresses "+
		"that are marked as this cluster's and that no Service wants; retained ones are among them.")
	orphanedRules = gauge("oxide_ccm_orphaned_firewall_rules", "How many rules of VPC firewalls are "+
		"marked as this cluster's, and no Service wants them.")
	conflicts = gauge("oxide_ccm_port_conflicts", "How many load balancers have a reserved address that "+
		"is attached nowhere, because their port is taken on every Node that could carry it.")
	firewallClosed = gauge("oxide_ccm_firewall_closed", "How many load balancers have ports that the VPC "+
		"firewall closes.")
)

func histogram(name, help string) *metrics.Histogram {
	return metrics.NewHistogram(&metrics.HistogramOpts{
		Name: name, Help: help, Buckets: seconds, StabilityLevel: metrics.ALPHA,
	})
}

func counter(name, help string) *metrics.Counter {
	return metrics.NewCounter(&metrics.CounterOpts{Name: name, Help: help, StabilityLevel: metrics.ALPHA})
}

func gauge(name, help string) *metrics.Gauge {
	return metrics.NewGauge(&metrics.GaugeOpts{Name: name, Help: help, StabilityLevel: metrics.ALPHA})
}

// Metrics returns the metrics of this package.
func Metrics() []metrics.Registerable {
	return []metrics.Registerable{
		failoverAttached, failoverPublished, holdsTotal, drift, changesDue, orphanedAddresses, orphanedRules,
		conflicts, firewallClosed,
	}
}

// registerMetrics adds the metrics, once, to the registry that the framework serves at /metrics.
var registerMetrics = sync.OnceFunc(func() { legacyregistry.MustRegister(Metrics()...) })

// count counts a load balancer by what is said of it; nil: it is gone. The caller holds the lock.
func (t *tracked) count(state *backendv1.LoadBalancerState) {
	update := func(gauge *metrics.Gauge, counted *bool, now bool) {
		if now && !*counted {
			gauge.Inc()
		} else if !now && *counted {
			gauge.Dec()
		}
		*counted = now
	}
	update(changesDue, &t.progressing, state.GetPhase() == backendv1.Phase_PHASE_PROGRESSING)
	has := func(kind backendv1.ConditionType) bool {
		return slices.ContainsFunc(state.GetConditions(), func(condition *backendv1.Condition) bool {
			return condition.GetType() == kind
		})
	}
	update(conflicts, &t.conflict, has(backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT))
	update(firewallClosed, &t.closed, has(backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED))
}

// driftAfter is how long after the last change of an item a change in Oxide is not caused by it any
// more.
const driftAfter = 10 * time.Second

// measure counts a change of Oxide that nothing in Kubernetes has caused, and begins to measure a
// failover.
func (c *Controller) measure(service *v1.Service, action *backendv1.Action) {
	cause := action.GetCauseTime()
	c.update(keyOf(service), string(service.UID), func(t *tracked) {
		switch {
		case cause == nil && time.Since(t.changedAt) > driftAfter:
			drift.Inc()
		case cause != nil && action.GetType() == backendv1.ActionType_ACTION_TYPE_ATTACH:
			// Both times are of the backend's clock, which need not agree with this one.
			took := action.GetEndTime().AsTime().Sub(cause.AsTime())
			failoverAttached.Observe(took.Seconds())
			t.failoverSince = time.Now().Add(-took)
			c.statuses.Add(keyOf(service))
		}
	})
}

// failoverPublished measures a failover that has ended, now that the status is right.
func (t *tracked) failoverPublished(state *backendv1.LoadBalancerState) {
	if !t.failoverSince.IsZero() && state.GetPhase() == backendv1.Phase_PHASE_READY {
		failoverPublished.Observe(time.Since(t.failoverSince).Seconds())
		t.failoverSince = time.Time{}
	}
}
