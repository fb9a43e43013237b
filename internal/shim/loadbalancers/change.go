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
	names, extended := c.lead(ctx, f, changes)
	if len(names) == 0 {
		return
	}
	if extended && !g.hasty {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.config.Pace.Lead):
		}
	}
	fresh, err := c.look(ctx)
	if err != nil {
		klog.ErrorS(err, "Could not look again before a change", "load_balancers", names)
		return
	}
	response, err := c.reconcile(ctx, fresh, false, names)
	if err != nil {
		if ctx.Err() == nil {
			klog.ErrorS(err, "Could not change load balancers", "load_balancers", names)
			c.putOff(g.instance, c.config.Pace.Retry)
		}
		return
	}
	logActions(response.GetActions())
	results := make(map[string]*backendv1.LoadBalancerResult)
	for _, result := range response.GetResults() {
		results[result.GetLoadBalancer().GetKey().GetName()] = result
	}
	for _, d := range changes {
		if result := results[loadBalancerName(d.service)]; result != nil {
			c.conclude(ctx, f, g, d, result)
		}
	}
}

// lead publishes where addresses will be, besides where they are. It returns the load balancers whose
// Services are ready for the change, and whether any was not before.
func (c *Controller) lead(
	ctx context.Context, f facts, changes []change,
) (names []string, extended bool) {
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
		names = append(names, loadBalancerName(d.service))
	}
	return names, extended
}

// conclude tells what came of a change, and publishes what is true now.
func (c *Controller) conclude(
	ctx context.Context, f facts, g group, d change, result *backendv1.LoadBalancerResult,
) {
	if problem := result.GetProblem(); problem != nil && !isPlacement(problem.GetReason()) {
		c.tellPending(d, problem, f)
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
	attached := time.Now()
	c.setFact(d.service, status)
	if d.moves() {
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
func (c *Controller) tellPending(d change, problem *backendv1.Problem, f facts) {
	if problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_BUSY {
		return // with another change of ours
	}
	message := provider.OneLine(problem.GetMessage())
	address, leaves := d.leaves()
	from := f.nodeNames()[leaves]
	if from != "" {
		message = fmt.Sprintf("The address %s cannot leave %s yet: %s", address, from, message)
	}
	c.warn(d.service, ReasonPending, problem.GetReason().String()+from, message)
}

// tellMoved tells where addresses have come to, and how long that took.
func (c *Controller) tellMoved(
	d change, lb *backendv1.LoadBalancer, f facts, attached time.Time,
) {
	names := f.nodeNames()
	before := make(map[string]string)
	for _, address := range d.lb.GetAddresses() {
		before[address.GetAddress()] = address.GetAttachment().GetInstanceId()
	}
	for _, address := range lb.GetAddresses() {
		from, to := before[address.GetAddress()], address.GetAttachment().GetInstanceId()
		if from == to || to == "" {
			continue
		}
		v := f.verdicts[names[from]]
		if from != "" && !v.since.IsZero() {
			failoverAttached.Observe(attached.Sub(v.since).Seconds())
			failoverPublished.Observe(time.Since(v.since).Seconds())
		}
		c.tellMove(d, address.GetAddress(), nameOf(names, from), nameOf(names, to), v.why)
	}
}

func nameOf(names map[string]string, instance string) string {
	if name, known := names[instance]; known || instance == "" {
		return name
	}
	return "the instance " + instance
}
