// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// writeTimeout is how long the write of one status may take.
const writeTimeout = 10 * time.Second

// carryOut carries out changes. The status leads: what will be true is published first, then the
// change is made, and then what is not true any more is taken away.
func (c *Controller) carryOut(ctx context.Context, f facts, g group, changes []change) {
	defer c.wake()
	defer c.end(changes)
	ready, extended := c.lead(ctx, f, changes)
	if len(ready) == 0 {
		return
	}
	wait := extended && !g.hasty
	if wait {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.config.Pace.Lead):
		}
	}
	only := make(confinement, len(ready))
	fresh, err := c.look(ctx)
	if err != nil {
		klog.ErrorS(err, "Could not look again before a change", "instance", g.instance)
		return
	}
	for _, d := range ready {
		if !wait || fresh.publishes(d) {
			only[loadBalancerName(d.service)] = d.places()
		}
	}
	if len(only) == 0 {
		return
	}
	response, err := c.reconcile(ctx, fresh, false, only)
	if err != nil {
		if ctx.Err() == nil {
			klog.ErrorS(err, "Could not change load balancers", "load_balancers", only.names())
			c.putOff(g.instance, c.config.Pace.Retry)
		}
		return
	}
	logActions(response.GetActions())
	actions := actionsByName(response)
	results := make(map[string]*backendv1.LoadBalancerResult)
	for _, result := range response.GetResults() {
		results[result.GetLoadBalancer().GetKey().GetName()] = result
	}
	for _, d := range ready {
		name := loadBalancerName(d.service)
		if _, tried := only[name]; tried && results[name] != nil {
			c.tellReplaced(d.service, actions[name])
			c.conclude(ctx, f, g, d.change, results[name], actions[name])
		}
	}
}

// ledChange is a change for which the status has led.
type ledChange struct {
	change
	status *v1.LoadBalancerStatus
}

// places returns where the addresses may be after the change: where they are, and where the status
// says that they will be, whatever the plan is by then. Nil: anywhere, for nothing was published yet.
func (d ledChange) places() *backendv1.InstanceSet {
	if creates(d.actions) && len(d.service.Status.LoadBalancer.Ingress) == 0 {
		return nil
	}
	set := &backendv1.InstanceSet{}
	for _, address := range d.lb.GetAddresses() {
		if address.GetAddress() == "" {
			continue // yet to be allocated: the next look will know what to publish
		}
		for _, at := range []*backendv1.Attachment{
			address.GetAttachment(), address.GetPlannedAttachment(),
		} {
			if at != nil && !slices.Contains(set.GetInstanceIds(), at.GetInstanceId()) {
				set.InstanceIds = append(set.InstanceIds, at.GetInstanceId())
			}
		}
	}
	return set
}

// publishes reports whether the status that has led is still there: somebody may have written another
// one.
func (f facts) publishes(d ledChange) bool {
	return slices.ContainsFunc(f.services, func(s *v1.Service) bool {
		return s.UID == d.service.UID && covers(&s.Status.LoadBalancer, d.status)
	})
}

// lead publishes where addresses will be, besides where they are. It returns the changes that may be
// made, and whether any status did not say so before.
func (c *Controller) lead(
	ctx context.Context, f facts, changes []change,
) (ready []ledChange, extended bool) {
	for _, d := range changes {
		now, nowErr := loadBalancerStatus(d.lb)
		will, willErr := loadBalancerStatus(planned(d.lb))
		if err := joinOneLine(nowErr, willErr); err != nil {
			klog.ErrorS(err, "Cannot tell the status", serviceKeys(d.service)...)
			continue
		}
		// What is about to be released is in use until then.
		leading := union(now, will, f.toRelease(d))
		has := &d.service.Status.LoadBalancer
		if !covers(has, leading) || !covers(leading, has) {
			c.setFact(d.service, leading)
			err := c.publish(ctx, d.service, leading)
			switch {
			case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
				continue // it is gone, or another one has its name
			case err != nil:
				klog.ErrorS(err, "Cannot publish where an address will be: it does not move yet",
					serviceKeys(d.service)...)
				c.putOff(d.instance(), c.config.Pace.Retry)
				continue
			}
			extended = extended || !covers(has, leading)
		}
		ready = append(ready, ledChange{d, leading})
	}
	return ready, extended
}

// conclude tells what came of a change, and publishes what is true now.
func (c *Controller) conclude(
	ctx context.Context, f facts, g group, d change, result *backendv1.LoadBalancerResult,
	done []*backendv1.Action,
) {
	if problem := result.GetProblem(); problem != nil && !isPlacement(problem.GetReason()) {
		c.tellPending(d, result, f)
		delay := problem.GetRetryDelay().AsDuration()
		if delay <= 0 {
			delay = c.config.Pace.Retry
		} else {
			delay = scaled(delay, c.config.TimeScale)
		}
		c.putOff(g.instance, delay)
		if !isThere(d, result.GetLoadBalancer()) {
			return
		}
	} else {
		c.config.Reporter.Settle(d.service.UID, ReasonPending)
	}
	status, err := loadBalancerStatus(result.GetLoadBalancer())
	if err != nil {
		klog.ErrorS(err, "Cannot tell the status", serviceKeys(d.service)...)
		return
	}
	if result.GetProblem() != nil {
		status = union(status, f.toRelease(d))
	}
	attached := attachedAt(done)
	c.setFact(d.service, status)
	if d.moves() && len(arrivals(d.lb, result.GetLoadBalancer())) > 0 {
		c.mu.Lock()
		c.progress(loadBalancerName(d.service)).movedAt = attached
		c.mu.Unlock()
	}
	if err := c.publish(ctx, d.service, status); err != nil {
		if !apierrors.IsNotFound(err) && ctx.Err() == nil {
			klog.ErrorS(err, "Cannot publish the status", serviceKeys(d.service)...)
		}
		return
	}
	c.tellMoved(d, result.GetLoadBalancer(), f, attached)
}

// toRelease returns what a status says of addresses that are given back, and of the Nodes that they are
// on: it is in use until then, and what is published proves that a user's own address is to be detached.
// One that is marked needs no such proof, and is left out where another Service publishes its Node for
// the same port: an address may be unable to leave for long, and other ports be asked for meanwhile.
func (f facts) toRelease(d change) *v1.LoadBalancerStatus {
	named := make(map[string]bool)
	for _, action := range d.actions {
		if action.GetType() != backendv1.ActionType_ACTION_TYPE_DETACH || d.keeps(action) {
			continue
		}
		i := slices.IndexFunc(f.nodes, func(node *v1.Node) bool {
			id, ok := provider.InstanceID(node)
			return ok && id == action.GetInstanceId()
		})
		if i < 0 {
			return &d.service.Status.LoadBalancer // what is said of that instance is not known any more
		}
		if d.ends(action.GetResourceId()) && f.isDisputed(d.service, f.nodes[i]) {
			continue
		}
		named[action.GetAddress()] = true
		for _, address := range f.nodes[i].Status.Addresses {
			named[address.Address] = true
		}
	}
	status := &v1.LoadBalancerStatus{}
	for _, ingress := range d.service.Status.LoadBalancer.Ingress {
		if named[ingress.IP] {
			status.Ingress = append(status.Ingress, ingress)
		}
	}
	return status
}

// isDisputed reports whether another Service that has a port in common with one publishes a Node.
func (f facts) isDisputed(service *v1.Service, node *v1.Node) bool {
	return slices.ContainsFunc(f.services, func(other *v1.Service) bool {
		return other.UID != service.UID && sharePort(service, other) &&
			slices.ContainsFunc(other.Status.LoadBalancer.Ingress, func(i v1.LoadBalancerIngress) bool {
				return slices.ContainsFunc(node.Status.Addresses, func(a v1.NodeAddress) bool {
					return a.Address == i.IP
				})
			})
	})
}

// isThere reports whether all addresses are where they were to go although the change has failed: then
// it is another address that cannot be given back yet, and that may take as long as a sled is silent.
// Where the load balancer was before must not be published so long: others may be there now.
func isThere(d change, lb *backendv1.LoadBalancer) bool {
	before := make(map[string]*backendv1.LoadBalancerAddress)
	for _, address := range d.lb.GetAddresses() {
		before[address.GetResourceId()] = address
	}
	for _, address := range lb.GetAddresses() {
		at := address.GetAttachment().GetInstanceId()
		was := before[address.GetResourceId()]
		stays := at == was.GetAttachment().GetInstanceId()
		if at == "" || stays && at != was.GetPlannedAttachment().GetInstanceId() {
			return false
		}
	}
	return len(lb.GetAddresses()) > 0
}

// isPlacement reports whether a problem says that an address is reserved and has no place.
func isPlacement(reason backendv1.ErrorReason) bool {
	return reason == backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT ||
		reason == backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED
}

// publish writes the status of a Service, if it is still the same Service.
func (c *Controller) publish(
	ctx context.Context, service *v1.Service, status *v1.LoadBalancerStatus,
) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	ingress := status.Ingress
	if ingress == nil {
		ingress = []v1.LoadBalancerIngress{}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": service.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	})
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name,
		types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		klog.V(2).InfoS("Published addresses", serviceKeys(service, "ingress", ingress)...)
	}
	return err
}

// tellPending tells that a change waits for Oxide.
func (c *Controller) tellPending(d change, result *backendv1.LoadBalancerResult, f facts) {
	problem := result.GetProblem()
	if problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_BUSY {
		return // with another change of ours
	}
	message, what := provider.OneLine(problem.GetMessage()), unfinished(d, result.GetLoadBalancer(), f)
	if what != "" {
		message = what + ": " + message
	}
	c.warn(d.service, ReasonPending, problem.GetReason().String()+what, message)
}

// unfinished says what of a change has not happened, for people; empty: that is not clear.
func unfinished(d change, lb *backendv1.LoadBalancer, f facts) string {
	names := f.nodeNames()
	for _, address := range lb.GetAddresses() {
		i := slices.IndexFunc(d.lb.GetAddresses(), func(a *backendv1.LoadBalancerAddress) bool {
			return a.GetResourceId() == address.GetResourceId()
		})
		if i < 0 {
			continue
		}
		at := address.GetAttachment().GetInstanceId()
		to := d.lb.GetAddresses()[i].GetPlannedAttachment().GetInstanceId()
		switch {
		case at == to:
		case at != "":
			return fmt.Sprintf("The address %s cannot leave %s yet", address.GetAddress(),
				nameOf(names, at))
		default:
			return fmt.Sprintf("The address %s cannot be attached to %s yet", address.GetAddress(),
				nameOf(names, to))
		}
	}
	if former, from := d.leaves(); from != "" && isThere(d, lb) {
		return fmt.Sprintf("The address %s, which is not wanted any more, cannot leave %s yet", former,
			nameOf(names, from))
	}
	return ""
}

// attachedAt returns when the last address was attached: the call that did that may have gone on to move
// others for long before it was answered.
func attachedAt(done []*backendv1.Action) time.Time {
	for _, action := range slices.Backward(done) {
		if action.GetType() == backendv1.ActionType_ACTION_TYPE_ATTACH && action.GetEndTime() != nil {
			return action.GetEndTime().AsTime()
		}
	}
	return time.Now()
}

// arrival is an address that is on another instance than before.
type arrival struct{ address, from, to string }

// arrivals returns which addresses are on another instance than before.
func arrivals(before, after *backendv1.LoadBalancer) []arrival {
	at := make(map[string]string)
	for _, address := range before.GetAddresses() {
		at[address.GetAddress()] = address.GetAttachment().GetInstanceId()
	}
	var all []arrival
	for _, address := range after.GetAddresses() {
		from, to := at[address.GetAddress()], address.GetAttachment().GetInstanceId()
		if from != to && to != "" {
			all = append(all, arrival{address.GetAddress(), from, to})
		}
	}
	return all
}

// tellMoved tells where addresses have come to, and how long that took.
func (c *Controller) tellMoved(
	d change, lb *backendv1.LoadBalancer, f facts, attached time.Time,
) {
	names := f.nodeNames()
	for _, m := range arrivals(d.lb, lb) {
		v := f.verdicts[names[m.from]]
		if m.from != "" && !v.since.IsZero() {
			failoverAttached.Observe(attached.Sub(v.since).Seconds())
			failoverPublished.Observe(time.Since(v.since).Seconds())
		}
		c.tellMove(d, m.address, nameOf(names, m.from), nameOf(names, m.to), v.why)
	}
}

func nameOf(names map[string]string, instance string) string {
	if name, known := names[instance]; known || instance == "" {
		return name
	}
	return "the instance " + instance
}
